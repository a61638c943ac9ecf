"""What a batch teaches beside its words: facts, summaries, habits, rated answers, and what a model is to read later.

`Learner.learn` runs before a batch is stored and gives rows that are stored with it, in the same transaction as the
position. It asks no model: a turn that a model should read gets a row in `readings`, and `Learner.ask` hands those out,
through `generations`, like any other model call. What the model says comes back as a fact of the log
(`memory.finished`) and is one more thing that a batch teaches. So a model's word is taken exactly once, whoever dies in
between, and memory built again from the log needs no model.

Nothing here is waited for by a turn. A reading is asked for while no turn runs in the partitions of this worker, or
once it has waited for PATIENCE_MS; READINGS_AT_ONCE are out at a time; one that is not answered within LEASE_MS is
asked for again with the next epoch, READING_TRIES times in all.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from memory.drafts import Draft, new_words
from memory.rows import Change, ExampleRow, MessageRow, Reading, ReadingDone, TurnRecord
from memory.store import Store
from streams import ids
from streams.bus import Bus
from streams.events.generating import GenerationRequested, MemoryFinished
from streams.events.rating import RATINGS, FeedbackGiven
from streams.topology import GENERATIONS
from workers.remembering import extraction, summarising
from workers.remembering.extraction import FACTS_STEP
from workers.remembering.facts import drafts_of_facts, facts_by_rule, user_text
from workers.remembering.fold import Batch
from workers.remembering.observing import observed_in
from workers.remembering.summarising import SUMMARY_STEP

log = logging.getLogger("headstart.memory")
READINGS_AT_ONCE: Final = 2
READING_TRIES: Final = 3
LEASE_MS: Final = 120_000
PATIENCE_MS: Final = 60_000
QUESTION_CHARACTERS: Final = 2_000


class Learnt(msgspec.Struct):
    """drafts: rows that still need their vectors, each with the offset of its cause; changes: all others."""

    drafts: list[tuple[int, Draft]]
    changes: list[Change]


class Learner:
    """model: the model in the table of models that reads turns, "" for none: rules then read alone. writer: this
    worker's name. wall_ms: milliseconds since the epoch."""

    def __init__(self, bus: Bus, store: Store, model: str, writer: str, wall_ms: Callable[[], float]) -> None:
        self._bus, self._store, self._wall_ms = bus, store, wall_ms
        self._model, self._writer = model, writer

    # -- before a batch is stored ----------------------------------------------------------------------------------

    async def learn(self, batch: Batch) -> Learnt:
        """What to store with the batch. Raises what the store raises."""
        learnt = Learnt([], [])
        for record in batch.ended:
            self._from_turn(record, batch.suggestions.get(record.turn, ()), learnt)
        await self._summarise(batch, learnt)
        ended = {record.turn: record for record in batch.ended}
        for offset, rated in batch.rated:
            await self._from_rating(rated, offset, ended.get(rated.turn), learnt)
        for offset, turn, step, finished in batch.read:
            await self._from_model(turn, step, finished, offset, ended.get(turn), learnt)
        return learnt

    def _from_turn(self, record: TurnRecord, suggestions: Sequence[tuple[str, bool]], learnt: Learnt) -> None:
        text = user_text(record)
        drafts = drafts_of_facts(
            facts_by_rule(record), turn=record.turn, conversation=record.conversation, tenant=record.tenant,
            user=record.user, said_at_ms=record.accepted_at_ms, offset=record.end_offset, quote=text,
        )  # fmt: skip
        learnt.drafts += [(record.end_offset, draft) for draft in drafts]
        learnt.changes += [Change(record.end_offset, seen) for seen in observed_in(record, suggestions)]
        if self._model and extraction.is_worth_asking(text):
            learnt.changes.append(Change(record.end_offset, _reading(record, record.turn, FACTS_STEP, text)))

    async def _summarise(self, batch: Batch, learnt: Learnt) -> None:
        """Folds the oldest turns of conversations that have grown long. Counted are turns that are stored; those of
        this batch count with the next one."""
        newest = {record.conversation: record for record in batch.ended}
        if not newest:
            return
        for conversation, waiting in (await self._store.unsummarised(list(newest))).items():
            due = summarising.turns_to_fold(waiting.turns)
            if not due:
                continue
            messages = await self._store.oldest_turns(conversation, due)
            if not messages:
                continue
            record, last = newest[conversation], await self._store.turn(messages[-1].turn)
            if last is None:
                continue
            text = summarising.summary_by_rule(waiting.summary, messages)
            draft = summarising.draft_of_summary(
                text, turn=last.turn, conversation=conversation, tenant=record.tenant, user=record.user,
                at_ms=last.ended_at_ms, offset=record.end_offset, by=summarising.RULE,
            )  # fmt: skip
            learnt.drafts.append((record.end_offset, draft))
            if self._model:
                learnt.changes.append(
                    Change(
                        record.end_offset,
                        _reading(record, last.turn, SUMMARY_STEP, summarising.material(waiting.summary, messages)),
                    )
                )

    async def _from_rating(
        self, rated: FeedbackGiven, offset: int, record: TurnRecord | None, learnt: Learnt
    ) -> None:  # fmt: skip
        """A rated answer, if the turn is known and completed, is the rater's own and has an answer."""
        if record is not None:
            owner, agent, messages = (record.conversation, record.tenant, record.user), record.agent, record.messages
            status = record.status
        else:
            row = await self._store.turn(rated.turn)
            if row is None:
                return
            owner, agent, status = (row.conversation, row.tenant, row.user), row.agent, row.status
            messages = await self._store.messages(rated.turn)
        question, answer = _exchange(messages)
        if owner != (rated.conversation, rated.tenant, rated.user) or rated.rating not in RATINGS:
            return
        if question and answer and status == "completed":
            example = ExampleRow(
                turn=rated.turn, conversation=rated.conversation, tenant=rated.tenant, user=rated.user, agent=agent,
                question=question, answer=answer, rating=rated.rating, shared=rated.share, at_ms=rated.at_ms, vector=[],
            )  # fmt: skip
            learnt.drafts.append((offset, Draft(example, question[:QUESTION_CHARACTERS])))

    async def _from_model(
        self, turn: str, step: str, finished: MemoryFinished, offset: int, record: TurnRecord | None, learnt: Learnt
    ) -> None:  # fmt: skip
        """A model's word about a turn: believed where the turn bears it out, and done with either way. record: the
        turn, where it ended in the same batch and is not stored yet."""
        if finished.reason == "error" and finished.retriable:
            return  # asked for again when its lease is over
        learnt.changes.append(Change(offset, ReadingDone(turn=turn, step=step)))
        row = record or await self._store.turn(turn)
        if row is None or finished.reason not in ("stop", "length"):
            return
        if step == FACTS_STEP:
            text = _said_by_user(record.messages if record else await self._store.messages(turn))
            facts = extraction.believed(finished.text, text)
            drafts = drafts_of_facts(
                extraction.more_than_rules(facts, text), turn=turn, conversation=row.conversation, tenant=row.tenant,
                user=row.user, said_at_ms=row.accepted_at_ms, offset=offset, quote=text,
            )  # fmt: skip
            learnt.drafts += [(offset, draft) for draft in drafts]
        elif text := summarising.believed(finished.text):
            draft = summarising.draft_of_summary(
                text, turn=turn, conversation=row.conversation, tenant=row.tenant, user=row.user,
                at_ms=row.ended_at_ms, offset=offset, by=summarising.MODEL,
            )  # fmt: skip
            learnt.drafts.append((offset, draft))

    # -- between batches -------------------------------------------------------------------------------------------

    async def ask(self, partitions: Sequence[int], quiet: bool) -> int:
        """Hands out readings of these partitions, as many as may be out; gives how many. quiet: no turn runs there.

        Raises what the bus and the store raise; a reading that was not handed out is met again by the next call.
        """
        if not self._model or not partitions:
            return 0
        now_ms = int(self._wall_ms())
        asked = 0
        waiting = await self._store.readings(partitions, 8 * READINGS_AT_ONCE)
        out = sum(1 for reading in waiting if reading.asked_at_ms + LEASE_MS > now_ms)
        for reading in waiting:
            if out + asked >= READINGS_AT_ONCE:
                break
            if reading.asked_at_ms + LEASE_MS > now_ms:
                continue
            if reading.epoch >= READING_TRIES:
                log.warning("nobody read the turn, it is left to the rules", extra={"turn": reading.turn})
                await self._store.unread(reading.turn, reading.step)
            elif quiet or now_ms - reading.at_ms >= PATIENCE_MS:
                await self._hand_out(reading, now_ms)
                asked += 1
        return asked

    async def _hand_out(self, reading: Reading, now_ms: int) -> None:
        ask = extraction.question if reading.step == FACTS_STEP else summarising.question
        messages, sampling = ask(reading.text)
        epoch = reading.epoch + 1
        request = GenerationRequested(
            conversation=reading.conversation, turn=reading.turn, step=reading.step, epoch=epoch, model=self._model,
            messages=messages, sampling=sampling, at_ms=now_ms, deadline_at_ms=now_ms + LEASE_MS, turn_offset=-1,
            tenant=reading.tenant, user=reading.user,
        )  # fmt: skip
        await self._store.asked(reading.turn, reading.step, epoch, now_ms)
        _ = await self._bus.publish(
            GENERATIONS.name, ids.partition_of(reading.conversation), reading.conversation, request,
            f"{reading.turn}/{reading.step}/{epoch}", self._writer,
        )  # fmt: skip


def _reading(record: TurnRecord, turn: str, step: str, text: str) -> Reading:
    return Reading(
        turn=turn, step=step, conversation=record.conversation, tenant=record.tenant, user=record.user,
        at_ms=record.ended_at_ms, text=text,
    )  # fmt: skip


def _exchange(messages: Sequence[MessageRow]) -> tuple[str, str]:
    """What a turn's user asked and what they got to read, "" where there is none."""
    asked = [row.text for row in messages if row.kind == "message" and row.role == "user"]
    said = [row.text for row in messages if row.kind == "message" and row.role == "assistant" and row.name == "answer"]
    return (asked[-1].strip() if asked else ""), (said[-1].strip() if said else "")


def _said_by_user(messages: Sequence[MessageRow]) -> str:
    return "\n".join(text for _, text in new_words(tuple(messages)))
