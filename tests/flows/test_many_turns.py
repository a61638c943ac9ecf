"""A thousand turns that wait on one turns worker: small objects on one event loop, no threads."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from streams import ids
from streams.bus import Start
from tests.support.turn_world import T0, World, world

pytestmark = pytest.mark.asyncio
TURNS = 1_000


class Stalls:
    """Watches the running event loop: how much later than asked it came back to a timer, at worst."""

    def __init__(self) -> None:
        self.longest_ms = 0.0
        self._asked_at = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        self._asked_at = time.perf_counter()
        self._timer = asyncio.get_running_loop().call_later(0.001, self._came)

    def stop(self) -> None:
        assert self._timer is not None
        self._timer.cancel()

    def _came(self) -> None:
        self.longest_ms = max(self.longest_ms, (time.perf_counter() - self._asked_at) * 1000 - 1)
        self.start()


async def requests(scene: World, count: int) -> None:
    """Returns when so many model calls have been asked for, over all partitions."""
    start: dict[int, Start] = dict.fromkeys(range(scene.bus.partitions), "earliest")
    reader = await scene.bus.reader("generations", start)
    try:
        while count > 0:
            count -= len(await reader.batch())
    finally:
        await reader.close()


async def test_a_thousand_waiting_turns_add_no_threads(capsys: pytest.CaptureFixture[str]) -> None:
    async with world() as scene:
        owner = await scene.owner()
        await scene.submit(scene.conversation(), "Hello", agent="companion")
        await requests(scene, 1)
        threads, tasks, stalls = threading.active_count(), len(asyncio.all_tasks()), Stalls()
        stalls.start()
        for number in range(1, TURNS):
            conversation = ids.conversation_id(number % 2, T0, number.to_bytes(10, "big"))
            await scene.submit(conversation, "Hello", f"event-{number}", agent="companion")
        await requests(scene, TURNS)
        stalls.stop()
        assert owner.running == TURNS
        assert threading.active_count() == threads
        assert len(asyncio.all_tasks()) == tasks
        with capsys.disabled():
            print(f"\n{TURNS} waiting turns, {threads} threads; longest stall of the loop {stalls.longest_ms:.1f} ms")
