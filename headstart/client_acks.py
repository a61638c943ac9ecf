"""When to tell the gateway how far its frames have come.

A gateway counts what it sent and was not acknowledged against this connection's window (128 KiB), all conversations
together, and stops sending when that is full. So everything received is acknowledged, also what nobody wanted, in
time: by the bytes of all conversations together, for a window full of conversations that each stopped in the middle
would never be opened again otherwise.

Received, not consumed: one slow consumer must not close the window for the others. What a consumer has not taken is
bounded by its reader, and what is beyond that bound is fetched from the log again.

Pure.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from headstart.client_readers import Frame, is_newer
from streams.offsets import Cursor

ACK_BYTES: Final = 16 << 10  # an eighth of the gateway's window: it never runs dry while an acknowledgement travels


@dataclass(slots=True)
class Acknowledgements:
    """What one connection received and has not acknowledged."""

    _bytes: int = 0
    _newest: dict[str, Cursor] = field(default_factory=dict)
    _owed: set[str] = field(default_factory=set)

    def received(self, position: Cursor, size_bytes: int, ends: bool) -> list[Frame]:
        """A frame came. ends: a turn ended with it. Returns the acknowledgements to send now."""
        name = position.conversation
        newest = self._newest.get(name)
        if newest is None or is_newer(position, newest):
            self._newest[name] = position
        self._owed.add(name)
        self._bytes += size_bytes
        if self._bytes < ACK_BYTES and not ends:
            return []
        frames = [{"type": "headstart.ack", "cursor": self._newest[owed].encode()} for owed in sorted(self._owed)]
        self.clear_owed()
        return frames

    def clear_owed(self) -> None:
        self._owed.clear()
        self._bytes = 0

    def reset(self) -> None:
        """The connection is gone, and its window with it."""
        self._newest.clear()
        self.clear_owed()
