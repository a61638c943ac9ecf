"""A turns worker, a generation worker and services on one log: in memory with FastStream's test broker, or on Apache
Kafka with FastStream's own client. Everything but the process boundary is real.

In memory a pump reads the log and gives each record of `calls` and `events` to the test broker, as Kafka would.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import msgspec
from faststream.kafka import KafkaBroker, TestKafkaBroker

from headstart.publisher import Publisher
from headstart.service import Service
from memory.embed import HashEmbedder
from memory.memory_store import MemoryStore
from streams import ids
from streams.bus import Bus
from streams.codec import Record, decode, identity
from streams.dead_letters import DeadLetter
from streams.embedded import Broker, EmbeddedBroker
from streams.events import Event
from streams.events.intake import CallResult
from streams.events.turn import TERMINAL_TYPES
from streams.fence import Fence
from streams.kafka_bus import KafkaBus
from streams.memory_bus import MemoryBroker, MemoryBus
from streams.models import ModelSpec
from streams.topology import CALLS, DEAD_LETTERS, EVENTS, TURNS
from tests.support.buses import kafka_broker
from workers.agents.catalog import load_all
from workers.generation.models import Models
from workers.generation.scripted_engine import Rule, ScriptedEngine
from workers.generation.worker import GenerationWorker
from workers.planning.effects import Effects
from workers.planning.machine import Setup
from workers.planning.owner import TurnOwner
from workers.planning.service_gate import QUOTA_PER_MINUTE, ServiceGate
from workers.routing.router import Router
from workers.skills.executor import HttpExecutor
from workers.skills.registry import SkillRegistry
from workers.skills.secrets import Secrets

PARTITIONS = 4
AGENT = "recruiter"
TENANT = "acme"
SECRET = "ef" * 32
KEY_TIME_MS = 1_763_700_000_000
DEAD_PARTITIONS = 4


class Rig:
    """One log with what runs on it. `bus` is the test's own connection; keys are for services of tenant acme."""

    def __init__(self, kafka: Broker | None, namespace: str = "") -> None:
        self.kafka, self.namespace = kafka, namespace
        self.memory = MemoryBroker(PARTITIONS) if kafka is None else None
        self.store = MemoryStore(dimensions=HashEmbedder().dimensions)
        self.bus: Bus
        self.opened = AsyncExitStack()
        self._pumps: dict[str, list[KafkaBroker]] = {CALLS.name: [], EVENTS.name: []}

    async def open_bus(self) -> Bus:
        """A further connection: another process, as far as the log can tell."""
        bus: Bus
        if self.kafka is not None:
            bus = KafkaBus(
                self.kafka.bootstrap, namespace=self.namespace, partitions=PARTITIONS, replication=1,
                idempotent=self.kafka.idempotent, fetch_max_wait_ms=self.kafka.fetch_max_wait_ms,
            )  # fmt: skip
        else:
            assert self.memory is not None
            bus = MemoryBus(self.memory)
        await bus.start()
        self.opened.push_async_callback(bus.stop)
        return bus

    async def open(self) -> None:
        self.bus = await self.open_bus()
        self.store.follow(self.bus.epoch)
        if self.memory is not None:
            for topic in self._pumps:
                task = asyncio.create_task(self._pump(topic))
                self.opened.callback(task.cancel)

    async def key(self, service: str, *scopes: str, tenant: str = TENANT) -> str:
        """A new service key, whose user is the service's name."""
        return await self.store.create_key(tenant, service, "test", ("service", *scopes), KEY_TIME_MS)

    async def publisher(self, service: str = "caller", *scopes: str, tenant: str = TENANT) -> Publisher:
        return Publisher(self.bus, tenant, await self.key(service, *scopes, tenant=tenant))

    @asynccontextmanager
    async def broker(self) -> AsyncIterator[KafkaBroker]:
        """A FastStream broker that is not started: what a service is given."""
        if self.kafka is not None:
            yield KafkaBroker(self.kafka.bootstrap, allow_auto_create_topics=False, apply_types=False, logger=None)
            return
        broker = KafkaBroker("memory:9092", apply_types=False, logger=None)
        async with TestKafkaBroker(broker, connect_only=True) as test_broker:
            for brokers in self._pumps.values():
                brokers.append(test_broker)
            yield test_broker
            for brokers in self._pumps.values():
                brokers.remove(test_broker)

    async def serve(self, service: Service, bus: Bus | None = None) -> Service:
        """Starts a service; it ends with the rig."""
        broker = await self.opened.enter_async_context(self.broker())
        await service.start(
            bus or await self.open_bus(), broker, session_timeout_ms=6_000,
            fetch_max_wait_ms=self.kafka.fetch_max_wait_ms if self.kafka is not None else 500,
        )  # fmt: skip
        self.opened.push_async_callback(service.stop)
        return service

    async def generation(self, rules: Sequence[Rule]) -> None:
        """Starts a generation worker whose model says what the rules say."""
        specs = {"default": ModelSpec(engine="scripted", structured=False)}
        models = Models({"default": ScriptedEngine(rules, tokens_per_delta=24)}, specs)
        await models.start()
        worker = GenerationWorker(await self.open_bus(), models)
        await worker.start()
        self.opened.push_async_callback(worker.stop, 0)

    async def turns(
        self, *skills: str, name: str = "turns/1", quota: int = QUOTA_PER_MINUTE, allow_unsigned: bool = False,
        max_calls: int = 6, secrets: Secrets | None = None,
    ) -> TurnOwner:  # fmt: skip
        """Starts a turns worker whose agent may use these skills."""
        bus = await self.open_bus()
        embedder = HashEmbedder()
        registry = SkillRegistry(bus, self.store, embedder)
        await registry.start()
        self.opened.push_async_callback(registry.close)
        executor = await self.opened.enter_async_context(
            HttpExecutor(signing_key=SECRET, allow_private=True, secrets=secrets)
        )
        agents = load_all()
        agents[AGENT] = msgspec.structs.replace(
            agents[AGENT], skills=skills, max_skills=max(1, len(skills)), max_calls=max_calls, skill_ratio=0.0
        )
        setup = Setup(agents=agents, models={"default": ModelSpec(engine="scripted", structured=False)})

        def effects(owner: TurnOwner) -> Effects:
            return Effects(
                bus=bus, store=self.store, embedder=embedder, router=Router({}), registry=registry, executor=executor,
                past=owner, writer=name, clock_ms=owner.clock_ms,
            )  # fmt: skip

        def clock_ms() -> float:
            return owner.clock_ms()

        gate = ServiceGate(lambda: bus.epoch, clock_ms, quota_per_minute=quota, allow_unsigned=allow_unsigned)
        owner = TurnOwner(
            bus, self.store, setup, registry, effects, writer=name, place=lambda r: ids.partition_of(r.conversation),
            check=gate,
        )  # fmt: skip
        owner.metrics.follow_skills(registry.refused)
        await owner.start()
        self.opened.push_async_callback(owner.stop)
        return owner

    # -- looking ---------------------------------------------------------------------------------------------------

    async def facts(self, turn: str, until: frozenset[str] = TERMINAL_TYPES) -> list[Event]:
        """The turn's facts that count, in log order, up to the first of these types."""
        reader = await self.bus.reader(EVENTS.name, {ids.partition_of(turn): "earliest"})
        fence, found = Fence(), list[Event]()
        try:
            while True:
                for record in await reader.batch():
                    fact = identity(record)
                    if fact.subject == turn and fence.judge(fact, record.source, record.type) == "counts":
                        found.append(decode(record))
                        if record.type in until:
                            return found
        finally:
            await reader.close()

    async def result_of(self, turn: str) -> CallResult:
        """The first result of a call of this turn, waiting for it on `turns`."""
        reader = await self.bus.reader(TURNS.name, {ids.partition_of(turn): "earliest"})
        try:
            while True:
                for record in await reader.batch():
                    event = decode(record)
                    if isinstance(event, CallResult) and event.turn == turn:
                        return event
        finally:
            await reader.close()

    async def records(self, topic: str, partitions: int = PARTITIONS) -> list[Record]:
        """Everything that stands on a topic now."""
        reader = await self.bus.reader(topic, dict.fromkeys(range(partitions), "earliest"))
        found: list[Record] = []
        try:
            ends = {number: await reader.end_offset(number) for number in range(partitions)}
            while any(reader.position(number) < end for number, end in ends.items()):
                found += await reader.batch()
        finally:
            await reader.close()
        return found

    async def letters(self, count: int) -> list[tuple[DeadLetter, Record]]:
        """The first `count` dead letters, waiting for them."""
        reader = await self.bus.reader(DEAD_LETTERS.name, dict.fromkeys(range(DEAD_PARTITIONS), "earliest"))
        found: list[Record] = []
        try:
            while len(found) < count:
                found += await reader.batch()
        finally:
            await reader.close()
        return [(DeadLetter.of(record), record) for record in found]

    async def _pump(self, topic: str) -> None:
        reader = await self.bus.reader(topic, dict.fromkeys(range(PARTITIONS), "earliest"))
        while True:
            for record in await reader.batch():
                headers = {name: value.decode() for name, value in record.headers}
                for broker in list(self._pumps[topic]):
                    _ = await broker.publish(
                        record.value, topic, key=record.key, partition=record.partition, headers=headers
                    )  # fmt: skip


@asynccontextmanager
async def rig(kafka: Broker | None = None, namespace: str = "") -> AsyncIterator[Rig]:
    """A rig in memory, or in a namespace of its own on a broker that runs."""
    made = Rig(kafka, namespace)
    await made.open()
    try:
        yield made
    finally:
        await made.opened.aclose()


@asynccontextmanager
async def broker_for(kind: str, folder: Path) -> AsyncIterator[Broker | None]:
    """What `rig` is made on: "kafka" starts Apache Kafka (or skips the test), "tansu" the embedded broker, "memory"
    nothing."""
    if kind == "memory":
        yield None
        return
    async with kafka_broker(folder) if kind == "kafka" else EmbeddedBroker(folder) as broker:
        yield broker
