"""Turn owners on a bus in memory, with real HTTP skills; generation workers are played by the test."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec

from memory.embed import HashEmbedder
from memory.memory_store import MemoryStore
from streams import ids
from streams.bus import Start
from streams.codec import decode, identity
from streams.events import Event, InputItem, Usage
from streams.events.generating import DELTA, FINISHED, STARTED, GenerationRequested
from streams.events.intake import TurnOptions, TurnSubmit
from streams.events.registering import SkillPointed, SkillRegistered
from streams.events.turn import TERMINAL_TYPES
from streams.memory_bus import MemoryBroker, MemoryBus
from streams.models import ModelSpec
from streams.writer import StageWriter
from tests.support.skill_server import SkillServer, skill_server
from workers.agents.catalog import load_all
from workers.planning.effects import Effects
from workers.planning.machine import Setup
from workers.planning.owner import TurnOwner
from workers.routing.examples import embedded
from workers.routing.router import Router
from workers.skills.executor import HttpExecutor
from workers.skills.registry import SkillRegistry

T0 = 1_700_000_000_000
PLAN = (
    '[{"name": "search_people", "arguments": {"title": "nurse"}}, '
    '{"name": "get_weather", "arguments": {"city": "Rome"}}]'
)


def wall_clock_ms() -> float:
    return time.time() * 1000


class World:
    """One log, one store, one skill server, and owners as a test needs them. timeout_ms: of every skill. secret: with
    which gateways sign; None leaves commands unsigned."""

    def __init__(
        self, skills: SkillServer, timeout_ms: int = 5_000, clock_ms: Callable[[], float] = wall_clock_ms,
        secret: bytes | None = None,
    ) -> None:  # fmt: skip
        self.secret = secret
        self.broker = MemoryBroker(partitions=2)
        self.store = MemoryStore(dimensions=HashEmbedder().dimensions)
        self.skills = skills
        self.bus = MemoryBus(self.broker)
        self.owners: list[TurnOwner] = []
        # Of every agent: whatever is registered is offered, like it or not.
        self.every: dict[str, Any] = {"skill_ratio": 0.0, "max_skills": 8}
        self._closing: list[Callable[[], object]] = []
        self._timeout_ms, self._clock_ms = timeout_ms, clock_ms
        self._submits = 0
        self._generation_at: dict[int, int] = {}

    async def open(self) -> None:
        await self.bus.start()
        self.bus_epoch = self.bus.epoch
        self.store.follow(self.bus.epoch)
        effects: dict[str, dict[str, Any]] = {
            "search_people": {}, "get_weather": {}, "schedule_interview": {"effect": "irreversible"},
            "send_message": {"effect": "irreversible", "approval": True},
            "save_note": {"effect": "reversible", "compensate": "delete_note"},
            "delete_note": {"effect": "irreversible"},
        }  # fmt: skip
        parameters = {"search_people": "title", "get_weather": "city", "schedule_interview": "person"}
        manifests = [
            self.skills.manifest(name, parameters.get(name, "text"), timeout_ms=self._timeout_ms, **more)
            for name, more in effects.items()
        ]
        for manifest in manifests:
            registered, pointed = (
                SkillRegistered(manifest=manifest, at_ms=T0),
                SkillPointed(name=manifest.name, version="1", at_ms=T0),
            )
            await self.bus.publish("skills", 0, manifest.id, registered, manifest.id, "service/test")
            await self.bus.publish("skills", 0, manifest.name, pointed, manifest.name, "service/test")

    async def owner(self) -> TurnOwner:
        bus = MemoryBus(self.broker)
        await bus.start()
        embedder = HashEmbedder()
        agents = {name: msgspec.structs.replace(agent, **self.every) for name, agent in load_all().items()}
        router = Router(await embedded(embedder, agents))
        registry = SkillRegistry(bus, self.store, embedder)
        await registry.start()
        executor = HttpExecutor(signing_key=None, allow_private=True, clock_ms=self._clock_ms)
        number = len(self.owners)
        setup = self.setup = Setup(agents=agents, models={"default": ModelSpec(engine="scripted")})

        def effects(owner: TurnOwner) -> Effects:
            return Effects(
                bus=bus, store=self.store, embedder=embedder, router=router, registry=registry,
                executor=executor, past=owner, writer=f"turns/{number}", clock_ms=owner.clock_ms,
            )  # fmt: skip

        owner = TurnOwner(
            bus, self.store, setup, registry, effects, place=lambda r: ids.partition_of(r.conversation),
            writer=f"turns/{number}", clock_ms=self._clock_ms, secret=self.secret,
        )  # fmt: skip
        await owner.start()
        self.owners.append(owner)
        self._closing += [owner.stop, registry.close, executor.close, bus.stop]
        return owner

    async def close(self) -> None:
        for close in self._closing:
            await close()  # type: ignore[misc]

    def conversation(self, number: int = 0, partition: int = 1) -> str:
        return ids.conversation_id(partition, T0, bytes([number] * 10))

    async def submit(self, conversation: str, text: str, event_id: str = "", **options: object) -> str:
        self._submits += 1
        turn = (
            ids.keyed_turn_id(conversation, "ada", event_id)
            if event_id
            else ids.turn_id(conversation, T0, self._submits.to_bytes(10, "big"))
        )
        submit = TurnSubmit(
            turn=turn, conversation=conversation, tenant="acme", user="ada", input=(InputItem(text=text),), at_ms=T0,
            opens=True, event_id=event_id, options=TurnOptions(**options),  # type: ignore[arg-type]
        )  # fmt: skip
        await self.bus.publish("turns", ids.partition_of(conversation), conversation, submit, turn, "gateway/test")
        return turn

    async def answer(self, conversation: str, request: str, approve: bool) -> str:
        """Answers an approval request; gives the turn that opens."""
        self._submits += 1
        turn = ids.turn_id(conversation, T0, self._submits.to_bytes(10, "big"))
        submit = TurnSubmit(
            turn=turn, conversation=conversation, tenant="acme", user="ada", at_ms=T0,
            input=(InputItem(kind="approval", call_id=request, approve=approve),),
            options=TurnOptions(agent="recruiter"),
        )  # fmt: skip
        await self.bus.publish("turns", ids.partition_of(conversation), conversation, submit, turn, "gateway/test")
        return turn

    async def request(self, step: str, epoch: int = 1) -> GenerationRequested:
        """The next request for a step, from whichever partition."""
        start: dict[int, Start] = {p: self._generation_at.get(p, "earliest") for p in range(2)}
        reader = await self.bus.reader("generations", start)
        try:
            while True:
                for record in await reader.batch():
                    event = decode(record)
                    self._generation_at[record.partition] = record.offset + 1
                    if isinstance(event, GenerationRequested) and event.step == step and event.epoch == epoch:
                        return event
        finally:
            await reader.close()

    async def write(
        self, request: GenerationRequested, *pieces: str, finish: str = "stop", name: str = "generation/1"
    ) -> None:
        writer = StageWriter(self.bus, request.conversation, request.turn, request.step, request.epoch, name)
        started = STARTED[request.step](model=request.model, engine="test", at_ms=T0)
        await writer.write(started)
        for index, piece in enumerate(pieces):
            await writer.write(DELTA[request.step](text=piece, index=index, ids=(index,)))
        if finish:
            await writer.write(FINISHED[request.step](reason=finish, usage=Usage(prompt=1, completion=1), at_ms=T0))

    async def facts(self, turn: str, until: frozenset[str] = TERMINAL_TYPES, count: int = 1) -> list[Event]:
        """The turn's facts in log order, up to the first of the given types, or the `count`th."""
        reader = await self.bus.reader("events", {ids.partition_of(turn): "earliest"})
        found: list[Event] = []
        try:
            while True:
                for record in await reader.batch():
                    if identity(record).subject == turn:
                        found.append(decode(record))
                        count -= record.type in until
                        if not count:
                            return found
        finally:
            await reader.close()


@asynccontextmanager
async def world(
    timeout_ms: int = 5_000, clock_ms: Callable[[], float] = wall_clock_ms, patience_s: float = 30,
    secret: bytes | None = None,
) -> AsyncIterator[World]:  # fmt: skip
    async with skill_server() as skills:
        scene = World(skills, timeout_ms, clock_ms, secret)
        await scene.open()
        try:
            async with asyncio.timeout(patience_s):
                yield scene
        finally:
            await scene.close()


async def vanish(owner: TurnOwner) -> None:
    """As kill -9 would: no commit, no goodbye; the group notices."""
    for task in owner._tasks:
        task.cancel()
    for partition in owner.partitions.values():
        for live in partition.lives.values():
            live.abandon(calls=True)
    group = owner._group
    owner._group = None
    assert group is not None
    await group.close()
