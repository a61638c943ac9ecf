"""A worker's sign of life on `workers`, every 500 ms: how loaded it is, what it holds, whether it is leaving."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Callable

from streams.bus import Bus
from streams.errors import PeerError
from streams.events.registering import WorkerAlive
from streams.topology import WORKERS

log = logging.getLogger(__name__)
PERIOD_MS = 500


class Liveness:
    """Says what `describe` gives, until it is stopped; then once more, with `leaving`."""

    def __init__(self, bus: Bus, describe: Callable[[bool], WorkerAlive], period_ms: float = PERIOD_MS) -> None:
        """describe(leaving): the sign to be given now."""
        self._bus = bus
        self._describe = describe
        self._period_ms = period_ms
        self._numbers = itertools.count()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Say the last word; safe to call twice."""
        if self._task is None:
            return
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        self._task = None
        await self.say(leaving=True)

    async def say(self, leaving: bool = False) -> None:
        """One sign, now. A broker that does not take it is not an error: the next one comes soon."""
        sign = self._describe(leaving)
        event_id = f"{sign.worker}/{next(self._numbers)}"
        try:
            await self._bus.publish(WORKERS.name, 0, sign.worker, sign, event_id, sign.worker)
        except PeerError as error:
            log.warning("a sign of life was not taken: %s", error)

    async def _run(self) -> None:
        while True:
            await self.say()
            await asyncio.sleep(self._period_ms / 1000)
