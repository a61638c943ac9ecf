"""Signs of life from a worker to whoever places work."""

from __future__ import annotations

import asyncio

import pytest

from streams.events.registering import WorkerAlive
from streams.memory_bus import MemoryBroker, MemoryBus
from streams.pulse import Pulse
from tests.support.generations import HandClock, make_worker, request
from workers.generation.fleet import Fleet
from workers.generation.liveness import Liveness
from workers.generation.placement import Placement
from workers.generation.scripted_engine import ScriptedEngine


class Hearing(Placement):
    """Says when it has heard something."""

    def __init__(self) -> None:
        super().__init__()
        self.heard: asyncio.Queue[WorkerAlive] = asyncio.Queue()

    def hear(self, alive: WorkerAlive, now_ms: float) -> None:
        super().hear(alive, now_ms)
        self.heard.put_nowait(alive)


@pytest.mark.asyncio
async def test_work_goes_where_a_living_worker_holds_a_partition() -> None:
    broker = MemoryBroker(4)
    bus = MemoryBus(broker)
    await bus.start()
    hearing = Hearing()
    fleet = Fleet(bus, hearing, now_ms=lambda: 0.0)
    await fleet.start()
    worker = await make_worker(bus, ScriptedEngine(lambda request: "hi"), HandClock())
    while not (sign := await hearing.heard.get()).partitions:
        await worker.say_alive()
    assert (sign.worker, sign.stage, sign.capacity) == (worker.writer, "generation", 8)
    assert sign.models == ("default",)
    assert fleet.place(request()) in sign.partitions
    await worker.stop()
    while not (await hearing.heard.get()).leaving:
        continue
    assert fleet.place(request(model="nobody")) in range(4)
    await fleet.stop()
    await fleet.stop()


@pytest.mark.asyncio
async def test_a_sign_that_is_not_taken_is_followed_by_the_next() -> None:
    bus = MemoryBus()
    await bus.start()
    pulse = Pulse(lambda: 0.0)
    liveness = Liveness(bus, lambda leaving: WorkerAlive(worker="w", stage="turns", at_ms=1, leaving=leaving), pulse)
    bus.broker.refuse = 1
    await liveness.say()
    await liveness.say()
    reader = await bus.reader("workers", {0: "earliest"})
    assert [record.event_id for record in await reader.batch()] == ["w/1"]
    await liveness.stop()  # it never started, so it has no last word
    assert await reader.batch(wait_ms=0) == []
