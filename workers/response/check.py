"""The port of an in-stream check: text in as it is written, and what becomes of it out.

A check sees the answer in pieces and says for each character, in order, whether it leaves as it is or as something
else. It may hold characters back while they can still become a match, but only a bounded number; what is held when the
answer ends is decided by `finish`. Pure: no clock, no I/O.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol


class Segment(NamedTuple):
    """The next `size` characters leave: as they are (None), or as `replacement`."""

    size: int
    replacement: str | None = None


class Check(Protocol):
    """One check of one answer; a new one is made for each."""

    name: str
    """Stands in `*.finished.filtered` when the check changed something."""

    @property
    def stopped(self) -> bool:
        """The answer ends here: nothing after the segments given so far may leave."""

    def prime(self, text: str) -> None:
        """The answer began with this, delivered by an earlier worker; nothing of it can be changed. Called first."""

    def feed(self, text: str) -> list[Segment]:
        """More of the answer. The segments cover, in order, some or all of what was fed and not yet covered."""

    def finish(self) -> list[Segment]:
        """No more comes: the segments cover all that was held."""
