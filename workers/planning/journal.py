"""The inputs of one turn since its last fact, as the next fact will tell them (streams/taken.py). Pure."""

from __future__ import annotations

import msgspec

from streams.events.generating import GenerationDelta
from streams.taken import Taken, header
from workers.planning.commands import (
    ApprovalsFound,
    Called,
    CallHeard,
    Cancelled,
    Discovered,
    FactCame,
    Generated,
    Input,
    Recollected,
    Routed,
    Tick,
)

COUNTED = "answer"  # the stage whose deltas decide nothing: they are counted, not listed


class Journal:
    """Of one turn in one owner's hands."""

    def __init__(self) -> None:
        self._taken: list[Taken] = []
        self._counting = False  # the last one is a delta that more of its kind may be counted with

    def took(self, item: Input, at_ms: float) -> None:
        """The machine is fed this input now."""
        entry = describe(item, at_ms)
        counts = isinstance(item, Generated) and item.step == COUNTED and isinstance(item.event, GenerationDelta)
        if counts and self._counting and self._taken and self._taken[-1].number == entry.number:
            last = self._taken[-1]
            self._taken[-1] = msgspec.structs.replace(last, at_ms=at_ms, count=last.count + 1)
        else:
            self._taken.append(entry)
        self._counting = counts

    def note(self, entry: Taken) -> None:
        """The same, for what is no input of the machine."""
        self._taken.append(entry)
        self._counting = False

    def peek(self) -> tuple[tuple[str, bytes], ...]:
        """The header of a call that is sent now: should this owner write no fact more, it says why the call left."""
        return header(self._taken)

    def drain(self) -> tuple[tuple[str, bytes], ...]:
        """The header of the fact that is written now; what was taken in belongs to it and to none after."""
        drained, self._taken = self._taken, []
        return header(drained)


def describe(item: Input, at_ms: float) -> Taken:
    """An input as a fact's header says it."""
    match item:
        case Generated():
            return Taken("generated", at_ms, item.step, item.epoch)
        case Called():
            return Taken("called", at_ms, number=item.event.call, claim=item.claim)
        case Routed():
            return Taken("routed", at_ms, item.agent, detail=item.verdict)
        case Recollected():
            return Taken("recollected", at_ms)
        case Discovered():
            return Taken("discovered", at_ms)
        case ApprovalsFound():
            return Taken("approvals", at_ms, detail=" ".join(event.request for event in item.asked))
        case CallHeard():
            return Taken("heard", at_ms, number=item.call)
        case Cancelled():
            return Taken("cancelled", at_ms, item.reason, detail=item.successor)
        case FactCame():
            return Taken("fact", at_ms, item.fact)
        case Tick():
            return Taken("tick", at_ms)
    return Taken(type(item).__name__, at_ms)  # type: ignore[unreachable]  # an input added since: recorded all the same
