"""Up to where may a partition be committed when its records are finished in any order?

Up to the first one that is not finished: the contiguous watermark. Offsets may have holes (a compacted topic has), so
what is remembered are the offsets that were begun, not a range. Pure; every operation is O(1) amortised.
"""

from __future__ import annotations

from collections import deque


class Watermark:
    """The unfinished offsets of one partition. `begin` them in log order, `finish` them in any."""

    def __init__(self) -> None:
        self._begun: deque[int] = deque()
        self._finished: set[int] = set()
        self._next: int | None = None

    def begin(self, offset: int) -> bool:
        """A record was taken up. False when it, or a later one, was taken up before: a repeat to be skipped."""
        if self._next is not None and offset < self._next:
            return False
        self._begun.append(offset)
        self._next = offset + 1
        return True

    def finish(self, offset: int) -> None:
        """It is done, for good or bad. An offset that was not begun, or was finished before, changes nothing."""
        if self._begun and offset >= self._begun[0]:
            self._finished.add(offset)
            while self._begun and self._begun[0] in self._finished:
                self._finished.discard(self._begun.popleft())

    @property
    def position(self) -> int | None:
        """Where a successor has to begin: the first unfinished offset, or the one after the last; None before any."""
        return self._begun[0] if self._begun else self._next

    @property
    def next(self) -> int | None:
        """The offset after the last one begun: where this reader goes on. None before any."""
        return self._next

    @property
    def open(self) -> int:
        """How many positions the watermark holds back: begun and not yet passed."""
        return len(self._begun)
