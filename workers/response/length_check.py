"""The check `length:N`: an answer of more than N characters ends there."""

from __future__ import annotations

from workers.response.check import Segment


class LengthCheck:
    """Lets `limit` characters through and ends the answer with the next one. Holds nothing back."""

    name = "length"

    def __init__(self, limit: int) -> None:
        if limit < 1:
            raise ValueError("an answer needs at least one character")
        self._left = limit
        self._stopped = False

    @property
    def stopped(self) -> bool:
        return self._stopped

    def prime(self, text: str) -> None:
        self._left = max(0, self._left - len(text))

    def feed(self, text: str) -> list[Segment]:
        if len(text) <= self._left:
            self._left -= len(text)
            return [Segment(len(text))] if text else []
        allowed, self._left, self._stopped = self._left, 0, True
        return [Segment(allowed), Segment(len(text) - allowed, "")] if allowed else [Segment(len(text), "")]

    def finish(self) -> list[Segment]:
        return []
