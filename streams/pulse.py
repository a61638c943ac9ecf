"""Is a consumer at work? Its loop comes round, and its reader gets what there is.

A process, its tasks and its event loop may all be alive while nothing moves: a step that never ends, a peer that is
waited for, a client that has stopped delivering without an error. So a consumer's loop beats its pulse each time it has
carried out what it was given, and a worker says that it is alive only while the pulse is there (liveness.py,
health.py). What is stuck in the client is built anew by the reader itself (progress.py); until that has helped, the
pulse is gone too.

Pure: the clock is an argument.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

QUIET_MS: Final = 5_000  # ten turns of an idle loop, and above any step that waits for nobody


class Delivering(Protocol):
    """What is asked of a reader (bus.GroupReader)."""

    @property
    def stalled(self) -> bool: ...


class Pulse:
    """One consumer's. clock_ms: monotonic. quiet_ms: for how long its loop may take to come round."""

    def __init__(self, clock_ms: Callable[[], float], quiet_ms: float = QUIET_MS) -> None:
        self._clock_ms = clock_ms
        self._quiet_ms = quiet_ms
        self._beat_at_ms = clock_ms()
        self._reader: Delivering | None = None

    def follow(self, reader: Delivering) -> None:
        """The consumer begins with this reader: as of now, it is at work."""
        self._reader = reader
        self.beat()

    def beat(self) -> None:
        """The loop came round: what it was given is carried out, or handed to whoever carries it out."""
        self._beat_at_ms = self._clock_ms()

    def missing(self) -> str:
        """Why the consumer is not at work, as a clause for a log line; "" while it is."""
        quiet_ms = self._clock_ms() - self._beat_at_ms
        if quiet_ms > self._quiet_ms:
            return f"its loop has not come round for {quiet_ms:.0f} ms"
        if self._reader is not None and self._reader.stalled:
            return "there are records and its reader gets none"
        return ""
