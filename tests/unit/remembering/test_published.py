"""A service's fact is remembered when it was taken in, unless an agent's policy has it ignored."""

from __future__ import annotations

from typing import Any

import pytest

from streams import ids
from streams.codec import Record, encode
from streams.events import Event
from streams.events.conversation import FactPublished, FactTaken
from streams.fence import NOTE
from streams.topology import EVENTS
from workers.remembering.fold import Batch, PartitionFold
from workers.remembering.published import UNTAKEN_MS

T0 = 1_763_700_000_000
CONVERSATION = ids.conversation_id(1, T0, bytes(10))
TURN = ids.turn_id(CONVERSATION, T0, bytes(10))


class Log:
    """Records of a partition, as they come."""

    def __init__(self) -> None:
        self.records: list[Record] = []

    def say(self, event: Event, event_id: str, after_ms: int = 0) -> None:
        headers, value = encode(event, event_id, "turns/1")
        self.records.append(
            Record(EVENTS.name, 1, len(self.records), T0 + after_ms, CONVERSATION.encode(), tuple(headers), value)
        )

    def publish(self, number: int, after_ms: int = 0) -> str:
        fact = FactPublished(
            conversation=CONVERSATION,
            tenant="acme",
            user="ada",
            kind="k",
            text=f"Fact {number}.",
            service="s",
            at_ms=T0,
        )
        self.say(fact, name := f"{CONVERSATION}/{NOTE}/0/{number}", after_ms)
        return name

    def take(self, fact: str, outcome: str, event_id: str = "") -> None:
        fields: dict[str, Any] = {"conversation": CONVERSATION, "kind": "k", "service": "s", "agent": "", "at_ms": T0}
        taken = FactTaken(fact=fact, policy="remember", moment="after_end", outcome=outcome, **fields)
        self.say(taken, event_id or f"{CONVERSATION}/{NOTE}/0/{1_000 + len(self.records)}")


def folded(log: Log, position: int = -1, resume: int = 0) -> Batch:
    fold = PartitionFold(1, position, resume)
    for record in log.records[resume:]:
        fold.feed(record)
    batch = fold.take()
    assert batch is not None
    return batch


def remembered(batch: Batch) -> list[tuple[int, str]]:
    return [(offset, draft.row.text) for offset, draft in batch.drafts if hasattr(draft.row, "text")]


@pytest.mark.parametrize(
    ("outcome", "kept"), [("ignored", False), ("remembered", True), ("told", True), ("steered", True), ("opened", True)]
)
def test_what_is_ignored_is_not_remembered(outcome: str, kept: bool) -> None:
    log = Log()
    log.take(log.publish(1), outcome)
    assert remembered(folded(log)) == ([(1, "Fact 1.")] if kept else [])


def test_what_is_not_taken_yet_waits_and_is_read_again() -> None:
    log = Log()
    first = log.publish(1)
    log.take(log.publish(2), "remembered")
    before = folded(log)
    assert (remembered(before), before.position, before.resume) == ([(2, "Fact 2.")], 2, 0)
    log.take(first, "remembered")
    after = folded(log, before.position, before.resume)
    assert (remembered(after), after.position, after.resume) == ([(3, "Fact 1.")], 3, 4)


def test_what_a_turn_took_in_that_began_before_is_taken() -> None:
    log = Log()
    log.take(log.publish(1), "ignored", f"{TURN}/turn/1/7")
    batch = folded(log)
    assert (remembered(batch), batch.resume) == ([], 2)


def test_what_nobody_takes_in_is_remembered_at_last() -> None:
    log = Log()
    log.publish(1)
    log.publish(2, UNTAKEN_MS)
    assert folded(log).resume == 0
    log.publish(3, UNTAKEN_MS + 1)
    batch = folded(log, 1, 0)
    assert (remembered(batch), batch.resume) == ([(2, "Fact 1.")], 1)
    assert batch.sources[2] == log.records[0]
