"""Who is at work? Follows what workers say of themselves on `workers`, from now on.

What was said before the start is stale in half a second, so it is not read; what this build does not know is left out.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from streams.bus import Bus, Reader
from streams.codec import decode
from streams.errors import HeadstartError
from streams.events.registering import WorkerAlive
from streams.topology import WORKERS

log = logging.getLogger(__name__)
RETRY_S: Final = 0.5


class WorkersFollower:
    """`start`, then `hear` is called with each sign of life until `stop`. `hear` must neither wait nor raise.

    gather_ms: how much later a sign may be heard, several at a time. retry_s: the pause after a failed read.
    """

    def __init__(self, bus: Bus, hear: Callable[[WorkerAlive], None], gather_ms: int, retry_s: float = RETRY_S) -> None:
        self._bus = bus
        self._hear = hear
        self._gather_ms = gather_ms
        self._retry_s = retry_s
        self._reader: Reader | None = None
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Raises PeerError when the bus is away."""
        self._reader = await self._bus.reader(WORKERS.name, {0: "latest"}, gather_ms=self._gather_ms)
        self._task = asyncio.create_task(self._follow(self._reader))

    async def stop(self) -> None:
        """Safe to call twice."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        reader, self._reader = self._reader, None
        if reader is not None:
            await reader.close()

    async def _follow(self, reader: Reader) -> None:
        while True:
            try:
                for record in await reader.batch():
                    try:
                        event = decode(record)
                    except HeadstartError:
                        continue  # a kind of sign that this build does not know
                    if isinstance(event, WorkerAlive):
                        self._hear(event)
            except HeadstartError as error:
                log.warning("the workers can not be heard: %s", error)
                await asyncio.sleep(self._retry_s)
            except Exception:
                # Whatever it is, it is followed on: everybody would look dead otherwise.
                log.exception("the workers can not be heard, in a way of its own")
                await asyncio.sleep(self._retry_s)
