"""The commands of one conversation, as a replay hands them out: each when the log says that it had its effect. Pure.

What stands on `turns` says when a command was sent, not when its owner took it; the facts say that. A submit is due
with its `turn.accepted`, a cancel with the input of that name, and what had no effect (a repeat, a cancel that came
too late) is due last of all. A recording without `turns`, such as one from an archive, has its commands made from
the facts.
"""

from __future__ import annotations

from collections.abc import Sequence

from headstart.replay.turns import ConversationLog, Fact, TurnLog
from streams.codec import Record, decode, encode
from streams.errors import HeadstartError
from streams.events import Event
from streams.events.conversation import ConversationOpened
from streams.events.intake import TurnCancel, TurnSteer, TurnSubmit
from streams.events.turn import TurnAccepted
from streams.taken import Taken
from streams.topology import TURNS
from workers.planning.intake import salvage
from workers.planning.notes import note_number
from workers.planning.taking import ORIGIN, TELLING

SOURCE = "replay"


class Commands:
    """Each is handed out once."""

    def __init__(self, log: ConversationLog) -> None:
        self._log = log
        self._left: list[tuple[Record, Event | None]] = [(record, _read(record)) for record in log.commands]
        self._numbers = iter(range(1 << 40, 1 << 41))  # offsets of commands that are made here

    def submit(self, accepted: TurnAccepted) -> Record | None:
        """The submit that a turn came from; None for one that no submit opened (a steer's successor, a fact's turn)."""
        for index, (_, event) in enumerate(self._left):
            if isinstance(event, TurnSubmit) and event.turn == accepted.turn:
                return self._left.pop(index)[0]
        if (accepted.origin == "steer" and accepted.steered_from) or accepted.origin in (ORIGIN, TELLING):
            return None
        return self._made(accepted.turn, submit_of(accepted, self._log.turns[accepted.turn]))

    def cancel(self, turn: TurnLog, entry: Taken) -> Record:
        """The command that stopped a turn: a cancel, a steer, or the submit that interrupted it."""
        for index, (_, event) in enumerate(self._left):
            if _stops(event, turn, entry):
                return self._left.pop(index)[0]
        accepted = turn.accepted
        if entry.detail and (successor := self._log.turns.get(entry.detail)) is not None:
            return self._made(
                accepted.turn,
                TurnSteer(
                    turn=accepted.turn, successor=entry.detail, tenant=accepted.tenant, user=accepted.user,
                    input=successor.accepted.input, at_ms=int(entry.at_ms),
                ),
            )  # fmt: skip
        return self._made(
            accepted.turn,
            TurnCancel(
                turn=accepted.turn, tenant=accepted.tenant, user=accepted.user, at_ms=int(entry.at_ms),
                reason=entry.name,
            ),
        )  # fmt: skip

    def note(self, fact: Fact) -> Record | None:
        """The command that a fact about the conversation came from (a rename, a service's fact); None when the
        recording has not got it."""
        for index, (record, _) in enumerate(self._left):
            if note_number(record.event_id) == fact.identity.seq:
                return self._left.pop(index)[0]
        return None

    def rest(self) -> list[Record]:
        """What had no effect: repeats, and cancels of turns that had ended."""
        left, self._left = self._left, []
        return [record for record, event in left if isinstance(event, TurnSubmit | TurnCancel)]

    def _made(self, name: str, event: Event) -> Record:
        headers, value = encode(event, f"{name}/{type(event).__name__}", SOURCE)
        return Record(
            TURNS.name, self._log.partition, next(self._numbers), 0, self._log.conversation.encode(), headers, value
        )  # fmt: skip


def accepted_notes(facts: Sequence[Fact]) -> frozenset[int]:
    return frozenset(fact.identity.seq for fact in facts)


def _stops(event: Event | None, turn: TurnLog, entry: Taken) -> bool:
    if isinstance(event, TurnCancel):
        return event.turn == turn.turn and not entry.detail and event.reason == entry.name
    if isinstance(event, TurnSteer):
        return event.turn == turn.turn and event.successor == entry.detail
    if isinstance(event, TurnSubmit) and event.options.on_busy in ("interrupt", "steer"):
        steered = event.turn if event.options.on_busy == "steer" else ""
        return entry.name == "interrupted" and event.turn != turn.turn and steered == entry.detail
    return False


def _read(record: Record) -> Event | None:
    try:
        return decode(record)
    except HeadstartError:
        return salvage(record)


def submit_of(accepted: TurnAccepted, log: TurnLog) -> TurnSubmit:
    """The submit that a turn can have come from, made from its facts."""
    opened = next((fact.event for fact in log.facts if isinstance(fact.event, ConversationOpened)), None)
    return TurnSubmit(
        turn=accepted.turn, conversation=accepted.conversation, tenant=accepted.tenant, user=accepted.user,
        input=accepted.input, at_ms=accepted.at_ms, opens=opened is not None,
        parent=opened.parent if opened else "", parent_turn=opened.parent_turn if opened else "",
        previous_turn=accepted.steered_from, event_id=accepted.event_id, origin=accepted.origin,
        options=accepted.options,
    )  # fmt: skip
