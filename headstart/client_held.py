"""Frames of turns that were submitted here but whose `headstart.accepted` has not come yet.

The log can be faster than the acknowledgement of the submit. Until the response's id is known these frames could be
anybody's in the conversation, so they are held, up to a bound; beyond it a turn's frames are left in the log and read
from there once it is claimed.

Pure.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from headstart.client_readers import Frame
from streams.offsets import Cursor

HELD_BYTES: Final = 1 << 18  # all turns together


@dataclass(slots=True)
class HeldFrames:
    """Frames by response, in the order they came."""

    limit_bytes: int = HELD_BYTES
    _frames: dict[str, list[tuple[Frame, Cursor, int]]] = field(default_factory=dict)
    _lost: set[str] = field(default_factory=set)
    _bytes: int = 0

    def hold(self, response: str, frame: Frame, position: Cursor, size_bytes: int) -> None:
        if response in self._lost:
            return
        if self._bytes + size_bytes > self.limit_bytes:
            self.take(response)
            self._lost.add(response)
            return
        self._frames.setdefault(response, []).append((frame, position, size_bytes))
        self._bytes += size_bytes

    def take(self, response: str) -> list[tuple[Frame, Cursor, int]] | None:
        """What was held of a response, which is no longer; None when some of it was left in the log."""
        if response in self._lost:
            self._lost.discard(response)
            return None
        frames = self._frames.pop(response, [])
        self._bytes -= sum(size_bytes for _, _, size_bytes in frames)
        return frames

    def clear(self) -> None:
        self._frames.clear()
        self._lost.clear()
        self._bytes = 0
