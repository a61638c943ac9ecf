"""The network between each part and Apache Kafka is cut, stalled, half open and slow; when it is whole again the next
thing works.

Of every pair one operation works, then the fault begins and another one is under way: it ends by a typed error or goes
on when the fault is over, and the one after it works. Time-outs are short here: they are the bus's arguments. Here:
gateway, turns worker, generation worker and memory worker, each with a network, topics and groups of its own, all at
once on one broker.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest

from gateway.limits import Limits
from memory.embed import HashEmbedder
from memory.memory_store import MemoryStore
from streams import ids
from streams.bus import Bus
from streams.codec import Record, decode, identity
from streams.errors import PeerUnavailable
from streams.events import InputItem
from streams.events.conversation import ConversationOpened
from streams.events.generating import AnswerDelta, AnswerFinished, AnswerStarted
from streams.events.intake import TurnOptions, TurnSubmit
from streams.events.routing import RouteDecided
from streams.events.turn import TERMINAL_TYPES, TurnAccepted, TurnCompleted
from streams.models import DEFAULT_MODEL, ModelSpec
from streams.settings import Settings
from streams.topology import EVENTS, GENERATIONS, TURNS
from streams.writer import StageWriter
from tests.support.fault_proxy import FAULTS, Operation, broken_and_whole
from tests.support.gateways import Rig
from tests.support.generations import request
from tests.support.kafka_pairs import Pair, kafka_behind_proxies
from workers.generation.models import Models
from workers.generation.scripted_engine import ScriptedEngine
from workers.generation.worker import GenerationWorker
from workers.planning.worker import TurnsWorker
from workers.remembering.worker import MemoryWorker

pytestmark = [pytest.mark.asyncio, pytest.mark.kafka]
PARTITION = 1
POLL_S = 0.02


def wall_ms() -> int:
    return int(time.time() * 1000)


@asynccontextmanager
async def gateway(pair: Pair) -> AsyncIterator[Operation]:
    """A turn over HTTP. Who carries it out speaks to the broker directly, the gateway through its proxy."""
    opened = itertools.count()

    async def open_bus() -> Bus:
        return await (pair.direct() if next(opened) == 0 else pair.through())

    async with Rig(open_bus=open_bus) as rig:
        started = await rig.gateway(limits=Limits(accept_ms=20_000))
        async with rig.http(started) as http:
            numbers = itertools.count()

            async def operation() -> None:
                text = f"turn {next(numbers)}"
                answer = (await http.post("/v1/responses", json={"model": "headstart", "input": text})).json()
                if answer.get("error"):
                    raise PeerUnavailable(answer["error"]["message"], code=answer["error"]["code"])
                assert answer["output"][-1]["content"][0]["text"] == text

            yield operation


@asynccontextmanager
async def generation_worker(bus: Bus) -> AsyncIterator[None]:
    engine = ScriptedEngine(lambda _: "It is here.")
    await engine.start()
    specs = {DEFAULT_MODEL: ModelSpec(engine="scripted", model="unused", requests_at_once=8)}
    worker = GenerationWorker(bus, Models({DEFAULT_MODEL: engine}, specs))
    await worker.start()
    try:
        yield
    finally:
        await worker.stop(0)
        await engine.close()


async def until(bus: Bus, turn: str, say: Callable[[], Awaitable[int]], found: Callable[[Record], bool]) -> Record:
    """Says something, and reads `events` up to the first record of the turn that was looked for."""
    reader = await bus.reader(EVENTS.name, {PARTITION: "latest"})
    try:
        await say()
        while True:
            for record in await reader.batch():
                if identity(record).subject == turn and found(record):
                    return record
    finally:
        await reader.close()


@asynccontextmanager
async def generation(pair: Pair) -> AsyncIterator[Operation]:
    """A generation. Who asks and who reads the answer speak to the broker directly, the worker through its proxy."""
    direct = await pair.direct()
    async with generation_worker(await pair.through()):

        async def operation() -> None:
            conversation = ids.conversation_id(PARTITION, wall_ms(), os.urandom(10))
            turn = ids.turn_id(conversation, wall_ms(), os.urandom(10))
            asked = request(conversation=conversation, turn=turn, deadline_at_ms=1 << 50)
            await until(
                direct, turn, lambda: direct.publish(GENERATIONS.name, 0, conversation, asked, turn, "test"),
                lambda record: record.type == AnswerFinished.TYPE,
            )  # fmt: skip

        yield operation


@asynccontextmanager
async def turns(pair: Pair) -> AsyncIterator[Operation]:
    """A turn, from its submit to its end. The turns worker speaks through its proxy, everybody else directly."""
    direct, store = await pair.direct(), MemoryStore(dimensions=HashEmbedder().dimensions)
    await store.open()
    store.follow(direct.epoch)
    settings = Settings.from_env({"HEADSTART_DEV": "true"})
    async with generation_worker(await pair.direct()):
        worker = TurnsWorker(await pair.through(), store, HashEmbedder(), settings)
        await worker.start()

        async def operation() -> None:
            now_ms = wall_ms()
            conversation = ids.conversation_id(PARTITION, now_ms, os.urandom(10))
            turn = ids.turn_id(conversation, now_ms, os.urandom(10))
            submit = TurnSubmit(
                turn=turn, conversation=conversation, tenant="acme", user="ada", input=(InputItem(text="Hello"),),
                at_ms=now_ms, opens=True, options=TurnOptions(agent="companion"),
            )  # fmt: skip
            end = await until(
                direct, turn, lambda: direct.publish(TURNS.name, PARTITION, conversation, submit, turn, "test"),
                lambda record: record.type in TERMINAL_TYPES,
            )  # fmt: skip
            assert isinstance(decode(end), TurnCompleted), decode(end)

        try:
            yield operation
        finally:
            await worker.stop()


@asynccontextmanager
async def memory(pair: Pair) -> AsyncIterator[Operation]:
    """A turn that stands in the log and is remembered. The memory worker reads it through its proxy."""
    direct, store = await pair.direct(), MemoryStore(dimensions=HashEmbedder().dimensions)
    await store.open()
    store.follow(direct.epoch)
    worker = MemoryWorker(await pair.through(), store, HashEmbedder())
    await worker.start()

    async def operation() -> None:
        now_ms = wall_ms()
        conversation = ids.conversation_id(PARTITION, now_ms, os.urandom(10))
        turn = ids.turn_id(conversation, now_ms, os.urandom(10))
        course = StageWriter(direct, conversation, turn, "turn", 1, "turns/test")
        said = StageWriter(direct, conversation, turn, "answer", 1, "generation/test")
        facts = (
            (course, TurnAccepted(
                turn=turn, conversation=conversation, tenant="acme", user="ada", at_ms=now_ms,
                input=(InputItem(text="Hello"),), deadline_at_ms=now_ms + 60_000,
            )),
            (course, ConversationOpened(conversation=conversation, tenant="acme", user="ada", at_ms=now_ms)),
            (course, RouteDecided(agent="companion", by="embedding", at_ms=now_ms)),
            (said, AnswerStarted(model="m", engine="scripted", at_ms=now_ms)),
            (said, AnswerDelta(text="It is here.", index=0)),
            (course, TurnCompleted(at_ms=now_ms + 1)),
        )  # fmt: skip
        for writer, event in facts:
            await writer.write(event)
        while (row := await store.turn(turn)) is None or row.status != "completed":  # noqa: ASYNC110 - no event for it
            await asyncio.sleep(POLL_S)

    try:
        yield operation
    finally:
        await worker.stop()


PAIRS: dict[str, Callable[[Pair], AbstractAsyncContextManager[Operation]]] = {
    "gateway": gateway, "turns": turns, "generation": generation, "memory": memory,
}  # fmt: skip


async def test_each_part_and_kafka(tmp_path: Path) -> None:
    """All faults one after the other, in all pairs at once."""
    async with kafka_behind_proxies(tmp_path, list(PAIRS)) as pairs:

        async def suffer(name: str) -> dict[str, str]:
            async with PAIRS[name](pairs[name]) as operation:
                return {fault: await broken_and_whole(pairs[name].proxy, fault, operation) for fault in FAULTS}

        async with asyncio.TaskGroup() as group:
            suffering = {name: group.create_task(suffer(name)) for name in PAIRS}
    for name, task in suffering.items():
        print(f"{name}: {task.result()}")
