"""Generation workers on a scripted engine, with the log in memory and a clock that stands still."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Any

from streams import ids
from streams.codec import Identity, Record, decode, identity
from streams.events import Event
from streams.events.generating import GenerationRequested, Message, Sampling
from streams.fence import Fence
from streams.memory_bus import MemoryBus
from streams.models import ModelSpec
from streams.topology import EVENTS, GENERATIONS
from workers.generation.engine import EngineDelta, EngineEvent, EngineFinished, EngineRequest
from workers.generation.models import Models
from workers.generation.scripted_engine import ScriptedEngine
from workers.generation.stage import Clock
from workers.generation.worker import GenerationWorker

CONVERSATION = ids.conversation_id(1, 1_000, bytes(10))
TURN = ids.turn_id(CONVERSATION, 2_000, bytes(10))
ANSWER = "The Größe of it is 12 £, and that is all there is to say about it."


class HandClock(Clock):
    """Both clocks stand at `now` until a test moves them."""

    def __init__(self, now: float = 10_000.0) -> None:
        super().__init__(lambda: self.now, lambda: self.now)
        self.now = now


class GatedEngine(ScriptedEngine):
    """A scripted engine that stops before delta number `hold_at` until `gate` is set, and counts what it closed."""

    def __init__(self, script: Callable[[EngineRequest], str], hold_at: int | None = None) -> None:
        super().__init__(script)
        self.hold_at = hold_at
        self.gate = asyncio.Event()
        self.reached = asyncio.Event()
        self.closed = 0
        self.requests: list[EngineRequest] = []

    async def generate(self, request: EngineRequest) -> AsyncGenerator[EngineEvent, None]:
        self.requests.append(request)
        deltas = 0
        whole = False
        inner = super().generate(request)
        try:
            async for event in inner:
                if isinstance(event, EngineDelta):
                    if deltas == self.hold_at:
                        self.reached.set()
                        await self.gate.wait()
                    deltas += 1
                whole = isinstance(event, EngineFinished)
                yield event
        finally:
            await inner.aclose()
            self.closed += not whole


def request(**changes: Any) -> GenerationRequested:
    """A model call for the answer of TURN."""
    fields: dict[str, Any] = {
        "conversation": CONVERSATION, "turn": TURN, "step": "answer", "epoch": 1, "model": "default",
        "messages": (Message("system", "Be brief."), Message("user", "What is it?")),
        "sampling": Sampling(max_tokens=500), "at_ms": 9_000, "deadline_at_ms": 60_000, "turn_offset": 0,
    }  # fmt: skip
    return GenerationRequested(**{**fields, **changes})


async def make_worker(bus: MemoryBus, engine: ScriptedEngine, clock: Clock, **options: Any) -> GenerationWorker:
    """A worker that has started, its model named `default`."""
    spec = ModelSpec(engine="scripted", model="unused", requests_at_once=options.pop("requests_at_once", 8))
    await engine.start()
    worker = GenerationWorker(bus, Models({"default": engine}, {"default": spec}), clock=clock, **options)
    await worker.start()
    return worker


async def until_running(worker: GenerationWorker, count: int) -> None:
    """Returns when that many run: the last word is in the log a moment before its task ends."""
    while worker.running > count:  # noqa: ASYNC110 - the loop has nothing else to wait for
        await asyncio.sleep(0)


async def ask(bus: MemoryBus, event: Event, partition: int = 0) -> None:
    await bus.publish(GENERATIONS.name, partition, CONVERSATION, event, f"ask-{id(event)}", "test")


async def read_until(bus: MemoryBus, done: Callable[[Sequence[Record]], bool]) -> list[Record]:
    """The records of TURN's partition of `events`, read from the start until `done` says so."""
    reader = await bus.reader(EVENTS.name, {1: "earliest"})
    records: list[Record] = []
    while not done(records):
        records.extend(await reader.batch(wait_ms=50))
    await reader.close()
    return records


def seen(kind: str, count: int = 1) -> Callable[[Sequence[Record]], bool]:
    """`done` for read_until: that many records whose type names this, e.g. "answer.finished"."""
    return lambda records: sum(f".{kind}." in record.type for record in records) >= count


def counting(records: Sequence[Record]) -> list[tuple[Identity, Event]]:
    """What every reader of the log counts."""
    fence = Fence()
    facts = []
    for record in records:
        fact = identity(record)
        if fence.judge(fact, record.source, record.type) == "counts":
            facts.append((fact, decode(record)))
    return facts
