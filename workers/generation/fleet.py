"""The generation workers as the turns worker sees them: follows `workers` and places model calls by what they say."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from streams.bus import Bus, Reader
from streams.codec import decode
from streams.errors import HeadstartError, PeerError
from streams.events.generating import GenerationRequested
from streams.events.registering import WorkerAlive
from streams.topology import GENERATIONS, WORKERS
from workers.generation.placement import Placement

log = logging.getLogger(__name__)
GATHER_MS = 50  # a tenth of what makes a worker's word stale


class Fleet:
    """`start`, then `place`; `stop` at the end."""

    def __init__(
        self, bus: Bus, placement: Placement | None = None, now_ms: Callable[[], float] = lambda: time.monotonic() * 1e3
    ) -> None:
        self.placement = placement or Placement()
        self._bus = bus
        self._now_ms = now_ms
        self._partitions = 1
        self._reader: Reader | None = None
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to listen. What workers said before is stale in half a second, so it is not read."""
        self._partitions = await self._bus.partitions_of(GENERATIONS.name)
        self._reader = await self._bus.reader(WORKERS.name, {0: "latest"}, gather_ms=GATHER_MS)
        self._task = asyncio.create_task(self._follow(self._reader))

    async def stop(self) -> None:
        """Safe to call twice."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
        if self._reader is not None:
            await self._reader.close()
            self._reader = None

    def place(self, request: GenerationRequested) -> int:
        """The partition of `generations` for a request."""
        return self.placement.choose(request.conversation, request.model, self._now_ms(), self._partitions)

    async def _follow(self, reader: Reader) -> None:
        while True:
            try:
                for record in await reader.batch():
                    try:
                        event = decode(record)
                    except HeadstartError:
                        continue  # a kind of sign that this build does not know
                    if isinstance(event, WorkerAlive):
                        self.placement.hear(event, self._now_ms())
            except PeerError as error:
                log.warning("the workers cannot be heard: %s", error)
                await asyncio.sleep(0.5)
