"""A frame: one JSON object for a client, with its place in the log. Pure.

A frame made from the log is a pure function of it: the same bytes on any gateway, at any time. What is not
(`headstart.accepted`, `error` and the other answers to one socket) carries no cursor and is not a `Frame`.
"""

from __future__ import annotations

from typing import Any

import msgspec
import orjson


class Frame(msgspec.Struct, frozen=True, gc=False):
    """type: the frame's own `type`. turn: "" when it is about the conversation. sequence: its `sequence_number`, -1
    when it has none. (offset, index): the fact that made it and which of that fact's frames it is. body: the JSON
    object. ends: the last frame of its response."""

    type: str
    turn: str
    sequence: int
    offset: int
    index: int
    body: bytes
    ends: bool = False

    @property
    def position(self) -> tuple[int, int]:
        return (self.offset, self.index)


def on_lane(body: bytes, stream_id: str) -> bytes:
    """The frame's bytes for the lane that asked for it: `stream_id` is outside the frame's identity."""
    return body[:-1] + b',"stream_id":' + orjson.dumps(stream_id) + b"}"


def control(kind: str, fields: dict[str, Any], stream_id: str | None = None) -> bytes:
    """A frame for one socket only: not from the log, so without a cursor unless `fields` names one."""
    body: dict[str, Any] = {"type": kind, **fields}
    if stream_id is not None:
        body["stream_id"] = stream_id
    return orjson.dumps(body)


def server_sent(kind: str, body: bytes) -> bytes:
    """The frame as one server-sent event."""
    return b"event: " + kind.encode() + b"\ndata: " + body + b"\n\n"
