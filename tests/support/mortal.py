"""Turns workers that die at a chosen moment, in a world where what they did can be counted.

The demo service is real HTTP, and so is its ledger. Each `Life` has its own log in memory and a generation worker that
lives on. Its first turns worker is gone the instant the log has its nth record of the turn, or the instant a request
has reached the service: from then on not one line of it runs, its connections are cut and nothing of it is written. A
second worker takes over.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack

import msgspec

from headstart.demo.notebook import Arrival, Ledger
from headstart.service_registration import register
from memory.embed import HashEmbedder
from memory.memory_store import MemoryStore
from streams import ids
from streams.bus import Headers
from streams.codec import Identity, Record, decode, identity
from streams.events import Event, InputItem
from streams.events.intake import TurnOptions, TurnSubmit
from streams.events.registering import SkillManifest
from streams.events.turn import TERMINAL_TYPES
from streams.fence import Fence
from streams.memory_bus import MemoryBroker, MemoryBus
from streams.models import ModelSpec
from workers.agents.catalog import load_all
from workers.generation.models import Models
from workers.generation.scripted_engine import Rule, ScriptedEngine
from workers.generation.worker import GenerationWorker
from workers.planning.effects import Effects
from workers.planning.machine import Setup
from workers.planning.owner import TurnOwner
from workers.routing.router import Router
from workers.skills.executor import HttpExecutor
from workers.skills.registry import SkillRegistry

PARTITIONS = 2
AGENT = "recruiter"
T0 = 1_763_700_000_000


class WatchedLedger(Ledger):
    """Tells, at once, when a request has arrived and when something was done. watch: by turn; gets the skill's name
    and "arrived" or "done"."""

    def __init__(self) -> None:
        super().__init__()
        self.watch: dict[str, Callable[[str, str], None]] = {}

    def arrived(self, arrival: Arrival) -> None:
        super().arrived(arrival)
        self._tell(arrival.turn, arrival.skill, "arrived")

    def done(self, what: str, detail: dict[str, object], tenant: str, user: str) -> int:
        number = super().done(what, detail, tenant, user)
        self._tell(user, what, "done")  # every life has a user of its own
        return number

    def _tell(self, subject: str, skill: str, what: str) -> None:
        if watch := self.watch.get(subject):
            watch(skill, what)


class WatchedBroker(MemoryBroker):
    """Tells, at once, when a record of a turn is in the log."""

    def __init__(self) -> None:
        super().__init__(partitions=PARTITIONS)
        self.turn = ""
        self.records = 0
        self.watch: Callable[[int], None] = lambda number: None

    def append(self, topic: str, partition: int, key: bytes | None, value: bytes, headers: Headers) -> int:
        offset = super().append(topic, partition, key, value, headers)
        if topic == "events" and self.turn and dict(headers)["ce_id"].decode().startswith(f"{self.turn}/"):
            self.records += 1
            self.watch(self.records)
        return offset


class MortalBus(MemoryBus):
    """A process's way to the log: once it is dead, nothing gets through any more."""

    dead = False

    async def post_raw(
        self, topic: str, partition: int, key: bytes | None, value: bytes, headers: Headers
    ) -> asyncio.Future[int]:
        if self.dead:
            await asyncio.Event().wait()
        return await super().post_raw(topic, partition, key, value, headers)


class Worker:
    """One turns worker."""

    def __init__(self, name: str, owner: TurnOwner, bus: MortalBus) -> None:
        self.name, self.owner, self.bus = name, owner, bus

    def die(self) -> None:
        """As kill -9: no commit, no goodbye, not one line more."""
        self.bus.dead = True
        for task in self.owner._tasks:
            task.cancel()
        for partition in self.owner.partitions.values():
            for live in partition.lives.values():
                live.abandon(calls=True)

    async def noticed(self) -> None:
        """The broker has noticed: its partitions are free."""
        group, self.owner._group = self.owner._group, None
        if group is not None:
            await group.close()


