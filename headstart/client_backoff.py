"""How long to wait before the next connection attempt: exponential growth with full jitter.

When a gateway restarts, all of its clients lose their sockets in the same instant. Waiting a uniformly random
share of a growing ceiling spreads their return evenly over it; a fixed wait, or one with a little noise, would
bring them back as one wave.

Pure: randomness is an argument.
"""

from __future__ import annotations

import msgspec


class Backoff(msgspec.Struct, frozen=True, kw_only=True):
    """The ceiling of attempt n (from 0) is first_ms * factor**n, at most longest_ms. attempts: how many failures in a
    row are taken before the caller gives up, None for no limit."""

    first_ms: float = 250.0
    factor: float = 2.0
    longest_ms: float = 8_000.0
    attempts: int | None = 10

    def ceiling_ms(self, attempt: int) -> float:
        """The longest wait before attempt number `attempt`, counted from 0."""
        # 64 doublings exceed any ceiling; the bound keeps the power from overflowing after days of failures.
        return min(self.longest_ms, self.first_ms * self.factor ** min(attempt, 64))

    def delay_ms(self, attempt: int, draw: float) -> float:
        """The wait before attempt number `attempt`. draw: uniform in 0..1."""
        return self.ceiling_ms(attempt) * draw

    def exhausted(self, failures: int) -> bool:
        """True when this many failures in a row are enough to give up."""
        return self.attempts is not None and failures >= self.attempts
