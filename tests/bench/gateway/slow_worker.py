"""One of three generation workers is five times slower: how long the first token takes, placed against hashed.

The real workers, lanes and placement, on a log in memory and with scripted engines, so that nothing but the choice of
the worker differs: placement.py, which hears how loaded they are, or the conversation's hash alone. Requests come as a
Poisson process, the same for both.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from dataclasses import dataclass
from typing import Any, Final

from streams import ids
from streams.bus import Start
from streams.events.generating import AnswerDelta, GenerationRequested, Message, Sampling
from streams.events.registering import WorkerAlive
from streams.memory_bus import MemoryBroker, MemoryBus
from streams.models import DEFAULT_MODEL, ModelSpec
from streams.topology import EVENTS, GENERATIONS
from tests.bench.driving import MS, clock
from tests.bench.figures import Spread, number, spread, table
from tests.bench.gateway.parts import Section, World
from workers.generation.fleet import Fleet
from workers.generation.models import Models
from workers.generation.placement import Placement
from workers.generation.scripted_engine import ScriptedEngine
from workers.generation.worker import GenerationWorker

PARTITIONS: Final = 32
PLACES: Final = 8  # generations side by side in one worker
TOKENS: Final = 20
FAST, SLOW = 40.0, 8.0  # tokens per second of each answer
WORKERS: Final = (FAST, FAST, SLOW)
CAPACITY: Final = sum(PLACES * pace / TOKENS for pace in WORKERS)  # answers per second
LOADS: Final = (0.25, 0.6)
SECONDS, QUICK_S = 15.0, 5.0
JOIN_S: Final = 2.0  # until each worker holds its partitions and has said so
SEED: Final = 20
TEXT = """\
Three workers with {places} places each, {fast:g}, {fast:g} and {slow:g} tokens/s, answers of {tokens} tokens:
{capacity:g} answers a second at most. First token: from the request on the bus to the first delta on the bus; a request
that had none at the end counts with the time it had waited. Slow: share of the requests that the slow worker got."""


class Hashed(Placement):
    """Hears nothing of the workers, so each conversation's own hash decides."""

    def hear(self, alive: WorkerAlive, now_ms: float) -> None:
        return


@dataclass(frozen=True, slots=True)
class Outcome:
    load: float
    how: str
    first_ms: Spread
    unanswered: int
    slow_share: float

    def as_json(self) -> dict[str, Any]:
        return {"load": self.load, "how": self.how, "first_token_ms": self.first_ms.as_json(),
                "unanswered": self.unanswered, "slow_share": round(self.slow_share, 3)}  # fmt: skip


async def run(world: World) -> Section:
    seconds = QUICK_S if world.quick else SECONDS
    outcomes = []
    for load in LOADS:
        for how, placement in (("placed", Placement()), ("hashed", Hashed())):
            world.say(f"  slow worker: {how}, {load:.0%} of what they can do …")
            outcomes.append(await _outcome(load, how, placement, seconds))
    rows = [
        [f"{one.load:.0%}", one.how, str(one.first_ms.count), number(one.first_ms.p50), number(one.first_ms.p95),
         number(one.first_ms.p99), str(one.unanswered), f"{one.slow_share:.0%}"]
        for one in outcomes
    ]  # fmt: skip
    head = ["load", "how", "requests", "first token p50 ms", "p95 ms", "p99 ms", "none yet", "slow"]
    text = TEXT.format(places=PLACES, fast=FAST, slow=SLOW, tokens=TOKENS, capacity=CAPACITY)
    return Section(
        "a slow generation worker", f"{text}\n\n{table(head, rows)}", {"rows": [one.as_json() for one in outcomes]}
    )


async def _outcome(load: float, how: str, placement: Placement, seconds: float) -> Outcome:
    broker = MemoryBroker(PARTITIONS)
    bus = MemoryBus(broker)
    await bus.start()
    fleet = Fleet(bus, placement)
    await fleet.start()
    workers = [await _worker(broker, pace) for pace in WORKERS]
    await asyncio.sleep(JOIN_S)
    first = FirstDeltas(bus)
    await first.start()
    asked: dict[str, float] = {}
    try:
        chance = random.Random(SEED)
        due, until = clock(), clock() + seconds
        while (due := due + chance.expovariate(load * CAPACITY)) < until:
            await asyncio.sleep(max(0.0, due - clock()))
            request = _request(chance)
            asked[request.turn] = clock()
            await bus.publish(
                GENERATIONS.name, fleet.place(request), request.conversation, request, f"{request.turn}/ask", "bench"
            )
        await asyncio.sleep(TOKENS / FAST)
    finally:
        now = clock()
        await first.stop()
        await fleet.stop()
        for worker in workers:
            await worker.stop(drain_ms=0)
        await bus.stop()
    waits = [(first.at.get(turn, now) - began) * MS for turn, began in asked.items()]
    slow = sum(first.writer.get(turn) == workers[-1].writer for turn in asked)
    return Outcome(load, how, spread(waits), len(asked.keys() - first.at.keys()), slow / len(asked))


async def _worker(broker: MemoryBroker, pace: float) -> GenerationWorker:
    bus = MemoryBus(broker)
    await bus.start()
    engine = ScriptedEngine(lambda request: "abc" * TOKENS, tokens_per_second=pace)
    await engine.start()
    spec = ModelSpec(engine="scripted", model="unused", requests_at_once=PLACES)
    worker = GenerationWorker(bus, Models({DEFAULT_MODEL: engine}, {DEFAULT_MODEL: spec}))
    await worker.start()
    return worker


def _request(chance: random.Random) -> GenerationRequested:
    at_ms = int(time.time() * 1000)
    conversation = ids.conversation_id(chance.randrange(PARTITIONS), at_ms, os.urandom(10))
    return GenerationRequested(
        conversation=conversation, turn=ids.turn_id(conversation, at_ms, os.urandom(10)), step="answer", epoch=1,
        model=DEFAULT_MODEL, messages=(Message("user", "Go on."),), sampling=Sampling(max_tokens=TOKENS), at_ms=at_ms,
        deadline_at_ms=at_ms + 600_000, turn_offset=0,
    )  # fmt: skip


class FirstDeltas:
    """When each turn's first delta reached a reader of the log, and who wrote it."""

    def __init__(self, bus: MemoryBus) -> None:
        self.at: dict[str, float] = {}
        self.writer: dict[str, str] = {}
        self._bus = bus
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        starts: dict[int, Start] = dict.fromkeys(range(self._bus.partitions), "latest")
        reader = await self._bus.reader(EVENTS.name, starts)

        async def follow() -> None:
            try:
                while True:
                    for record in await reader.batch():
                        turn = record.event_id.partition("/")[0]
                        self.writer.setdefault(turn, record.source)
                        if record.type == AnswerDelta.TYPE:
                            self.at.setdefault(turn, clock())
            finally:
                await reader.close()

        self._task = asyncio.create_task(follow())

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
