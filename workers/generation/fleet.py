"""The generation workers as the turns worker sees them: follows `workers` and places model calls by what they say."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from streams.bus import Bus
from streams.events.generating import GenerationRequested
from streams.following import WorkersFollower
from streams.topology import GENERATIONS
from workers.generation.placement import Placement

GATHER_MS: Final = 50  # a tenth of what makes a worker's word stale


class Fleet:
    """`start`, then `place`; `stop` at the end."""

    def __init__(
        self, bus: Bus, placement: Placement | None = None, now_ms: Callable[[], float] = lambda: time.monotonic() * 1e3
    ) -> None:
        self.placement = placement or Placement()
        self._bus = bus
        self._now_ms = now_ms
        self._partitions = 1
        self._follower = WorkersFollower(bus, lambda alive: self.placement.hear(alive, self._now_ms()), GATHER_MS)

    async def start(self) -> None:
        """Begin to listen. Raises PeerError when the bus is away."""
        self._partitions = await self._bus.partitions_of(GENERATIONS.name)
        await self._follower.start()

    async def stop(self) -> None:
        """Safe to call twice."""
        await self._follower.stop()

    def place(self, request: GenerationRequested) -> int:
        """The partition of `generations` for a request."""
        return self.placement.choose(request.conversation, request.model, self._now_ms(), self._partitions)
