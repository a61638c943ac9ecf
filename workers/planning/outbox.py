"""The one queue through which an owner writes facts: order as put, one task, no waiting for acknowledgements.

A fact is put synchronously, so a machine's commands leave in the order it gave them; the pump hands them to the bus,
which batches. Bounded by the turns that write: `size` is a metric, and a full bus slows the pump, not the poll loop.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable

log = logging.getLogger("headstart.turns")
Post = Callable[[], Awaitable["asyncio.Future[int]"]]


class Outbox:
    """Start with `run` as a task; `put` from anywhere on the same loop."""

    def __init__(self) -> None:
        self._queue: deque[tuple[Post, asyncio.Future[int] | None]] = deque()
        self._filled = asyncio.Event()
        self._emptied = asyncio.Event()
        self._emptied.set()

    @property
    def size(self) -> int:
        return len(self._queue)

    def put(self, post: Post) -> None:
        """Queue a write whose outcome nobody waits for; a failure is logged and breaks its stage's writer."""
        self._queue.append((post, None))
        self._filled.set()
        self._emptied.clear()

    def put_acknowledged(self, post: Post) -> asyncio.Future[int]:
        """Queue a write; the future gives the acknowledged offset, or the failure."""
        done: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._queue.append((post, done))
        self._filled.set()
        self._emptied.clear()
        return done

    async def run(self) -> None:
        """Pumps until cancelled; what is still queued then is not written."""
        while True:
            await self._filled.wait()
            while self._queue:
                post, done = self._queue[0]
                await self._one(post, done)
                self._queue.popleft()
            self._filled.clear()
            self._emptied.set()

    async def drained(self) -> None:
        """Waits until everything put so far was handed to the bus."""
        await self._emptied.wait()

    async def _one(self, post: Post, done: asyncio.Future[int] | None) -> None:
        try:
            future = await post()
        except Exception as error:
            if done is None:
                log.error("a fact could not be written: %s", error)
            elif not done.done():
                done.set_exception(error)
            return
        if done is not None:
            future.add_done_callback(lambda given: _copy(given, done))


def _copy(given: asyncio.Future[int], done: asyncio.Future[int]) -> None:
    if done.done():
        return
    if given.cancelled():
        done.cancel()
    elif (error := given.exception()) is not None:
        done.set_exception(error)
    else:
        done.set_result(given.result())
