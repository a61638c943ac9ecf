"""A recording read as conversations and turns: which facts count, who wrote them, what each was decided from. Pure."""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property

from streams.codec import Identity, Record, decode, identity
from streams.errors import HeadstartError
from streams.events import Event
from streams.events.turn import TurnAccepted, TurnAdopted, TurnEnd
from streams.fence import NOTE, Fence
from streams.taken import Taken, taken
from workers.planning.addressing import HEADER

TURN = "turn"


@dataclass(frozen=True, slots=True)
class Fact:
    """One record of `events` that counts."""

    record: Record
    identity: Identity
    event: Event

    @property
    def source(self) -> str:
        return self.record.source

    @property
    def taken(self) -> tuple[Taken, ...]:
        return taken(self.record)


@dataclass
class TurnLog:
    """One turn. facts: those that count, in the log's order, from its `turn.accepted` on."""

    accepted: TurnAccepted
    facts: list[Fact] = field(default_factory=list)

    @property
    def turn(self) -> str:
        return self.accepted.turn

    @property
    def end(self) -> TurnEnd | None:
        return next((fact.event for fact in self.facts if isinstance(fact.event, TurnEnd)), None)

    @property
    def end_offset(self) -> int:
        """Where its terminal fact stands, -1 when it has none."""
        return next((fact.record.offset for fact in self.facts if isinstance(fact.event, TurnEnd)), -1)

    @property
    def offset(self) -> int:
        """Where it begins."""
        return self.facts[0].record.offset

    @cached_property
    def of_stage(self) -> dict[str, list[Fact]]:
        """Its facts by stage."""
        stages: dict[str, list[Fact]] = {}
        for fact in self.facts:
            stages.setdefault(fact.identity.stage, []).append(fact)
        return stages


@dataclass
class Segment:
    """What one owner wrote of a conversation before another took over. first: offset of its first fact; what stands
    before it the owner found there. end: offset of the next owner's first fact. last: nobody took over after it."""

    writer: str
    setup: str
    first: int
    end: int = 1 << 62
    facts: list[Fact] = field(default_factory=list)
    last: bool = True


@dataclass
class ConversationLog:
    """One conversation. records: all of its records on `events`; commands: on `turns`. Both in the log's order."""

    conversation: str
    partition: int
    records: list[Record] = field(default_factory=list)
    commands: list[Record] = field(default_factory=list)
    turns: dict[str, TurnLog] = field(default_factory=dict)
    notes: list[Fact] = field(default_factory=list)
    dropped: int = 0
    unread: int = 0

    @property
    def segments(self) -> list[Segment]:
        """In the log's order. An owner's facts are those of stage "turn" and of its conversation."""
        found: list[Segment] = []
        decided = [fact for log in self.turns.values() for fact in log.facts if fact.identity.stage == TURN]
        for fact in sorted([*decided, *self.notes], key=lambda fact: fact.record.offset):
            if not found or found[-1].writer != fact.source:
                if found:
                    found[-1].last, found[-1].end = False, fact.record.offset
                found.append(Segment(fact.source, "", fact.record.offset))
            if isinstance(fact.event, TurnAccepted | TurnAdopted) and not found[-1].setup:
                found[-1].setup = fact.event.setup
            found[-1].facts.append(fact)
        return found

    def before(self, offset: int) -> list[Record]:
        """The records that stand before an offset."""
        return self.records[: bisect.bisect_left(self.records, offset, key=lambda record: record.offset)]


@dataclass
class Replayed:
    """What the owners wrote of one conversation when it ran again. facts: of stage "turn" and of calls, by turn.

    course: the same with the facts of others that were fed, in the order in which they came.
    problems: by turn, inputs of the recording that the owner had no use for, or that are not there, in words.
    """

    facts: dict[str, list[Record]] = field(default_factory=dict)
    course: list[Record] = field(default_factory=list)
    problems: dict[str, list[str]] = field(default_factory=dict)


def conversations(events: Iterable[Record], commands: Iterable[Record] = ()) -> dict[str, ConversationLog]:
    """The conversations of these records, by id. A turn whose beginning is not among them is left out."""
    found: dict[str, ConversationLog] = {}
    fences: dict[int, Fence] = {}
    for record in sorted(events, key=lambda record: (record.partition, record.offset)):
        key = (record.key or b"").decode()
        log = found.get(key)
        if log is None:
            log = found[key] = ConversationLog(key, record.partition)
        log.records.append(record)
        _feed(log, record, fences.setdefault(record.partition, Fence()))
    for record in sorted(commands, key=lambda record: (record.partition, record.offset)):
        key = record.header(HEADER) or (record.key or b"").decode()
        if key in found:
            found[key].commands.append(record)
    return found


def _feed(log: ConversationLog, record: Record, fence: Fence) -> None:
    try:
        fact = Fact(record, identity(record), decode(record))
    except HeadstartError:
        log.unread += 1
        return
    subject = fact.identity.subject
    if subject not in log.turns and not isinstance(fact.event, TurnAccepted) and fact.identity.stage != NOTE:
        log.dropped += 1
        return
    if fence.judge(fact.identity, record.source, record.type) != "counts":
        log.dropped += 1
    elif fact.identity.stage == NOTE:
        log.notes.append(fact)
    else:
        if isinstance(fact.event, TurnAccepted):
            log.turns.setdefault(subject, TurnLog(fact.event))
        log.turns[subject].facts.append(fact)


def turn_logs(events: Iterable[Record]) -> Iterator[TurnLog]:
    """Every turn of these records, in the order in which they began."""
    logs = [turn for log in conversations(events).values() for turn in log.turns.values()]
    return iter(sorted(logs, key=lambda turn: (turn.accepted.at_ms, turn.turn)))
