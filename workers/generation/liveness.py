"""A worker's sign of life on `workers`, every 500 ms: how loaded it is, what it holds, whether it is leaving.

It is said while the worker is at work (streams/pulse.py). One whose consumer stands still says nothing: then nothing is
placed with it, a gateway tells its clients that nobody takes their turns, and its container is not healthy.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Callable

from streams.bus import Bus
from streams.errors import PeerError
from streams.events.registering import WorkerAlive
from streams.pulse import Pulse
from streams.topology import WORKERS

log = logging.getLogger(__name__)
PERIOD_MS = 500


class Liveness:
    """Says what `describe` gives, until it is stopped; then once more, with `leaving`."""

    def __init__(
        self, bus: Bus, describe: Callable[[bool], WorkerAlive], pulse: Pulse, period_ms: float = PERIOD_MS
    ) -> None:
        """describe(leaving): the sign to be given now. pulse: of the worker's consumer."""
        self._bus = bus
        self._describe = describe
        self._pulse = pulse
        self._silent = False
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

    async def look(self) -> bool:
        """One sign, now, if the worker is at work; gives whether it is. The log says when that changes."""
        missing = self._pulse.missing()
        if bool(missing) is not self._silent:
            self._silent = bool(missing)
            log.warning("%s", f"this worker is silent: {missing}" if missing else "this worker is at work again")
        if not missing:
            await self.say()
        return not missing

    async def _run(self) -> None:
        while True:
            _ = await self.look()
            await asyncio.sleep(self._period_ms / 1000)
