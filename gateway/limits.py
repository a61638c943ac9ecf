"""What one client may ask for, in figures, and the token bucket that spreads it over time. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from gateway.window import WINDOW_BYTES

KIB: Final = 1024
SECOND_MS: Final = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds of a gateway. Every queue of it is bounded by one of these.

    frame_bytes: a larger frame or body is refused by name; four times as much ends the socket (1009).
    window_bytes: how far a client may be behind before it is fed from the log.
    turns_per_second / turns_burst, frames_per_second / frames_burst: per key, on this gateway.
    lanes, lane_requests, waiting_bytes: lanes of one socket, requests that wait in one lane, and bytes of all requests
    that wait on one socket. attached: conversations and turns
    that one socket follows. sockets: open sockets of one gateway; sockets_per_key: of one key, so that no key can take
    them all. connections: of any kind, with those that have shown no key yet. head_bytes, head_ms: how large a
    request's head may be and how long it may take; body_ms: the same for a body. idle_channels: conversations nobody
    listens to that are still folded, so that the next turn of each begins without reading the log.
    repeat_after_ms: a keyed submit that is not accepted by then is looked for in the log. accept_ms: for how long no
    worker of turns must have been heard for the client to be told so, and a quarter of how long a turn may stay without
    an owner while some are heard. longest_turn_ms: no turn may stay open longer than that. key_cache_ms: how long a
    verified key is believed. drain_ms: how long running HTTP streams may go on when the gateway stops.
    """

    frame_bytes: int = 256 * KIB
    window_bytes: int = WINDOW_BYTES
    turns_per_second: float = 20.0
    turns_burst: int = 200
    frames_per_second: float = 200.0
    frames_burst: int = 1000
    lanes: int = 64
    lane_requests: int = 16
    waiting_bytes: int = 1024 * KIB
    attached: int = 256
    sockets: int = 20_000
    sockets_per_key: int = 10_000
    connections: int = 24_000
    head_bytes: int = 64 * KIB
    head_ms: int = 10_000
    body_ms: int = 30_000
    idle_channels: int = 4096
    repeat_after_ms: int = 1000
    accept_ms: int = 15_000
    longest_turn_ms: int = 900_000
    key_cache_ms: int = 30_000
    drain_ms: int = 5000


class TokenBucket:
    """`burst` at once, `per_second` in the long run."""

    __slots__ = ("_at_ms", "_burst", "_per_ms", "_tokens")

    def __init__(self, per_second: float, burst: int, now_ms: int) -> None:
        self._per_ms = per_second / SECOND_MS
        self._burst = float(burst)
        self._tokens = float(burst)
        self._at_ms = now_ms

    def take(self, now_ms: int) -> int:
        """0 when one token was taken; otherwise how many milliseconds until there is one, and nothing is taken."""
        self._tokens = min(self._burst, self._tokens + max(0, now_ms - self._at_ms) * self._per_ms)
        self._at_ms = max(self._at_ms, now_ms)
        if self._tokens >= 1:
            self._tokens -= 1
            return 0
        return int((1 - self._tokens) / self._per_ms) + 1
