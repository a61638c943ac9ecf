"""From the records of one conversation to facts that count and their frames, from wherever a reader begins. Pure.

A `ConversationFold` may begin at any offset at which a turn begins. Whichever it is, the frames of every turn that
begins at or after it are the same bytes. A cursor's `turn_offset` is the beginning of the oldest turn that was open
when its frame was made: a fold from there, less what stands at or before the cursor, is exactly the rest.
"""

from __future__ import annotations

from typing import Final, Literal

import msgspec
import orjson

from gateway.frame import Frame
from gateway.frames import FACT_TAKEN, PROJECTION, TurnProjector, fact_fields
from streams.codec import Identity, Record, decode
from streams.errors import HeadstartError, InvalidInput
from streams.events import Event
from streams.events.conversation import ConversationDeleted, ConversationOpened, ConversationRenamed, FactTaken
from streams.events.turn import TurnAccepted
from streams.fence import NOTE, Fence
from streams.offsets import Cursor, CursorMaker

ENDED_KEPT: Final = 16  # ended turns that are remembered, so that a late repeat of their first fact opens nothing
After = Cursor | Literal["start", "live"]


class Fact(msgspec.Struct, frozen=True):
    """A fact that counts. origin: where a reader that begins with this fact has to start folding."""

    offset: int
    origin: int
    identity: Identity
    event: Event


class Step(msgspec.Struct, frozen=True):
    """What one record said: its fact and the frames it makes, in order."""

    fact: Fact
    frames: list[Frame]


class Span(msgspec.Struct, frozen=True):
    """Where a turn is. begin: offset of its first fact. origin: where a fold has to begin to make its frames, which is
    the beginning of the oldest turn that was still open then."""

    origin: int
    begin: int


class ConversationFold:
    """Folds the records of one conversation's key in log order. One per reader that is catching up, and one that all
    live readers of the conversation share."""

    def __init__(self, conversation: str, topic_epoch: int) -> None:
        self.conversation = conversation
        self.topic_epoch = topic_epoch
        self.owner: tuple[str, str] | None = None  # (tenant, user) once a fact said so
        self.latest_turn = ""  # the turn that was accepted last
        self.unknown = 0  # records skipped because this build does not know or can not read them
        self.next_offset = 0  # records before this one have been folded
        self._fence = Fence()
        self._open: dict[str, tuple[Span, TurnProjector]] = {}
        self._ended: dict[str, Span] = {}  # the last ENDED_KEPT, oldest first
        self._cursors = CursorMaker(conversation, topic_epoch, PROJECTION)

    def open_turns(self) -> list[str]:
        """Turns that were accepted and have not ended, oldest first."""
        return list(self._open)

    def projector(self, turn: str) -> TurnProjector | None:
        """The projector of an open turn."""
        found = self._open.get(turn)
        return found[1] if found else None

    def ended(self, turn: str) -> bool:
        """Whether this fold saw the turn end, as long as it remembers."""
        return turn in self._ended

    def span(self, turn: str) -> Span | None:
        """Where a turn is, None when this fold did not see it begin or no longer remembers."""
        found = self._open.get(turn)
        return found[0] if found else self._ended.get(turn)

    def oldest_open(self) -> Span | None:
        return next(iter(self._open.values()))[0] if self._open else None

    @property
    def origin(self) -> int:
        """Where a reader that goes on from here has to begin to fold."""
        oldest = self.oldest_open()
        return oldest.begin if oldest else self.next_offset

    def receive(self, record: Record) -> Step | None:
        """Folds one record of the conversation. None when it does not count, repeats, or is unknown here."""
        if record.offset < self.next_offset:
            return None
        self.next_offset = record.offset + 1
        # One pass over the headers: this runs for every delta of every stream.
        named = kind = source = b""
        for name, value in record.headers:
            if name == "ce_id":
                named = value or b""
            elif name == "ce_type":
                kind = value or b""
            elif name == "ce_source":
                source = value or b""
        try:
            who = Identity.parse(named.decode())
            if who.subject in self._ended:
                return None  # nothing makes a frame after a turn's terminal fact
            if self._fence.judge(who, source.decode(), kind.decode()) != "counts":
                return None
            event = decode(record)
        except (HeadstartError, UnicodeDecodeError):
            # All readers skip the same records: an unknown type, or a value that is not what its type says.
            self.unknown += 1
            return None
        return self._fold(record.offset, who, event)

    def _fold(self, offset: int, who: Identity, event: Event) -> Step:
        turn = who.subject
        if isinstance(event, TurnAccepted) and turn not in self._open:
            oldest = self.oldest_open()
            span = Span(oldest.begin if oldest else offset, offset)
            self._open[turn] = (span, TurnProjector(event, self._cursors))
            self.owner = (event.tenant, event.user)
            self.latest_turn = turn
        elif isinstance(event, ConversationOpened):
            self.owner = (event.tenant, event.user)
        first = self.oldest_open()
        origin = first.begin if first else offset
        self._cursors.origin = origin
        opened = self._open.get(turn)
        frames = opened[1].feed(offset, who, event) if opened else self._note(offset, who, event)
        if opened and opened[1].ended:
            del self._open[turn]
            self._ended[turn] = opened[0]
            self._fence.forget(turn)
            if len(self._ended) > ENDED_KEPT:
                del self._ended[next(iter(self._ended))]
        return Step(Fact(offset, origin, who, event), frames)

    def _note(self, offset: int, who: Identity, event: Event) -> list[Frame]:
        """Frames of facts about the conversation itself; [] for facts of turns that began before this fold."""
        if isinstance(event, ConversationRenamed):
            kind, fields = "headstart.conversation.renamed", {"title": event.title, "at_ms": event.at_ms}
        elif isinstance(event, FactTaken) and who.stage == NOTE:
            kind, fields = FACT_TAKEN, fact_fields(event)
        elif isinstance(event, ConversationDeleted):
            kind, fields = "headstart.conversation.deleted", {"at_ms": event.at_ms}
        else:
            return []
        head = orjson.dumps({"type": kind, "conversation": self.conversation, **fields})[:-1]
        body = head + b',"cursor":"' + self._cursors.text(offset, 0) + b'"}'
        return [Frame(kind, "", -1, offset, 0, body)]


def parse_after(value: object) -> After:
    """What a client wants to go on after. Raises InvalidInput: not a cursor of ours, nor "start", nor "live"."""
    if value == "start":
        return "start"
    if value == "live":
        return "live"
    if not isinstance(value, str):
        raise InvalidInput("'after' is a cursor, 'start' or 'live'", code="invalid_cursor", param="after")
    return Cursor.decode(value)


def check_cursor(cursor: Cursor, conversation: str, topic_epoch: int) -> Literal["ok", "other_log"]:
    """Whether a cursor can be gone on from. "other_log": the topic was made anew, what it pointed to is gone.

    Raises InvalidInput when the cursor is of another conversation.
    """
    if cursor.conversation != conversation:
        raise InvalidInput("the cursor is of another conversation", code="cursor_of_other_conversation", param="after")
    if cursor.topic_epoch != topic_epoch or cursor.projection != PROJECTION:
        return "other_log"
    return "ok"


def is_after(frame: Frame, position: tuple[int, int]) -> bool:
    """Whether a frame stands after (offset, frame) in the log."""
    return (frame.offset, frame.index) > position
