"""Readers of frames, their places in the log, and the actions a client's core asks its shell for.

Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from streams.errors import HeadstartError, InvalidInput
from streams.offsets import Cursor

Frame = dict[str, Any]
TERMINAL: Final = frozenset({"response.completed", "response.incomplete", "response.failed"})
_ATTACH: Final = "attach/"


@dataclass(frozen=True, slots=True)
class Send:
    """Put this frame on the socket; where there is none, drop it: a new connection repeats what still matters."""

    frame: Frame


@dataclass(frozen=True, slots=True)
class Deliver:
    """Give this frame to a reader. last: no frame follows it."""

    reader: int
    frame: Frame
    size_bytes: int
    last: bool = False


@dataclass(frozen=True, slots=True)
class Fail:
    """A reader ends with this error."""

    reader: int
    error: HeadstartError


@dataclass(frozen=True, slots=True)
class Bound:
    """A turn's response and conversation are known."""

    reader: int
    response: str
    conversation: str


@dataclass(frozen=True, slots=True)
class Reconnect:
    """This connection can not carry on where another one may: end it."""


@dataclass(frozen=True, slots=True)
class Wait:
    """A reader's request could not be taken for a reason that passes: call `repeat` after a while, or `give_up` with
    this error. times: how often that was so, this time included."""

    reader: int
    error: HeadstartError
    times: int


Action = Send | Deliver | Fail | Bound | Reconnect | Wait


@dataclass(slots=True)
class Reader:
    """One consumer of frames: of one response (`turn`), which ends with it, or of a conversation.

    request: what is sent again on a new connection until the turn's first frame is there. start: where an attachment
    begins while it has no cursor. parent: the response this one succeeds, for a steer. last: the newest frame given.
    anchor: a place before its first frame, where the gateway named one.
    lagging: its frames are left in the log until its consumer has caught up. ticket: the number of the attach it
    waits for; until that is answered no frame is for it, -1 when it waits for none. sequence: of a turn's next frame.
    healed: the sequence at which frames were missing last. refusals: how often its request was for another connection.
    pauses: how often it was for later; pausing: it waits for that.
    """

    key: int
    turn: bool
    conversation: str = ""
    response: str = ""
    parent: str = ""
    event_id: str = ""
    request: Frame | None = None
    start: str = ""
    last: Cursor | None = None
    anchor: Cursor | None = None
    sequence: int = 0
    healed: int = -1
    queued_bytes: int = 0
    lagging: bool = False
    ticket: int = -1
    cancelling: bool = False
    refusals: int = 0
    pauses: int = 0
    pausing: bool = False

    def pause(self, error: HeadstartError) -> list[Action]:
        """Its request is to be sent again after a while. Nothing where it waits for that already."""
        if self.pausing:
            return []
        self.pausing, self.pauses = True, self.pauses + 1
        return [Wait(self.key, error, self.pauses)]

    @property
    def placed(self) -> bool:
        """It has a place to attach at; a turn whose request is still being repeated has none and needs none."""
        return self.request is None or self.last is not None

    @property
    def cursor(self) -> Cursor | None:
        return self.last or self.anchor

    @property
    def place(self) -> str:
        """Where its feed has to begin. A turn that has seen nothing of itself begins with its conversation."""
        return self.cursor.encode() if self.cursor is not None else self.start or "start"


def earliest_place(readers: Sequence[Reader]) -> str:
    """The place from which one feed serves all of these readers: "start" before any cursor, "live" after all."""
    if any(reader.place == "start" for reader in readers):
        return "start"
    cursors = [reader.cursor for reader in readers if reader.cursor is not None]
    if not cursors:
        return "live"
    earliest = cursors[0]
    for cursor in cursors[1:]:
        earliest = earliest if is_newer(cursor, earliest) else cursor
    return earliest.encode()


def is_newer(position: Cursor, last: Cursor | None) -> bool:
    """True for a frame after `last`; positions in a re-created topic are newer than all before it."""
    if last is None or position.topic_epoch != last.topic_epoch:
        return True
    return (position.offset, position.frame) > (last.offset, last.frame)


def is_lost(last: Cursor, oldest: Cursor | None) -> bool:
    """Whether a turn read up to `last` began before the oldest record there is."""
    return oldest is None or oldest.topic_epoch != last.topic_epoch or last.turn_offset < oldest.offset


def response_of(frame: Frame) -> str:
    """The response a frame belongs to, "" when it does not say."""
    body = frame.get("response")
    return str(frame.get("response_id") or (body.get("id", "") if isinstance(body, dict) else ""))


def steered_from(created: Frame) -> str:
    """The response whose steer this `response.created` commits, "" when none."""
    body = created.get("response")
    extra = body.get("headstart") if isinstance(body, dict) else None
    return str(extra.get("steered_from", "")) if isinstance(extra, dict) else ""


def decoded(text: object) -> Cursor | None:
    """The cursor, or None when `text` is not one."""
    if not isinstance(text, str):
        return None
    try:
        return Cursor.decode(text)
    except InvalidInput:
        return None


def attach_frame(conversation: str, after: str, ticket: int) -> Frame:
    """The `event_id` is how an error says which attach it answers."""
    event_id = f"{_ATTACH}{ticket}/{conversation}"
    return {"type": "session.attach", "conversation": conversation, "after": after, "event_id": event_id}


def attach_of(event_id: object) -> tuple[str, int] | None:
    """The conversation and ticket of the attach with this `event_id`, None when it is no attach's."""
    if not isinstance(event_id, str) or not event_id.startswith(_ATTACH):
        return None
    ticket, _, conversation = event_id[len(_ATTACH) :].partition("/")
    return conversation, int(ticket)


def detach_frame(conversation: str) -> Frame:
    return {"type": "session.detach", "conversation": conversation}


def cancel_frame(response: str) -> Frame:
    return {"type": "response.cancel", "response_id": response}
