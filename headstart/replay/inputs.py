"""The recorded inputs of a turn that stand in the log as facts: of models, of calls, of the router. Pure."""

from __future__ import annotations

from collections import deque
from typing import TypeVar

from headstart.replay.turns import TURN, ConversationLog, Fact, Segment, TurnLog
from streams.codec import Record, decode_as, identity
from streams.events import Event
from streams.events.calling import CallAnswered, CallFailed, CallFired
from streams.events.conversation import FactPublished, FactTaken
from streams.events.routing import RouteDecided
from streams.events.turn import TurnAdopted
from streams.fence import NOTE
from streams.taken import Taken
from workers.planning.commands import Routed

E = TypeVar("E", bound=Event)
Queues = dict[str, dict[str, deque[Fact]]]


def queues(log: ConversationLog, segment: Segment) -> Queues:
    """By turn: the facts of others that come by while this owner carries it, by stage (and epoch, of generations)."""
    found: Queues = {}
    for turn in log.turns.values():
        queues = found[turn.turn] = {}
        adopted = _adoption(turn, segment)
        for fact in turn.facts:
            stage = fact.identity.stage
            if stage == TURN or (adopted is not None and fact.record.offset < adopted):
                continue
            key = stage if stage.startswith("call.") else f"{stage}/{fact.identity.epoch}"
            queues.setdefault(key, deque()).append(fact)
    return found


def unsaid(turn: TurnLog, segment: Segment) -> tuple[Taken, ...]:
    """What this owner took in after its last fact of the turn, as far as a call that it still sent says it. A call that
    left in the same step as that fact says the same, which is not said twice."""
    own = [fact for fact in segment.facts if fact.identity.subject == turn.turn]
    said, told = (own[-1].record.offset, {entry for fact in own for entry in fact.taken}) if own else (-1, set())
    calls = [
        fact
        for fact in turn.facts
        if isinstance(fact.event, CallFired)
        and fact.source == segment.writer
        and said < fact.record.offset < segment.end
    ]
    return tuple(entry for entry in calls[-1].taken if entry not in told) if calls and own else ()


def waits_for(record: Record) -> str:
    """What a record of the owner's own waits for until the owner reads it: a service's fact for being heard, the note
    that opens a turn for that turn; "" for any other."""
    if record.type == FactPublished.TYPE:
        return record.event_id
    if record.type == FactTaken.TYPE and identity(record).stage == NOTE:
        return decode_as(record, FactTaken).successor
    return ""


def is_outcome(fact: Fact) -> bool:
    return isinstance(fact.event, CallAnswered | CallFailed)


def older(fact: Fact, entry: Taken) -> bool:
    """It is the outcome of an earlier claim, which nobody took in."""
    return fact.identity.epoch < entry.claim


def _adoption(turn: TurnLog, segment: Segment) -> int | None:
    """Where this owner took the turn over; None when it began it."""
    return next(
        (
            fact.record.offset
            for fact in segment.facts
            if isinstance(fact.event, TurnAdopted) and fact.identity.subject == turn.turn
        ),
        None,
    )


def routed(turn: TurnLog, segment: Segment, entry: Taken) -> Routed:
    """What the router said; the likenesses are those that the decision was written down with."""
    decided = first_of(turn, RouteDecided, segment)
    scores, took_ms = (decided.scores, decided.took_ms) if decided is not None else ((), 0.0)
    return Routed(agent=entry.name, verdict=entry.detail, scores=scores, took_ms=took_ms)


def first_of(turn: TurnLog, kind: type[E], segment: Segment | None = None) -> E | None:
    """The first fact of a kind; the first that this owner wrote, if there is one: two may have looked."""
    own = () if segment is None else (fact for fact in segment.facts if fact.identity.subject == turn.turn)
    return next((fact.event for fact in (*own, *turn.facts) if isinstance(fact.event, kind)), None)
