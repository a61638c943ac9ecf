"""The generation worker on a real log, with whatever engine it is given, in this process.

Who asks is a process of its own (asker.py), as a turns worker is. Cancel and takeover are asked from here, where the
engine can be watched.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec

from memory.opening import open_bus
from streams import ids
from streams.bus import Bus
from streams.codec import decode, identity
from streams.events.generating import AnswerDelta, GenerationAbort, GenerationRequested, Message, Sampling
from streams.fence import Fence
from streams.models import DEFAULT_MODEL, ModelSpec
from streams.settings import Settings
from streams.topology import EVENTS, GENERATIONS
from tests.bench.driving import MS, clock
from tests.bench.gateway.ground import broker_alone, without_settings
from tests.bench.gpu.asking import Answered, Task, question
from tests.bench.own_environment import LeftOut, last_line_of
from workers.generation.engine import Engine
from workers.generation.models import Models
from workers.generation.worker import GenerationWorker

PARTITIONS = 8
BEFORE = 4  # tokens before a cancel or a takeover
LONG = 1_000  # tokens that such an answer would have had
DEADLINE_MS = 600_000
ASKER_S = 560.0
WORKER = "bench"


def request_of(stream: int, round_number: int, tokens: int) -> GenerationRequested:
    """A model call as a turns worker asks for it, of a new turn in a new conversation."""
    at_ms = int(time.time() * 1000)
    conversation = ids.conversation_id(stream % PARTITIONS, at_ms, os.urandom(10))
    return GenerationRequested(
        conversation=conversation, turn=ids.turn_id(conversation, at_ms, os.urandom(10)), step="answer", epoch=1,
        model=DEFAULT_MODEL, messages=tuple(Message(role, text) for role, text in question(stream, round_number)),
        sampling=Sampling(max_tokens=tokens), at_ms=at_ms, deadline_at_ms=at_ms + DEADLINE_MS, turn_offset=0,
    )  # fmt: skip


async def post(bus: Bus, event: GenerationRequested | GenerationAbort, name: str = "ask") -> None:
    partition = ids.partition_of(event.conversation)
    await bus.publish(GENERATIONS.name, partition, event.conversation, event, f"{event.turn}/{name}", WORKER)


@dataclass(slots=True)
class OnBus:
    """A worker that has joined. freed: waits until no request holds keys and values in the engine."""

    bus: Bus
    settings: Settings
    engine: Engine
    freed: Callable[[], Awaitable[None]]

    async def ask(self, task: Task) -> Answered:
        """Raises LeftOut when the asking process fails."""
        environment = {**without_settings(os.environ), **self.settings.environment(), "PYTHONPATH": os.getcwd()}
        asked = msgspec.json.encode(task).decode()
        said = await last_line_of(Path(sys.executable), "tests.bench.gpu.asker", asked, environment, ASKER_S)
        return msgspec.json.decode(said, type=Answered)

    async def cancel_ms(self) -> float:
        """From sending an abort of an answer in progress until its keys and values are freed."""
        async with self._speaking() as (request, _):
            began = clock()
            at_ms = int(time.time() * 1000)
            await post(self.bus, GenerationAbort(
                conversation=request.conversation, turn=request.turn, step=request.step, epoch=1, at_ms=at_ms
            ), "abort")  # fmt: skip
            while self.engine.running():  # noqa: ASYNC110 - an engine tells nobody
                await asyncio.sleep(0.001)
            await self.freed()
            return (clock() - began) * MS

    async def takeover_ms(self) -> float:
        """From re-issuing an answer in progress, as when its worker fell silent, to its next token. Raises LeftOut
        when that is not the very next one."""
        async with self._speaking() as (request, facts):
            began, told = clock(), 0
            await post(self.bus, msgspec.structs.replace(request, epoch=2, resume=True), "ask/2")
            async for epoch, delta in facts:
                if epoch == 2:
                    break
                told = delta.index + len(delta.ids)
            else:
                delta = AnswerDelta(text="", index=-1)
            took_ms = (clock() - began) * MS
            if delta.index != told:
                raise LeftOut(f"a takeover went on at token {delta.index} and not at {told}")
            at_ms = int(time.time() * 1000)
            await post(self.bus, GenerationAbort(
                conversation=request.conversation, turn=request.turn, step=request.step, epoch=2, at_ms=at_ms
            ), "abort")  # fmt: skip
            while self.engine.running():  # noqa: ASYNC110 - an engine tells nobody
                await asyncio.sleep(0.001)
            return took_ms

    @asynccontextmanager
    async def _speaking(self) -> AsyncIterator[tuple[GenerationRequested, AsyncIterator[tuple[int, AnswerDelta]]]]:
        """A long answer of which BEFORE tokens are in the log; and its deltas that count, each with its epoch, from the
        first on, as they come."""
        request = request_of(0, 0, LONG)
        partition = ids.partition_of(request.conversation)
        reader = await self.bus.reader(EVENTS.name, {partition: "latest"})
        request = msgspec.structs.replace(request, turn_offset=reader.position(partition))
        seen: list[tuple[int, AnswerDelta]] = []
        fence = Fence()

        async def deltas() -> AsyncIterator[tuple[int, AnswerDelta]]:
            given = 0
            while True:
                while given < len(seen):
                    yield seen[given]
                    given += 1
                for record in await reader.batch():
                    if not record.event_id.startswith(request.turn):
                        continue
                    fact = identity(record)
                    counts = fence.judge(fact, record.source, record.type) == "counts"
                    if counts and isinstance(event := decode(record), AnswerDelta):
                        seen.append((fact.epoch, event))

        try:
            await post(self.bus, request)
            async for _, delta in deltas():
                if delta.index + max(1, len(delta.ids)) >= BEFORE:
                    break
            yield request, deltas()
        finally:
            await reader.close()


@asynccontextmanager
async def on_bus(
    engine: Engine, folder: Path, kafka_home: Path | None, at_once: int, freed: Callable[[], Awaitable[None]]
) -> AsyncIterator[OnBus]:
    """A worker with this engine, which must have been started, on a broker of its own."""
    async with (
        broker_alone(folder, kafka_home, PARTITIONS) as settings,
        open_bus(settings, "bench") as bus,
        open_bus(settings, "bench-worker") as own,
    ):
        spec = ModelSpec(engine="vllm", requests_at_once=at_once)
        worker = GenerationWorker(own, Models({DEFAULT_MODEL: engine}, {DEFAULT_MODEL: spec}))
        await worker.start()
        try:
            while len(worker.alive().partitions) < PARTITIONS:  # noqa: ASYNC110 - nor does a worker
                await asyncio.sleep(0.05)
            yield OnBus(bus, settings, engine, freed)
        finally:
            await worker.stop(drain_ms=0)
