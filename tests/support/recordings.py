"""Recordings of mixed traffic, made on a bus in memory and a virtual clock."""

from __future__ import annotations

import asyncio

from headstart.replay.recorder import Selection, record
from headstart.replay.recording import Recording
from streams.memory_bus import MemoryBroker, MemoryBus
from tests.support.traffic import T0_MS, Traffic
from tests.support.traffic_cases import CASES, Case
from tests.support.virtual_time import run_virtually

LATE_S = 8.0  # for what still happens after the last turn's end: results of calls, heartbeats


def recorded_traffic(turns: int, seed: int, cases: tuple[Case, ...] = CASES) -> Recording:
    """So many turns (a few more: some cases are two), five at once at 20 tokens/s, with faults among them."""
    return run_virtually(_record(turns, seed, cases))


async def _record(turns: int, seed: int, cases: tuple[Case, ...]) -> Recording:
    loop = asyncio.get_running_loop()

    def now_ms() -> float:
        return T0_MS + loop.time() * 1000 + 0.123

    broker = MemoryBroker(4, now_ms=lambda: int(now_ms()))

    async def make_bus() -> MemoryBus:
        bus = MemoryBus(broker)
        await bus.start()
        return bus

    traffic = Traffic(make_bus, now_ms, seed=seed, cases=cases)
    await traffic.open()
    try:
        await traffic.run(turns)
        await asyncio.sleep(LATE_S)
    finally:
        await traffic.close()
    return await record(await make_bus(), Selection(), now_ms=int(now_ms()), origin="memory")
