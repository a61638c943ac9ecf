"""What the owner of a partition owes to published facts, from its log alone: an outcome, and the turns they open. Pure.

A fact is due from its `fact.published` to its `fact.taken`. A turn that the latter names is due until its
`turn.accepted`. What is due holds back the position of `events`, so that a successor finds it in what it reads.
"""

from __future__ import annotations

import msgspec

from streams.codec import Identity
from streams.events import Event, InputItem
from streams.events.conversation import FactPublished, FactTaken
from streams.events.intake import TurnOptions, TurnSubmit
from streams.events.turn import TurnAccepted
from workers.planning.taking import ORIGIN, TELLING, shown_text


class Due(msgspec.Struct):
    """A fact that nothing has become of yet. heard_by: the turn that was told of it last, "" for none (fact_desk.py
    has two more)."""

    fact: str
    event: FactPublished
    offset: int
    heard_by: str = ""


class Opening(msgspec.Struct):
    """A turn that facts open. steered: it takes the place of a turn that ended for it. offset: of the oldest record
    that it follows from."""

    submit: TurnSubmit
    steered: bool
    offset: int


class FactsDue:
    """Of one partition."""

    def __init__(self) -> None:
        self.waiting: dict[str, Due] = {}
        self.openings: dict[str, Opening] = {}

    def feed(self, identity: Identity, event: Event, offset: int, accepted: TurnAccepted | None, begin: int) -> None:
        """The next fact of `events` that counts. accepted, begin: of the open turn that it is about, if any."""
        if isinstance(event, FactPublished):
            name = identity.text()
            self.waiting[name] = Due(name, event, offset)
        elif isinstance(event, FactTaken):
            due = self.waiting.pop(event.fact, None)
            if due is not None and event.successor:
                self._open(event, due, accepted, begin)
        elif isinstance(event, TurnAccepted):
            _ = self.openings.pop(event.turn, None)

    def of(self, conversation: str) -> list[Due]:
        """Those of one conversation, in the order in which they were published."""
        return [due for due in self.waiting.values() if due.event.conversation == conversation]

    def oldest(self, upto: int) -> int:
        """The offset of the oldest record that something is still due for, at most `upto`."""
        return min(
            [upto, *(due.offset for due in self.waiting.values()), *(one.offset for one in self.openings.values())]
        )

    def _open(self, event: FactTaken, due: Due, accepted: TurnAccepted | None, begin: int) -> None:
        known = self.openings.get(event.successor)
        item = InputItem(
            kind="fact", role="service", text=shown_text(due.event.text), call_id=event.fact, output=event.kind
        )  # fmt: skip
        if known is not None:
            known.submit = msgspec.structs.replace(known.submit, input=(*known.submit.input, item))
            known.offset = min(known.offset, due.offset)
            return
        steered = event.outcome == "steered" and accepted is not None
        fact = due.event
        options = TurnOptions(agent=event.agent, locale=accepted.options.locale if accepted is not None else "")
        asked: tuple[InputItem, ...] = ()
        if steered and accepted is not None:
            options = accepted.options
            asked = tuple(msgspec.structs.replace(one, again=True) for one in accepted.input)
        submit = TurnSubmit(
            turn=event.successor, conversation=fact.conversation, tenant=fact.tenant, user=fact.user,
            input=(*asked, item), at_ms=event.at_ms, previous_turn=accepted.turn if steered and accepted else "",
            event_id=event.fact, origin=TELLING if event.outcome == "told" else ORIGIN, options=options,
        )  # fmt: skip
        offset = min(due.offset, begin) if accepted is not None else due.offset
        self.openings[event.successor] = Opening(submit, steered, offset)