class Life:
    """One turn, lived through by two turns workers. at: the record of the turn, from 1, or what the ledger tells
    ("arrived schedule_interview"), at which the first one dies; None: it does not."""

    def __init__(self, number: int, at: int | str | None, plan: str, manifests: list[SkillManifest], key: str) -> None:
        self.at, self.user = at, f"user-{number}"
        self.died = asyncio.Event()
        self.broker = WatchedBroker()
        self.conversation = ids.conversation_id(1, T0, number.to_bytes(10, "big"))
        self.turn = ids.turn_id(self.conversation, T0, number.to_bytes(10, "big"))
        self._manifests, self._key = manifests, key
        self._rules = (Rule(step="plan", say=plan), Rule(say="It is done."))
        self._store = MemoryStore(dimensions=HashEmbedder().dimensions)
        self._opened = AsyncExitStack()
        self._first: Worker | None = None

    async def __aenter__(self) -> Life:
        bus = MemoryBus(self.broker)
        await bus.start()
        self._opened.push_async_callback(bus.stop)
        self._store.follow(bus.epoch)
        self.bus = bus
        await register(bus, "demo", self._manifests, T0)
        engine = ScriptedEngine(self._rules, tokens_per_delta=24)
        specs = {"default": ModelSpec(engine="scripted", structured=False)}
        models = Models({"default": engine}, specs)
        await models.start()
        generation = GenerationWorker(bus, models)
        await generation.start()
        self._opened.push_async_callback(generation.stop, 0)
        self.broker.turn, self.broker.watch = self.turn, self._record
        self._first = await self.worker("turns/first")
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self._opened.aclose()

    async def worker(self, name: str) -> Worker:
        """Starts one more turns worker."""
        bus = MortalBus(self.broker)
        await bus.start()
        self._opened.push_async_callback(bus.stop)
        embedder = HashEmbedder()
        registry = SkillRegistry(bus, self._store, embedder)
        await registry.start()
        self._opened.push_async_callback(registry.close)
        executor = await self._opened.enter_async_context(HttpExecutor(signing_key=self._key, allow_private=True))
        agents = load_all()
        names = tuple(manifest.name for manifest in self._manifests)
        agents[AGENT] = msgspec.structs.replace(
            agents[AGENT], skills=names, max_skills=len(names), max_calls=6, skill_ratio=0.0
        )
        setup = Setup(agents=agents, models={"default": ModelSpec(engine="scripted", structured=False)})

        def effects(owner: TurnOwner) -> Effects:
            return Effects(
                bus=bus, store=self._store, embedder=embedder, router=Router({}), registry=registry,
                executor=executor, past=owner, writer=name, clock_ms=owner.clock_ms,
            )  # fmt: skip

        owner = TurnOwner(
            bus, self._store, setup, registry, effects, writer=name, place=lambda r: ids.partition_of(r.conversation)
        )  # fmt: skip
        made = Worker(name, owner, bus)
        self._opened.push_async_callback(owner.stop)
        await owner.start()
        return made

    async def live(self) -> list[tuple[Identity, Event]]:
        """Submits the turn, lets the second worker take over at the first one's death, and gives the facts that count,
        in log order, to the turn's end."""
        submit = TurnSubmit(
            turn=self.turn, conversation=self.conversation, tenant="acme", user=self.user, at_ms=T0, opens=True,
            input=(InputItem(text="Find data engineers in Berlin, the weather, and schedule an interview."),),
            options=TurnOptions(agent=AGENT),
        )  # fmt: skip
        partition = ids.partition_of(self.conversation)
        await self.bus.publish("turns", partition, self.conversation, submit, self.turn, "gateway/test")
        ended = asyncio.create_task(self._facts(partition))
        died = asyncio.create_task(self.died.wait())
        try:
            await asyncio.wait({ended, died}, return_when=asyncio.FIRST_COMPLETED)
            if self.died.is_set():
                assert self._first is not None
                await self._first.noticed()
                await self.worker("turns/second")
            return await ended
        finally:
            died.cancel()

    def told(self, skill: str, what: str) -> None:
        """What the ledger tells."""
        if self.at == f"{what} {skill}":
            self._die()

    def _record(self, number: int) -> None:
        if self.at == number:
            self._die()

    def _die(self) -> None:
        if not self.died.is_set() and self._first is not None:
            self.died.set()
            self._first.die()

    async def _facts(self, partition: int) -> list[tuple[Identity, Event]]:
        reader = await self.bus.reader("events", {partition: "earliest"})
        fence = Fence()
        found: list[tuple[Identity, Event]] = []
        try:
            while True:
                for record in await reader.batch():
                    if self._counts(fence, record):
                        found.append((identity(record), decode(record)))
                        if record.type in TERMINAL_TYPES:
                            return found
        finally:
            await reader.close()

    def _counts(self, fence: Fence, record: Record) -> bool:
        fact = identity(record)
        return fact.subject == self.turn and fence.judge(fact, record.source, record.type) == "counts"
