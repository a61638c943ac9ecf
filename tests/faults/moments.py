"""Where a turn is, as the log tells while it is written. Pure: records in, sightings out.

| moment | seen when |
|---|---|
| queued | a submit is in `turns` and its turn is not accepted, since another turn of its conversation runs |
| planning | the plan's text has begun and not ended |
| call | a call was fired and has no outcome |
| generating | a part of the answer is in the log |
| last | the whole answer is in the log, and neither its end nor the turn's |
| committing | the terminal fact is in the log; positions and rows are about to be stored |
"""

from __future__ import annotations

from typing import Final, Literal

import msgspec

from streams import ids
from streams.codec import Record, decode, identity
from streams.errors import HeadstartError
from streams.events import Event
from streams.events.calling import CallFired
from streams.events.generating import AnswerDelta, PlanDelta
from streams.events.intake import TurnSubmit
from streams.events.turn import TurnAccepted, TurnAdopted, TurnEnd
from streams.topology import EVENTS
from tests.faults.story import said_by

Moment = Literal["queued", "planning", "call", "generating", "last", "committing"]
MOMENTS: Final[tuple[Moment, ...]] = ("queued", "planning", "call", "generating", "last", "committing")


class Sighting(msgspec.Struct, frozen=True):
    """A turn at a moment. owner: the writer that carries the turn; writer: of the fact that showed the moment.
    client: of the run's clients, who asked for it."""

    moment: Moment
    turn: str
    owner: str
    writer: str
    event_id: str


class _Turn(msgspec.Struct):
    owner: str
    event_id: str
    says: str
    text: str = ""


class Moments:
    """Reads `turns` and `events` in the order they come. share: how much of an answer there is at "generating", 0..1.
    A turn is sighted once at each moment."""

    def __init__(self, share: float = 0.5) -> None:
        self.share = share
        self._open: dict[str, _Turn] = {}
        self._running: dict[str, str] = {}  # conversation -> its open turn
        self._sighted: set[tuple[str, Moment]] = set()

    def feed(self, record: Record) -> Sighting | None:
        """The next record of either topic."""
        try:
            event = decode(record)
            found = self._fact(record, event) if record.topic == EVENTS.name else self._command(event)
        except HeadstartError:
            return None
        if found is None or (found.turn, found.moment) in self._sighted:
            return None
        self._sighted.add((found.turn, found.moment))
        return found

    def _command(self, event: Event) -> Sighting | None:
        if not isinstance(event, TurnSubmit) or event.turn in self._open:
            return None
        running = self._open.get(self._running.get(event.conversation, ""))
        if running is None:
            return None
        return Sighting("queued", event.turn, running.owner, running.owner, event.event_id)

    def _fact(self, record: Record, event: Event) -> Sighting | None:
        subject, conversation = identity(record).subject, (record.key or b"").decode()
        if isinstance(event, TurnAccepted):
            says = said_by("".join(item.text for item in event.input)) or ""
            self._open[subject] = _Turn(record.source, event.event_id, says)
            self._running[conversation] = subject
            return None
        turn = self._open.get(subject)
        if turn is None:
            return None
        moment: Moment | None = None
        if isinstance(event, TurnAdopted):
            turn.owner = record.source
        elif isinstance(event, PlanDelta):
            moment = "planning"
        elif isinstance(event, CallFired):
            moment = "call"
        elif isinstance(event, AnswerDelta):
            turn.text += event.text
            if len(turn.text) >= len(turn.says):
                moment = "last"
            elif len(turn.text) >= self.share * len(turn.says):
                moment = "generating"
        elif isinstance(event, TurnEnd):
            moment = "committing"
            del self._open[subject]
            if self._running.get(conversation) == subject:
                del self._running[conversation]
        return None if moment is None else Sighting(moment, subject, turn.owner, record.source, turn.event_id)


def partition_of(sighting: Sighting) -> int:
    return ids.partition_of(sighting.turn)
