"""The store in one process's memory: for tests, and to say in a few lines what the SQL means.

Nothing outlives the process. Full text is the share of the question's words that a memory holds, without stemming.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from memory.editing import is_habit
from memory.memory_remembering import RememberingMemory
from memory.records import history_messages
from memory.rows import (
    SUMMARY,
    CallOutcome,
    Change,
    ConversationRow,
    Edit,
    ExampleRow,
    History,
    KeyRow,
    MemoryRow,
    MessageRow,
    Observed,
    Reading,
    ReadingDone,
    Row,
    TurnRecord,
    TurnRow,
    Unsummarised,
    title_of,
)
from streams import ids
from streams.events.conversation import ConversationDeleted, ConversationRenamed
from streams.events.recalling import HistoryMessage

replace = msgspec.structs.replace
_NO_SUMMARY: Final = MemoryRow(id="", layer="episode", tenant="", user="", text="", vector=[], at_ms=0)


class MemoryStore(RememberingMemory):
    """memory.store.Store without a database."""

    def __init__(self, dimensions: int = 384) -> None:
        super().__init__(dimensions)
        self._epoch = 0
        self._submits: dict[tuple[str, str, str], str] = {}
        self._conversations: dict[str, ConversationRow] = {}
        self._turns: dict[str, tuple[TurnRecord, int, int]] = {}  # record, partition, topic epoch
        self._positions: dict[tuple[int, int], tuple[int, int]] = {}  # (epoch, partition) -> position, resume
        self._forgotten: dict[tuple[str, str], int] = {}

    async def open(self) -> None:
        pass

    async def close(self) -> None:
        pass

    async def migrate(self) -> list[str]:
        return []

    def follow(self, topic_epoch: int) -> None:
        self._epoch = topic_epoch

    # conversations and turns

    async def claim_submit(self, tenant: str, user: str, event_id: str, conversation: str, now_ms: int) -> str:
        return self._submits.setdefault((tenant, user, event_id), conversation)

    async def conversation(self, conversation: str) -> ConversationRow | None:
        return self._conversations.get(conversation)

    async def conversations(self, tenant: str, user: str, limit: int, before: str = "") -> list[ConversationRow]:
        rows = [row for row in self._conversations.values() if (row.tenant, row.user) == (tenant, user)]
        rows = sorted((row for row in rows if not row.deleted), key=_last_used, reverse=True)
        if before:
            mark = self._conversations.get(before)
            rows = [row for row in rows if mark is not None and _last_used(row) < _last_used(mark)]
        return rows[:limit]

    async def turn(self, turn: str) -> TurnRow | None:
        if turn not in self._turns:
            return None
        record, partition, epoch = self._turns[turn]
        here = epoch == self._epoch
        return TurnRow(
            turn=turn, conversation=record.conversation, tenant=record.tenant, user=record.user, partition=partition,
            offset=record.begin_offset if here else -1, end_offset=record.end_offset if here else -1,
            status=record.status, agent=record.agent, accepted_at_ms=record.accepted_at_ms,
            ended_at_ms=record.ended_at_ms,
        )  # fmt: skip

    async def history(self, conversation: str, limit_turns: int) -> History:
        row = self._conversations.get(conversation)
        if row is None or row.deleted:
            return History(messages=[], position=-1, resume=0, turns=[])
        newest: list[TurnRecord] = []
        upto = ""
        while row is not None and not row.deleted and len(newest) < limit_turns:
            turns = [record for record, _, _ in self._turns.values() if record.conversation == row.conversation]
            turns = sorted((turn for turn in turns if turn.status != "running"), key=_began, reverse=True)
            if upto:
                mark = self._turns.get(upto)
                turns = [turn for turn in turns if mark is not None and _began(turn) <= _began(mark[0])]
            newest.extend(turns)
            upto = row.parent_turn
            row = self._conversations.get(row.parent) if row.parent else None
        oldest_first = newest[:limit_turns][::-1]
        parsed: list[tuple[str, tuple[MessageRow, ...]]] = [(turn.turn, turn.messages) for turn in oldest_first]
        partition = ids.partition_of(conversation)
        position, resume = self._positions.get((self._epoch, partition), (-1, 0))
        return History(
            messages=history_messages(parsed), position=position, resume=resume, turns=[turn for turn, _ in parsed],
            summary=self._summary(conversation).text,
        )  # fmt: skip

    def _summary(self, conversation: str) -> MemoryRow:
        """The newest summary of a conversation; an empty one when there is none."""
        rows = [
            row for row in self._memories.values()
            if row.conversation == conversation and row.attribute == SUMMARY and not row.superseded_by
        ]  # fmt: skip
        return max(rows, key=lambda row: row.valid_from_ms, default=_NO_SUMMARY)

    async def unsummarised(self, conversations: Sequence[str]) -> dict[str, Unsummarised]:
        found: dict[str, Unsummarised] = {}
        for conversation in conversations:
            summary = self._summary(conversation)
            ended = sorted(
                (turn for turn, _, _ in self._turns.values()
                 if turn.conversation == conversation and turn.status != "running"), key=_began,
            )  # fmt: skip
            mark = next(
                (place for place, turn in enumerate(ended, 1) if turn.turn == summary.value.partition("/")[0]), 0
            )
            if ended:
                found[conversation] = Unsummarised(turns=len(ended) - mark, summary=summary.text)
        return found

    async def oldest_turns(self, conversation: str, limit: int) -> list[HistoryMessage]:
        mark = self._summary(conversation).value.partition("/")[0]
        ended = sorted(
            (turn for turn, _, _ in self._turns.values()
             if turn.conversation == conversation and turn.status != "running"), key=_began,
        )  # fmt: skip
        first = next((place for place, turn in enumerate(ended, 1) if turn.turn == mark), 0)
        return history_messages([(turn.turn, turn.messages) for turn in ended[first : first + limit]])

    async def messages(self, turn: str) -> tuple[MessageRow, ...]:
        return self._turns[turn][0].messages if turn in self._turns else ()

    # projection

    async def position(self, partition: int) -> int:
        return self._positions.get((self._epoch, partition), (-1, 0))[0]

    async def resume_offset(self, partition: int) -> int | None:
        stored = self._positions.get((self._epoch, partition))
        return None if stored is None else stored[1]

    async def project(
        self, partition: int, position: int, changes: Sequence[Change], resume: int | None = None
    ) -> bool:
        stored = await self.position(partition)
        if position <= stored:
            return False
        for change in changes:
            if change.offset > stored:
                self._apply(change.row, partition)
        self._positions[self._epoch, partition] = (position, position + 1 if resume is None else resume)
        return True

    def _apply(self, row: Row, partition: int) -> None:
        if isinstance(row, TurnRecord):
            self._apply_turn(row, partition)
        elif isinstance(row, ConversationRow):
            if row.conversation not in self._conversations and not self._is_forgotten(row, row.created_at_ms):
                self._conversations[row.conversation] = replace(row, updated_at_ms=row.created_at_ms)
        elif isinstance(row, MemoryRow):
            self._check(row.vector)
            conversation = self._conversations.get(row.conversation)
            gone = conversation is not None and conversation.deleted
            unwanted = gone or self._is_unwanted(row) or self._is_forgotten(row, row.at_ms)
            if row.id not in self._memories and not unwanted:
                self._memories[row.id] = row
                if row.attribute:
                    self._revise(row)
        elif isinstance(row, Edit):
            if not self._is_forgotten(row, row.at_ms):
                (self._edit_habit if is_habit(row.item) else self._edit_memory)(row)
        elif isinstance(row, CallOutcome):
            self._apply_outcome(row)
        elif isinstance(row, ExampleRow | Reading):
            if row.turn in self._turns and not self._is_forgotten(row, row.at_ms):
                self._learn(row)
        elif isinstance(row, Observed | ReadingDone):
            if isinstance(row, ReadingDone) or not self._is_forgotten(row, row.at_ms):
                self._learn(row)
        elif isinstance(row, ConversationRenamed):
            if (known := self._conversations.get(row.conversation)) and not known.deleted:
                self._conversations[row.conversation] = replace(known, title=row.title)
        elif isinstance(row, ConversationDeleted):
            self._delete(row)
        else:
            self._forgotten[row.tenant, row.user] = max(row.at_ms, self._forgotten.get((row.tenant, row.user), 0))
            self._erase(row.tenant, row.user, row.at_ms)

    def _apply_turn(self, record: TurnRecord, partition: int) -> None:
        if self._is_forgotten(record, record.accepted_at_ms):
            self._claims = {key: claim for key, claim in self._claims.items() if key[0] != record.turn}
            return
        known = self._conversations.get(record.conversation)
        if known is None:
            known = ConversationRow(
                conversation=record.conversation, tenant=record.tenant, user=record.user,
                created_at_ms=record.accepted_at_ms,
            )  # fmt: skip
        before = self._turns.get(record.turn)
        if known.deleted or (before is not None and before[0].status != "running"):
            return
        self._turns[record.turn] = (record, partition, self._epoch)
        used = max(known.updated_at_ms, record.accepted_at_ms, record.ended_at_ms)
        self._conversations[record.conversation] = replace(
            known, updated_at_ms=used, title=known.title or title_of(record)
        )

    def _apply_outcome(self, row: CallOutcome) -> None:
        if row.turn not in self._turns:
            return
        record, partition, epoch = self._turns[row.turn]
        messages = [_settled(message, row) for message in record.messages]
        self._turns[row.turn] = (replace(record, messages=tuple(messages)), partition, epoch)

    def _delete(self, row: ConversationDeleted) -> None:
        known = self._conversations.get(row.conversation)
        if known is None:
            return
        self._conversations[row.conversation] = replace(known, title="", deleted=True, updated_at_ms=row.at_ms)
        turns = {key for key, turn in self._turns.items() if turn[0].conversation == row.conversation}
        self._turns = {key: turn for key, turn in self._turns.items() if key not in turns}
        self._claims = {key: claim for key, claim in self._claims.items() if key[0] not in turns}
        self._memories = {key: kept for key, kept in self._memories.items() if kept.conversation != row.conversation}
        self._unlearn("", "", lambda conversation: conversation == row.conversation, row.at_ms)

    def _erase(self, tenant: str, user: str, at_ms: int) -> None:
        def stays(row: ConversationRow | MemoryRow | TurnRecord | KeyRow, said_at_ms: int) -> bool:
            return (row.tenant, row.user) != (tenant, user) or said_at_ms > at_ms

        gone = {key for key, row in self._conversations.items() if not stays(row, row.created_at_ms)}
        turns = {
            key for key, (turn, _, _) in self._turns.items()
            if turn.conversation in gone or not stays(turn, turn.accepted_at_ms)
        }  # fmt: skip
        self._conversations = {key: row for key, row in self._conversations.items() if key not in gone}
        self._turns = {key: turn for key, turn in self._turns.items() if key not in turns}
        self._memories = {
            key: row for key, row in self._memories.items() if stays(row, row.at_ms) and row.conversation not in gone
        }
        self._keys = {key: row for key, row in self._keys.items() if stays(row, row.created_at_ms)}
        self._submits = {key: value for key, value in self._submits.items() if key[:2] != (tenant, user)}
        self._claims = {key: claim for key, claim in self._claims.items() if key[0] not in turns}
        self._unlearn(tenant, user, gone.__contains__, at_ms)

    def _is_forgotten(
        self, row: ConversationRow | MemoryRow | TurnRecord | ExampleRow | Reading | Observed | Edit, at_ms: int
    ) -> bool:
        return at_ms <= self._forgotten.get((row.tenant, row.user), -1)


def _settled(message: MessageRow, outcome: CallOutcome) -> MessageRow:
    if message.call_id != outcome.call_id or message.status != "unanswered":
        return message
    if message.kind == "function_call_output":
        return replace(message, status=outcome.status, text=outcome.text)
    return replace(message, status=outcome.status)


def _last_used(row: ConversationRow) -> tuple[int, str]:
    return row.updated_at_ms, row.conversation


def _began(turn: TurnRecord) -> tuple[int, int]:
    return turn.accepted_at_ms, turn.begin_offset
