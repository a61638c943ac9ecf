"""What the owner of a partition knows from reading its `events` in order: open turns, and the end of each conversation.

Pure: records go in, verdicts and views come out. One `PartitionView` per partition. It holds, per conversation, which
turn runs, where the newest turn begins, and the turns that Postgres may not have stored yet, so that a turn that
starts while memory lags still sees every earlier turn. Cost: the text of turns newer than the stored position, plus
about 200 bytes for each of the newest `CONVERSATIONS` conversations.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

import msgspec

from memory.records import TurnProjector, TurnRecord
from streams.codec import Identity, Record, decode, identity
from streams.events import Event
from streams.events.conversation import ConversationOpened
from streams.events.routing import RouteDecided
from streams.events.turn import TurnAccepted, TurnEnd, TurnIncomplete
from streams.fence import Fence
from workers.planning.facts_due import FactsDue

CONVERSATIONS: Final = 50_000  # of one partition whose tail is kept in memory; older ones are looked up in Postgres
MEMORY: Final = "memory"  # stages of the memory worker, which come after a turn's end: no turn waits for them
STEERED: Final = 200  # turns that were steered last, and whose successors have not begun yet
SETTLING: Final = 2_000  # ended turns whose fence is kept, so that what comes late is still judged


class Tail(msgspec.Struct):
    """The end of a conversation. last_offset -1: no turn seen. agent: which took its newest turn that was routed, ""
    for none of them; None: no such turn seen. ended: oldest first, those Postgres may lack."""

    tenant: str = ""
    user: str = ""
    last_turn: str = ""
    last_offset: int = -1
    parent: str = ""
    parent_turn: str = ""
    running: str = ""
    agent: str | None = None
    ended: list[TurnRecord] = msgspec.field(default_factory=list)


class OpenTurn(msgspec.Struct):
    """A turn without its terminal fact. facts: everything that counts so far, with each fact's time, for a takeover;
    None once a machine of this worker carries the turn."""

    accepted: TurnAccepted
    offset: int
    projector: TurnProjector
    facts: list[tuple[Identity, Event, float]] | None


class Seen(msgspec.Struct, frozen=True):
    """One fact that counts. at_ms: the broker's time of the record."""

    identity: Identity
    event: Event
    source: str
    at_ms: int
    offset: int


class PartitionView:
    """The fold of one partition. `owned`: turns that a machine of this worker carries (their facts are not kept)."""

    def __init__(self) -> None:
        self.fence = Fence()
        self.open: dict[str, OpenTurn] = {}
        self.owned: set[str] = set()
        self.tails: OrderedDict[str, Tail] = OrderedDict()
        self.facts = FactsDue()
        self.steered: OrderedDict[str, TurnAccepted] = OrderedDict()  # by their successors
        self._settling: OrderedDict[str, None] = OrderedDict()
        self._unstored: dict[str, Tail] = {}  # by conversation: tails with ended turns
        self._stored_position = -1

    def feed(self, record: Record) -> Seen | None:
        """The next record of `events`. None when it does not count. Raises InvalidInput or UnknownEvent on a record
        that can not be read; the view is then as if it were not there."""
        fact = identity(record)
        if fact.stage.startswith(MEMORY):
            return None
        event = decode(record)
        unseen = self.fence.unseen(fact)
        if self.fence.judge(fact, record.source, record.type) != "counts":
            if unseen:  # of a turn that ended before this was begun to be read; what it took in is taken in
                self.facts.feed(fact, event, record.offset, None, -1)
            return None
        key = (record.key or b"").decode()
        tail = self.tail(key)
        if isinstance(event, TurnAccepted):
            self._accepted(tail, event, record.offset)
        elif isinstance(event, ConversationOpened):
            tail.tenant, tail.user = event.tenant, event.user
            tail.parent, tail.parent_turn = event.parent, event.parent_turn
        elif isinstance(event, RouteDecided):
            tail.agent = event.agent
        turn = self.open.get(fact.subject)
        self.facts.feed(fact, event, record.offset, turn.accepted if turn else None, turn.offset if turn else -1)
        if turn is not None:
            turn.projector.feed(fact, event, record.offset)
            if turn.facts is not None:
                turn.facts.append((fact, event, float(record.timestamp_ms)))
            if isinstance(event, TurnEnd):
                self._ended(tail, fact.subject, turn, event)
        return Seen(fact, event, record.source, record.timestamp_ms, record.offset)

    def tail(self, conversation: str) -> Tail:
        """The conversation's tail, made empty when it is new here."""
        tail = self.tails.get(conversation)
        if tail is None:
            tail = self.tails[conversation] = Tail()
            if len(self.tails) > CONVERSATIONS:
                self._drop_idle()
        else:
            self.tails.move_to_end(conversation)
        return tail

    def knows(self, turn: str) -> bool:
        """The turn was accepted, as far as this view reaches back."""
        return turn in self.open or turn in self.owned or self.fence.epoch(turn, "turn") > 0

    def oldest_open(self, upto: int) -> int:
        """Where a successor has to begin to read: the first fact of the oldest open turn, or the oldest fact that
        nothing has become of, at most `upto`."""
        return min(self.facts.oldest(upto), min((turn.offset for turn in self.open.values()), default=upto))

    def stored(self, position: int) -> None:
        """Postgres holds every turn that ended at or before this offset: their text need not be kept."""
        if position <= self._stored_position:
            return
        self._stored_position = position
        for conversation, tail in list(self._unstored.items()):
            tail.ended = [record for record in tail.ended if record.end_offset > position]
            if not tail.ended:
                del self._unstored[conversation]

    def _accepted(self, tail: Tail, event: TurnAccepted, offset: int) -> None:
        facts: list[tuple[Identity, Event, float]] | None = None if event.turn in self.owned else []
        self.open[event.turn] = OpenTurn(event, offset, TurnProjector(), facts)
        _ = self.steered.pop(event.turn, None)
        tail.tenant, tail.user = event.tenant, event.user
        tail.last_turn, tail.last_offset, tail.running = event.turn, offset, event.turn

    def _ended(self, tail: Tail, turn: str, state: OpenTurn, end: TurnEnd) -> None:
        tail.ended.append(state.projector.record())
        self._unstored[state.accepted.conversation] = tail
        if tail.running == turn:
            tail.running = ""
        del self.open[turn]
        if isinstance(end, TurnIncomplete) and end.successor:
            self.steered[end.successor] = state.accepted
            if len(self.steered) > STEERED:
                _ = self.steered.popitem(last=False)
        self.owned.discard(turn)
        self._settling[turn] = None
        if len(self._settling) > SETTLING:
            self.fence.forget(self._settling.popitem(last=False)[0])

    def _drop_idle(self) -> None:
        for conversation, tail in list(self.tails.items())[: CONVERSATIONS // 10]:
            if not tail.running and not tail.ended:
                del self.tails[conversation]
