"""Resuming: from any cursor of any log, the rest is byte for byte what the uninterrupted stream had."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.frame import Frame
from gateway.resume import ConversationFold, check_cursor, is_after, parse_after
from streams import ids
from streams.codec import Record
from streams.errors import InvalidInput
from streams.events import generating
from streams.events.conversation import ConversationDeleted, ConversationRenamed
from streams.events.intake import TurnSubmit
from streams.events.turn import TurnAccepted, TurnAdopted, TurnCancelled
from streams.offsets import Cursor
from tests.support.turn_script import (
    AT_MS,
    FactLog,
    Line,
    Say,
    accepted,
    answer,
    completed,
    conversation_of,
    journey,
    skill_call,
    submit_of,
)

CONVERSATION = conversation_of()
EPOCH = 9
SCRIPTS: list[list[Line]] = [
    journey(),
    [*answer(["one ", "two ", "three"]), completed()],
    [*skill_call(), *answer(["Half"])[:-1], Say("turn", TurnCancelled(at_ms=AT_MS))],
    [Say("answer", generating.AnswerStarted(model="m", engine="e", at_ms=AT_MS)), completed()],
]


def fold_all(records: list[Record], begin: int = 0) -> list[Frame]:
    fold = ConversationFold(CONVERSATION, EPOCH)
    made = [fold.receive(record) for record in records if record.offset >= begin]
    return [frame for step in made if step for frame in step.frames]


def interleaved(seed: int) -> list[Record]:
    """A log of several turns, some accepted while an older one runs, with repeats, zombies, notes and unknown facts."""
    rng = random.Random(seed)
    log = FactLog(CONVERSATION, rng.randrange(100), gap=rng.randrange(3))
    waiting: list[tuple[TurnSubmit, list[Line]]] = []
    number = 0
    running: tuple[TurnSubmit, list[Line]] | None = None
    for _ in range(rng.randrange(30, 120)):
        if number < 6 and rng.random() < 0.15:
            submit = submit_of(CONVERSATION, number)
            number += 1
            log.say(submit.turn, Say("turn", accepted(submit)))
            waiting.append((submit, list(rng.choice(SCRIPTS))))
        if running is None and waiting:
            running = waiting.pop(0)
        if running is not None:
            submit, lines = running
            line = lines.pop(0)
            assert isinstance(line, Say)
            record = log.say(submit.turn, line)
            if rng.random() < 0.1:
                log.put(line.event, record.event_id)  # the broker has it twice
            if rng.random() < 0.05:
                log.put(line.event, record.event_id.replace("/1/", "/0/"), "turns/zombie")
            if not lines:
                running = None
        if rng.random() < 0.05:
            note = ConversationRenamed(conversation=CONVERSATION, title="Oslo", at_ms=AT_MS)
            log.put(note, f"{CONVERSATION}/note/1/{len(log.records)}")
    return log.records


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 2**32), choice=st.randoms(use_true_random=False))
def test_resume_from_any_cursor_gives_the_same_bytes(seed: int, choice: random.Random) -> None:
    records = interleaved(seed)
    whole = fold_all(records)
    for _ in range(min(5, len(whole))):
        at = choice.randrange(len(whole))
        cursor = Cursor.decode(whole[at].body.rpartition(b'"cursor":"')[2][:-2].decode())
        rest = [f for f in fold_all(records, cursor.turn_offset) if is_after(f, (cursor.offset, cursor.frame))]
        assert [frame.body for frame in rest] == [frame.body for frame in whole[at + 1 :]]


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_a_turn_folded_from_its_span_has_the_same_bytes(seed: int) -> None:
    records = interleaved(seed)
    fold = ConversationFold(CONVERSATION, EPOCH)
    whole: list[Frame] = []
    spans = {}
    for record in records:
        step = fold.receive(record)
        whole += step.frames if step else []
        for turn in fold.open_turns():
            spans[turn] = fold.span(turn)
    for turn, span in spans.items():
        assert span is not None
        again = [frame for frame in fold_all(records, span.origin) if frame.turn == turn]
        assert [frame.body for frame in again] == [frame.body for frame in whole if frame.turn == turn]


def test_a_fold_that_begins_inside_a_turn_says_nothing_of_it() -> None:
    log = FactLog(CONVERSATION)
    log.turn(submit_of(CONVERSATION), journey())
    assert fold_all(log.records, begin=log.records[4].offset) == []


def test_unknown_and_broken_records_are_skipped_and_counted() -> None:
    log = FactLog(CONVERSATION)
    submit = submit_of(CONVERSATION)
    log.say(submit.turn, Say("turn", accepted(submit)))
    future = log.put(TurnAdopted(at_ms=1), f"{submit.turn}/turn/1/1")
    headers = tuple((name, b"headstart.turn.adopted.v9" if name == "ce_type" else v) for name, v in future.headers)
    log.records[-1] = Record(
        future.topic, future.partition, future.offset, future.timestamp_ms, future.key, headers, future.value
    )
    broken = log.put(TurnAdopted(at_ms=1), f"{submit.turn}/turn/1/2")
    log.records[-1] = Record(
        broken.topic, broken.partition, broken.offset, broken.timestamp_ms, broken.key, broken.headers, b"{}"
    )
    log.put(TurnAdopted(at_ms=1), "not an identity")
    log.put(completed().event, f"{submit.turn}/turn/1/3")
    fold = ConversationFold(CONVERSATION, EPOCH)
    steps = [fold.receive(record) for record in log.records]
    assert [step is not None for step in steps] == [True, False, False, False, True]
    assert fold.unknown == 3
    assert fold.ended(submit.turn)


def test_what_the_fold_knows_of_the_conversation() -> None:
    log = FactLog(CONVERSATION, 7)
    first, second = submit_of(CONVERSATION, 1), submit_of(CONVERSATION, 2)
    log.say(first.turn, Say("turn", accepted(first)))
    log.say(second.turn, Say("turn", accepted(second)))
    fold = ConversationFold(CONVERSATION, EPOCH)
    for record in log.records:
        fold.receive(record)
    assert fold.owner == ("acme", "ada")
    assert fold.latest_turn == second.turn
    assert fold.open_turns() == [first.turn, second.turn]
    assert fold.origin == 7
    assert (fold.span(second.turn).origin, fold.span(second.turn).begin) == (7, 8)  # type: ignore[union-attr]
    for turn in (first.turn, second.turn):
        fold.receive(log.say(turn, completed()))
    assert fold.open_turns() == []
    assert fold.origin == fold.next_offset == 11


def test_a_repeat_of_an_ended_turn_is_not_a_new_one() -> None:
    log = FactLog(CONVERSATION)
    submit = submit_of(CONVERSATION)
    log.turn(submit, [completed()])
    again = log.put(accepted(submit), f"{submit.turn}/turn/1/0")
    fold = ConversationFold(CONVERSATION, EPOCH)
    frames = [frame for r in log.records for step in [fold.receive(r)] if step for frame in step.frames]
    assert len([frame for frame in frames if frame.type == "response.created"]) == 1
    assert fold.next_offset == again.offset + 1


def test_notes_are_frames_of_the_conversation() -> None:
    log = FactLog(CONVERSATION)
    log.put(ConversationRenamed(conversation=CONVERSATION, title="Oslo", at_ms=1), f"{CONVERSATION}/note/1/a1")
    log.records.clear()
    log.put(ConversationRenamed(conversation=CONVERSATION, title="Oslo", at_ms=1), f"{CONVERSATION}/note/1/0")
    log.put(ConversationDeleted(conversation=CONVERSATION, at_ms=2), f"{CONVERSATION}/note/1/1")
    kinds = [frame.type for frame in fold_all(log.records)]
    assert kinds == ["headstart.conversation.renamed", "headstart.conversation.deleted"]


def test_after_is_a_cursor_or_a_word() -> None:
    cursor = Cursor(5, 1, CONVERSATION, 3, EPOCH)
    assert parse_after("start") == "start"
    assert parse_after("live") == "live"
    assert parse_after(cursor.encode()) == cursor
    for wrong in (None, 5, "", "soon", cursor.encode()[:-1]):
        with pytest.raises(InvalidInput) as caught:
            parse_after(wrong)
        assert caught.value.code == "invalid_cursor"


def test_a_cursor_of_another_log_or_conversation() -> None:
    cursor = Cursor(5, 1, CONVERSATION, 3, EPOCH)
    assert check_cursor(cursor, CONVERSATION, EPOCH) == "ok"
    assert check_cursor(cursor, CONVERSATION, EPOCH + 1) == "other_log"
    with pytest.raises(InvalidInput):
        check_cursor(cursor, conversation_of(1), EPOCH)


def test_accepted_twice_by_two_writers_is_one_turn() -> None:
    log = FactLog(CONVERSATION)
    submit = submit_of(CONVERSATION)
    log.put(accepted(submit), f"{submit.turn}/turn/1/0", "turns/a")
    log.put(accepted(submit), f"{submit.turn}/turn/1/0", "turns/b")
    assert isinstance(accepted(submit), TurnAccepted)
    assert [frame.type for frame in fold_all(log.records)] == ["response.created", "response.in_progress"]
    assert ids.is_id(ids.TURN, submit.turn)
