"""Cursors: durable positions in a conversation's log, opaque to clients and valid on any gateway.

A cursor holds the epoch of the `events` topic (a random value written when the topic was made, so that a
re-created topic is noticed), the conversation (its id names the partition), the offset of the fact, the index
of the frame among those the fact makes, the offset at which the fact's turn begins (a reader starts folding
there) and the version of the projection that made the frame.

As text: base64url without padding of 43 bytes, so 58 characters. A cursor is not a secret and grants nothing:
whoever presents it must own the conversation.
"""

from __future__ import annotations

import base64
import binascii
import struct

import msgspec

from streams import ids
from streams.errors import InvalidInput

FORMAT = 1
NO_OFFSET = 1 << 63  # offsets of a log are signed numbers of 64 bits
_LAYOUT = struct.Struct(">BBIH16sQHQB")  # format, projection, epoch, partition, uuid, offset, frame, turn offset, sum
_TAIL = struct.Struct(">QHQ")  # the part that differs from frame to frame: offset, frame, turn offset
_URL_SAFE = bytes.maketrans(b"+/", b"-_")


class Cursor(msgspec.Struct, frozen=True, order=True):
    """A position in a conversation's log, ordered by (offset, frame) within one conversation and epoch."""

    offset: int
    frame: int
    conversation: str
    turn_offset: int
    topic_epoch: int
    projection: int = 1

    @property
    def partition(self) -> int:
        return ids.partition_of(self.conversation)

    def encode(self) -> str:
        body = ids.body_of(self.conversation)
        raw = _LAYOUT.pack(
            FORMAT, self.projection, self.topic_epoch, int(body[:4], 16), bytes.fromhex(body[4:]),
            self.offset, self.frame, self.turn_offset, 0,
        )  # fmt: skip
        return base64.urlsafe_b64encode(raw[:-1] + bytes((_checksum(raw[:-1]),))).rstrip(b"=").decode()

    @staticmethod
    def decode(text: str) -> Cursor:
        """The cursor a client sent back. Raises InvalidInput (code `invalid_cursor`) when it is not one of ours."""
        try:
            raw = base64.b64decode(text.encode() + b"=" * (-len(text) % 4), altchars=b"-_", validate=True)
            fmt, projection, epoch, partition, uuid, offset, frame, turn_offset, total = _LAYOUT.unpack(raw)
        except (struct.error, binascii.Error, ValueError) as error:
            raise _invalid() from error
        if fmt != FORMAT or total != _checksum(raw[:-1]) or not turn_offset <= offset < NO_OFFSET:
            raise _invalid()
        conversation = f"{ids.CONVERSATION}_{partition:04x}{uuid.hex()}"
        return Cursor(offset, frame, conversation, turn_offset, epoch, projection)


class CursorMaker:
    """Makes the cursors of one conversation for the frames of one reader, 1 us each.

    origin: where a reader of the next frame has to start folding, at most the frame's own offset. The folder sets it
    before each fact.
    """

    def __init__(self, conversation: str, topic_epoch: int, projection: int = 1) -> None:
        body = ids.body_of(conversation)
        self._head = _LAYOUT.pack(
            FORMAT, projection, topic_epoch, int(body[:4], 16), bytes.fromhex(body[4:]), 0, 0, 0, 0
        )[: -_TAIL.size - 1]  # fmt: skip
        self._sum = binascii.crc32(self._head)
        self.origin = 0

    def text(self, offset: int, frame: int) -> bytes:
        """The encoded cursor of frame number `frame` of the fact at `offset`: the same bytes as `Cursor.encode`."""
        tail = _TAIL.pack(offset, frame, self.origin)
        total = binascii.crc32(tail, self._sum) & 0xFF
        return binascii.b2a_base64(self._head + tail + bytes((total,)), newline=False).translate(_URL_SAFE, b"=")


def _checksum(raw: bytes) -> int:
    """One byte that catches a cursor cut or mistyped by hand; no security rests on it."""
    return binascii.crc32(raw) & 0xFF


def _invalid() -> InvalidInput:
    return InvalidInput(
        "the cursor is not one this service made",
        code="invalid_cursor",
        hint="send back a 'cursor' exactly as a frame carried it, or 'start' or 'live'",
    )
