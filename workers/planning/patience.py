"""Asking a peer again while it is away, as long as the turn that needs the answer has time.

Postgres restarts, an embedding server is replaced: if it returns before the turn's deadline, the turn goes on. A peer
that refuses for good is not asked twice.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from streams.errors import PeerError
from streams.retry import Backoff

log = logging.getLogger("headstart.turns")
T = TypeVar("T")
PAUSES: Final = Backoff(first_ms=50.0, limit_ms=500.0, least_ms=20.0, attempts=None)
SPARE_MS: Final = 500.0  # before the deadline: time to say by name what was missing


async def patiently(ask: Callable[[], Awaitable[T]], until_ms: float, clock_ms: Callable[[], float]) -> T:
    """What `ask` gives. After a PeerError that may pass it is asked again, with jitter, until half a second before
    `until_ms` (wall clock, as `clock_ms`); then that error is raised. Any other error is raised at once."""
    failures = 0
    while True:
        try:
            return await ask()
        except PeerError as error:
            failures += 1
            wait_ms = PAUSES.wait_ms(failures, random.random())
            assert wait_ms is not None
            if not error.retriable or clock_ms() + wait_ms > until_ms - SPARE_MS:
                raise
            if failures == 1:
                log.warning("waiting for a peer: %s", error)
        await asyncio.sleep(wait_ms / 1000)
