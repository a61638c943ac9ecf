"""A circuit breaker: after a run of failures a host is left alone for a while, then tried with one request.

                 FAILURES in a row                 pause over: one request goes
        closed ─────────────────────▶ open ─────────────────────────────────▶ trying
          ▲                            ▲                                         │
          │                            └───────────── it failed: twice as long ──┤
          └────────────────────────────────────────────────────── it succeeded ──┘

Pure: time is an argument; nothing wakes it up.
"""

from __future__ import annotations

from typing import Final, Literal

State = Literal["closed", "open", "trying"]
FAILURES: Final = 5  # in a row; fewer would open on what retries are for
FIRST_PAUSE_MS: Final = 1_000
LONGEST_PAUSE_MS: Final = 30_000


class Breaker:
    """The breaker of one host. Every `ask` that gave None is answered by exactly one of the three that follow it."""

    def __init__(self, failures: int = FAILURES, pause_ms: int = FIRST_PAUSE_MS) -> None:
        self.state: State = "closed"
        self._limit = failures
        self._first_pause_ms = self._pause_ms = pause_ms
        self._run = 0
        self._open_until_ms = 0

    def ask(self, now_ms: int) -> int | None:
        """None: the request may go. Otherwise: milliseconds after which asking again makes sense, at least 1."""
        if self.state == "closed":
            return None
        if self.state == "open" and now_ms >= self._open_until_ms:
            self.state = "trying"
            return None
        return max(1, self._open_until_ms - now_ms)

    def succeeded(self) -> None:
        """The host answered, whatever it answered short of 5xx."""
        self.state, self._run, self._pause_ms = "closed", 0, self._first_pause_ms

    def failed(self, now_ms: int) -> None:
        """The host could not be reached, was too slow, broke off or answered 5xx."""
        self._run += 1
        if self.state == "trying":
            self._pause_ms = min(self._pause_ms * 2, LONGEST_PAUSE_MS)
            self._open(now_ms)
        elif self.state == "closed" and self._run >= self._limit:
            self._open(now_ms)

    def abandoned(self, now_ms: int) -> None:
        """The request was given up by us, which says nothing about the host; another may try in its place."""
        if self.state == "trying":
            self.state, self._open_until_ms = "open", now_ms

    def _open(self, now_ms: int) -> None:
        self.state, self._open_until_ms = "open", now_ms + self._pause_ms
