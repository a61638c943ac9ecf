"""When does a delta leave? At once if its stage's last one left 8 ms ago or more, else 8 ms after that one.

So the first token never waits, a slow stream is never delayed, and a fast one is cut into at most 125 records a second.
Plan deltas never wait: a call may fire on any byte of them. Pure: time is an argument and the wake-up is a result.
"""

from __future__ import annotations

SPACING_MS = 8.0


class Coalescer:
    """Joins the deltas of one stage until they may leave. spacing_ms 0: nothing ever waits."""

    def __init__(self, spacing_ms: float = SPACING_MS) -> None:
        self._spacing_ms = spacing_ms
        self._left_at_ms: float | None = None
        self._texts: list[str] = []
        self._ids: list[int] = []
        self._index: int | None = None

    @property
    def empty(self) -> bool:
        return self._index is None

    def add(self, text: str, ids: tuple[int, ...], index: int) -> None:
        """One more piece. index: of its first token in the stage; kept from the first piece of a delta."""
        if self._index is None:
            self._index = index
        self._texts.append(text)
        self._ids.extend(ids)

    def due_at_ms(self) -> float | None:
        """When the joined delta may leave (a time already past means now); None when there is nothing."""
        if self._index is None:
            return None
        return float("-inf") if self._left_at_ms is None else self._left_at_ms + self._spacing_ms

    def take(self, now_ms: float) -> tuple[str, tuple[int, ...], int]:
        """The joined delta, which leaves now: text, ids, index. Raises ValueError when there is nothing."""
        if self._index is None:
            raise ValueError("there is no delta to take")
        taken = ("".join(self._texts), tuple(self._ids), self._index)
        self._texts.clear()
        self._ids.clear()
        self._index = None
        self._left_at_ms = now_ms
        return taken
