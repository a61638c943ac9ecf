"""When is a reader stuck? Lag and no progress, seen twice in a row.

aiokafka can stop delivering without an error, so a task that is alive proves nothing. What counts is whether records
arrive while there are some. Pure: time is an argument.
"""

from __future__ import annotations

STALL_MS = 3_000  # far above any pause of a healthy broker, far below what a person would call an outage


class Progress:
    """Fed after every poll; says when the lag is worth asking for, and when the client should be built anew."""

    def __init__(self, stall_ms: int = STALL_MS) -> None:
        self._stall_ms = stall_ms
        self._since_ms: int | None = None
        self._suspicions = 0
        self.stalled = False
        """Rebuilding was asked for, and nothing has come since."""

    def polled(self, now_ms: int, records: int) -> bool:
        """After a poll that gave this many records: True when it is time to compare positions with the end."""
        if records or self._since_ms is None:
            self._since_ms = now_ms
            self._suspicions = 0
            self.stalled = self.stalled and not records
            return False
        return now_ms - self._since_ms >= self._stall_ms

    def compared(self, now_ms: int, lag: int | None) -> bool:
        """After the comparison; lag None: it could not be learned. True when the client should be rebuilt.

        One comparison with lag may meet records just on their way, so it takes two, each after a whole stall.
        """
        self._since_ms = now_ms
        behind = lag is None or lag > 0
        self._suspicions = self._suspicions + 1 if behind else 0
        self.stalled = self.stalled and behind
        if self._suspicions < 2:
            return False
        self._suspicions = 0
        self.stalled = True
        return True
