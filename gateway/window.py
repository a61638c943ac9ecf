"""How much a client may be behind: a bounded window of bytes between the log and one connection. Pure.

Frames wait here between being made and being written to the socket. When the next one does not fit, the reader that
made it stops and remembers where it was; it goes on from the log once there is room. So a stalled client costs its
window and nothing else, and frames are never merged or dropped for it.

A client that acknowledges (`headstart.ack`) counts what it has not acknowledged too: what sits in the buffers of the
two kernels and any proxy between them is then part of the window.
"""

from __future__ import annotations

from collections import deque
from typing import Final

import msgspec

WINDOW_BYTES: Final = 128 * 1024  # 10 minutes of 20 tokens/s at 220 bytes would be 2.6 MB: a stall is felt after 30 s
ENTRY_BYTES: Final = 64  # what one waiting frame costs beside its bytes: a tuple and two references


class Sent(msgspec.Struct, frozen=True, gc=False):
    """A frame that was written but not acknowledged."""

    conversation: str
    position: tuple[int, int]
    size_bytes: int


class SendWindow:
    """The window of one connection. Not thread-safe; nothing in it waits. An idle one holds no queue: 0.8 KB each."""

    __slots__ = ("_sent", "_waiting", "acknowledges", "limit_bytes", "unacknowledged_bytes", "waiting_bytes")

    def __init__(self, limit_bytes: int = WINDOW_BYTES) -> None:
        self.limit_bytes = limit_bytes
        self.waiting_bytes = 0
        self.unacknowledged_bytes = 0
        self.acknowledges = False
        self._waiting: deque[tuple[bytes, str, tuple[int, int]]] | None = None
        self._sent: deque[Sent] | None = None

    def __len__(self) -> int:
        """Frames that wait to be written."""
        return len(self._waiting) if self._waiting else 0

    def room(self, size_bytes: int = 0) -> bool:
        """Whether a frame of this size fits. One that is larger than half of the window goes when the other half is
        free, so that no frame is too large for a client that acknowledges at least every half window."""
        held = self.waiting_bytes + (self.unacknowledged_bytes if self.acknowledges else 0)
        half = self.limit_bytes // 2
        return held + size_bytes + ENTRY_BYTES <= self.limit_bytes or (size_bytes > half and held <= half)

    def push(self, body: bytes, conversation: str = "", position: tuple[int, int] = (-1, -1)) -> None:
        """Queues a frame. The caller asked `room` first; control frames, which have no position, need not."""
        if self._waiting is None:
            self._waiting = deque()
        self._waiting.append((body, conversation, position))
        self.waiting_bytes += len(body) + ENTRY_BYTES

    def pop(self) -> bytes | None:
        """The next frame to write, None when there is none."""
        if not self._waiting:
            self._waiting = None
            return None
        body, conversation, position = self._waiting.popleft()
        size_bytes = len(body) + ENTRY_BYTES
        self.waiting_bytes -= size_bytes
        if self.acknowledges and conversation:
            if self._sent is None:
                self._sent = deque()
            self._sent.append(Sent(conversation, position, size_bytes))
            self.unacknowledged_bytes += size_bytes
        return body

    def acknowledge(self, conversation: str, position: tuple[int, int]) -> None:
        """The client has everything of this conversation up to (offset, frame). From the first one on, this client's
        window counts what it has not acknowledged."""
        self.acknowledges = True
        kept: deque[Sent] = deque()
        for sent in self._sent or ():
            if sent.conversation == conversation and sent.position <= position:
                self.unacknowledged_bytes -= sent.size_bytes
            else:
                kept.append(sent)
        self._sent = kept or None

    def clear(self) -> None:
        """Forgets everything: the socket is gone."""
        self._waiting = self._sent = None
        self.waiting_bytes = self.unacknowledged_bytes = 0
