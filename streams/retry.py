"""When to try again, as values: exponential backoff with full jitter. Pure; the random number is an argument.

Full jitter (a uniform draw between nothing and the bound) spreads clients that failed together over the whole bound.
"""

from __future__ import annotations

import msgspec


class Backoff(msgspec.Struct, frozen=True, kw_only=True):
    """first_ms doubles with each failure up to limit_ms. attempts: how many tries there are, the first one counted;
    None never gives up. least_ms is waited in any case, so that a hot loop is impossible."""

    first_ms: float = 50.0
    limit_ms: float = 5_000.0
    least_ms: float = 5.0
    attempts: int | None = 5

    def bound_ms(self, failures: int) -> float:
        """The longest wait after this many failures (from 1)."""
        if failures < 1:
            raise ValueError("there is nothing to wait for before the first failure")
        return float(min(self.limit_ms, self.first_ms * 2.0 ** min(failures - 1, 64)))

    def wait_ms(self, failures: int, chance: float) -> float | None:
        """How long to wait after this many failures, None when it is time to give up. chance: uniform in 0..1."""
        if self.attempts is not None and failures >= self.attempts:
            return None
        return max(self.least_ms, chance * self.bound_ms(failures))


FOREVER = Backoff(attempts=None)
