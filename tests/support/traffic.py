"""Mixed traffic through real turn owners and real generation workers on a scripted model, with faults among it.

Five people talk at once, each turn a case of traffic_cases.py, chosen by a seed. The bus is the caller's, and so is
the clock: on a bus in memory and a virtual loop (virtual_time.py) ten minutes of talk take seconds.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec

from memory.embed import HashEmbedder
from memory.memory_store import MemoryStore
from streams import ids
from streams.bus import Bus
from streams.codec import decode, identity
from streams.events import Event, InputItem
from streams.events.calling import ApprovalAsked
from streams.events.intake import ClientTool, ConversationEdit, TurnCancel, TurnOptions, TurnSteer, TurnSubmit
from streams.events.registering import SkillManifest, SkillPointed, SkillRegistered
from streams.events.turn import TERMINAL_TYPES
from streams.models import ModelSpec
from tests.support.traffic_cases import CASES, PEOPLE, Case, script
from workers.agents.catalog import Agent, load_all
from workers.generation.models import Models
from workers.generation.scripted_engine import ScriptedEngine
from workers.generation.stage import Clock
from workers.generation.worker import GenerationWorker
from workers.planning.effects import Effects
from workers.planning.machine import Setup
from workers.planning.owner import TurnOwner
from workers.planning.worker import write_down
from workers.routing.examples import embedded
from workers.routing.router import Router
from workers.skills.context import CallContext
from workers.skills.execution import Outcome
from workers.skills.executor import HttpExecutor
from workers.skills.failures import SkillBroke, failure
from workers.skills.registry import SkillRegistry

T0_MS = 1_700_000_000_000
CLIENTS = 5
TOKENS_PER_SECOND = 20.0
TURNS_PER_CONVERSATION = 6
TOOL = ClientTool(
    name="read_clipboard", description="what the person copied",
    parameters={"type": "object", "properties": {"lines": {"type": "integer"}}, "required": ["lines"]},
)  # fmt: skip
LATENCY_S = {
    "search_people": 0.35, "get_weather": 0.12, "slow_search": 3.5, "broken_search": 0.2, "send_message": 0.25,
    "save_note": 0.1, "delete_note": 0.1,
}  # fmt: skip
MakeBus = Callable[[], Awaitable[Bus]]


def manifests() -> list[SkillManifest]:
    """The skills that the traffic calls."""

    def one(name: str, required: Mapping[str, str], optional: Mapping[str, Any] | None = None, **more: Any) -> Any:
        properties = {**{key: {"type": kind} for key, kind in required.items()}, **(optional or {})}
        parameters = {
            "type": "object", "properties": properties, "required": list(required), "additionalProperties": False,
        }  # fmt: skip
        values: dict[str, Any] = {
            "name": name, "version": "1", "description": name.replace("_", " "), "parameters": parameters,
            "owner": "test", "url": f"https://skills.example.org/{name}", "hosts": ("skills.example.org:443",),
            "timeout_ms": 5_000,
        }  # fmt: skip
        return SkillManifest(**(values | more))

    text = {"text": "string"}
    limit = {"limit": {"type": "integer", "default": 10}}
    return [
        one("search_people", {"title": "string"}, {"location": {"type": "string"}, **limit}, fire_on=("title",)),
        one("get_weather", {"city": "string"}),
        one("slow_search", text),
        one("broken_search", text),
        one("send_message", {"to": "string", **text}, effect="irreversible", approval=True),
        one("save_note", text, effect="reversible", compensate="delete_note"),
        one("delete_note", {"id": "string"}, effect="irreversible"),
    ]


class PacedSkills(HttpExecutor):
    """An executor whose skills answer after a while, or fail, without any socket."""

    def __init__(self, seed: int) -> None:
        super().__init__(signing_key=None, allow_private=True)
        self._chance = random.Random(seed)
        self.calls = 0
        self.effects: set[str] = set()

    async def call(
        self, manifest: SkillManifest, arguments: Mapping[str, Any], context: CallContext,
        on_sent: Callable[[], None] | None = None,
    ) -> Outcome:  # fmt: skip
        self.calls += 1
        self.effects.add(manifest.effect)
        await asyncio.sleep(0.0005)
        if on_sent is not None:
            on_sent()
        took_s = LATENCY_S[manifest.name] * self._chance.uniform(0.7, 1.4)
        await asyncio.sleep(took_s)
        if manifest.name == "broken_search":
            raise failure(SkillBroke, "skill_failed", "the skill answered 500", manifest, True, status=500)
        result: dict[str, Any] = {"items": [{"id": "p1", "name": "Anna", "city": "Rome"}], "asked": dict(arguments)}
        text = msgspec.json.encode({"id": "n1"} if manifest.name == "save_note" else result).decode()
        return Outcome(result=text, status=200, took_ms=took_s * 1000, sent_ms=0.5, size_bytes=len(text))

    async def warm(self, manifests: Any, connections: int = 1) -> None: ...


class Traffic:
    """owners, workers: how many of each serve at a time; what is lost is replaced."""

    def __init__(
        self, make_bus: MakeBus, now_ms: Callable[[], float], *, seed: int = 1,
        tokens_per_second: float = TOKENS_PER_SECOND, cases: tuple[Case, ...] = CASES,
    ) -> None:  # fmt: skip
        self._make_bus, self.now_ms, self._pace = make_bus, now_ms, tokens_per_second
        self._chance = random.Random(seed)
        self._cases = cases
        self.store = MemoryStore(dimensions=HashEmbedder().dimensions)
        self.skills = PacedSkills(seed)
        self.owners: list[TurnOwner] = []
        self.workers: list[GenerationWorker] = []
        self.turns: list[str] = []
        self._numbers = 0
        self._ends: dict[str, asyncio.Future[list[Event]]] = {}
        self._events: dict[str, list[Event]] = {}
        self._closing: list[Callable[[], Awaitable[object]]] = []

    async def open(self) -> None:
        self.bus = await self._make_bus()
        self.store.follow(self.bus.epoch)
        for manifest in manifests():
            registered = SkillRegistered(manifest=manifest, at_ms=T0_MS)
            pointed = SkillPointed(name=manifest.name, version="1", at_ms=T0_MS)
            await self.bus.publish("skills", 0, manifest.id, registered, manifest.id, "service/test")
            await self.bus.publish("skills", 0, manifest.name, pointed, manifest.name, "service/test")
        starts = dict.fromkeys(range(self.bus.partitions), "latest")
        self._reader = await self.bus.reader("events", starts)  # type: ignore[arg-type]
        self._watching = asyncio.create_task(self._watch())
        for _ in range(2):
            await self.new_worker()
            await self.new_owner()

    async def close(self) -> None:
        for owner in self.owners:
            await owner.stop()
        for worker in self.workers:
            await worker.stop(0)
        self._watching.cancel()
        await asyncio.gather(self._watching, return_exceptions=True)
        await self._reader.close()
        for close in reversed(self._closing):
            await close()
        await self.bus.stop()

    async def run(self, turns: int) -> None:
        """So many turns, five at a time, each to its end."""
        quota = iter(range(turns))
        await asyncio.gather(*[self._client(number, quota) for number in range(CLIENTS)])

    # -- people ----------------------------------------------------------------------------------------------------

    async def _client(self, number: int, quota: Any) -> None:
        user, conversation, said = f"user{number}", "", 0
        while next(quota, None) is not None:
            if said % TURNS_PER_CONVERSATION == 0:
                partition = self._chance.randrange(self.bus.partitions)
                entropy = self._chance.randbytes(10)
                conversation = ids.conversation_id(partition, int(self.now_ms()), entropy)
            weights = [case.weight for case in self._cases]
            case = self._chance.choices(self._cases, weights)[0]
            await self._case(case, conversation, user, opens=said % TURNS_PER_CONVERSATION == 0, quota=quota)
            said += 1

    async def _case(self, case: Case, conversation: str, user: str, *, opens: bool, quota: Any) -> None:
        tools = (TOOL,) if case.name == "client_tool" else ()
        options = TurnOptions(agent=case.agent, tools=tools, **case.options)
        turn = await self.submit(conversation, user, [InputItem(text=case.text)], options, opens)
        then = getattr(self, f"_then_{case.then}", None)
        if then is not None:
            await then(case, conversation, user, turn, quota)
        await self.end(turn)
        if case.then == "cancel_after":
            await self._command(conversation, TurnCancel(turn=turn, tenant="acme", user=user, at_ms=self._at_ms()))

    async def _then_cancel_early(self, case: Case, conversation: str, user: str, turn: str, quota: Any) -> None:
        await asyncio.sleep(self._chance.uniform(0.1, 1.2))
        await self._command(conversation, TurnCancel(turn=turn, tenant="acme", user=user, at_ms=self._at_ms()))

    async def _then_cancel_late(self, case: Case, conversation: str, user: str, turn: str, quota: Any) -> None:
        await asyncio.sleep(self._chance.uniform(2.5, 4.0))
        await self._command(conversation, TurnCancel(turn=turn, tenant="acme", user=user, at_ms=self._at_ms()))

    async def _then_steer(self, case: Case, conversation: str, user: str, turn: str, quota: Any) -> None:
        await asyncio.sleep(self._chance.uniform(0.2, 1.0))
        successor = ids.successor_turn_id(turn, "steer")
        more = (InputItem(text="And in Bern. [case one_call]"),)
        self._expect(successor)
        await self._command(
            conversation,
            TurnSteer(turn=turn, successor=successor, tenant="acme", user=user, input=more, at_ms=self._at_ms()),
        )
        await self.end(turn)
        await self.end(successor)

    async def _then_interrupt(self, case: Case, conversation: str, user: str, turn: str, quota: Any) -> None:
        await asyncio.sleep(self._chance.uniform(0.5, 2.5))
        how = self._chance.choice(["interrupt", "steer"])
        await self._second(conversation, user, how, quota)

    async def _then_queue(self, case: Case, conversation: str, user: str, turn: str, quota: Any) -> None:
        await self._second(conversation, user, "enqueue", quota)

    async def _then_reject(self, case: Case, conversation: str, user: str, turn: str, quota: Any) -> None:
        await asyncio.sleep(0.3)
        await self._second(conversation, user, "reject", quota)

    async def _second(self, conversation: str, user: str, on_busy: str, quota: Any) -> None:
        next(quota, None)
        options = TurnOptions(agent="companion", on_busy=on_busy)
        item = InputItem(text="What was that? [case chat]")
        await self.end(await self.submit(conversation, user, [item], options))

    async def _then_twice(self, case: Case, conversation: str, user: str, turn: str, quota: Any) -> None:
        options = TurnOptions(agent="companion")
        item = InputItem(text="Once is enough. [case chat]")
        key = f"key-{self._numbers}"
        first = await self.submit(conversation, user, [item], options, event_id=key)
        await self.submit(conversation, user, [item], options, event_id=key)
        await self.end(first)

    async def _then_approve(self, case: Case, conversation: str, user: str, turn: str, quota: Any) -> None:
        await self._answer_approval(conversation, user, turn, True, quota)

    async def _then_refuse(self, case: Case, conversation: str, user: str, turn: str, quota: Any) -> None:
        await self._answer_approval(conversation, user, turn, False, quota)

    async def _answer_approval(self, conversation: str, user: str, turn: str, approve: bool, quota: Any) -> None:
        asked = [event for event in await self.end(turn) if isinstance(event, ApprovalAsked)]
        if asked:
            next(quota, None)
            item = InputItem(kind="approval", call_id=asked[0].request, approve=approve)
            await self.end(await self.submit(conversation, user, [item], TurnOptions(agent="recruiter")))

    async def _then_output(self, case: Case, conversation: str, user: str, turn: str, quota: Any) -> None:
        await self.end(turn)
        next(quota, None)
        item = InputItem(kind="function_call_output", call_id=ids.call_id(turn, 0), output='"three lines"')
        await self.end(await self.submit(conversation, user, [item], TurnOptions(agent="recruiter", tools=(TOOL,))))

    async def _then_rename(self, case: Case, conversation: str, user: str, turn: str, quota: Any) -> None:
        edit = ConversationEdit(
            conversation=conversation, tenant="acme", user=user, at_ms=self._at_ms(), title="Nurses"
        )  # fmt: skip
        await self._command(conversation, edit)

    async def _then_lose_worker(self, case: Case, conversation: str, user: str, turn: str, quota: Any) -> None:
        await asyncio.sleep(self._chance.uniform(0.5, 5.0))
        await self.lose_worker()

    async def _then_lose_owner(self, case: Case, conversation: str, user: str, turn: str, quota: Any) -> None:
        await asyncio.sleep(self._chance.uniform(1.0, 5.0))
        await self.lose_owner()

    async def _then_lose_owner_early(self, case: Case, conversation: str, user: str, turn: str, quota: Any) -> None:
        await asyncio.sleep(self._chance.uniform(0.0, 1.0))
        await self.lose_owner()

    # -- means -----------------------------------------------------------------------------------------------------

    async def submit(
        self, conversation: str, user: str, items: list[InputItem], options: TurnOptions, opens: bool = False,
        event_id: str = "",
    ) -> str:  # fmt: skip
        self._numbers += 1
        turn = ids.turn_id(conversation, int(self.now_ms()), self._numbers.to_bytes(10, "big"))
        if event_id:
            turn = ids.keyed_turn_id(conversation, user, event_id)
        self._expect(turn)
        submit = TurnSubmit(
            turn=turn, conversation=conversation, tenant="acme", user=user, input=tuple(items), at_ms=self._at_ms(),
            opens=opens, event_id=event_id, options=options,
        )  # fmt: skip
        await self._command(conversation, submit)
        return turn

    def _expect(self, turn: str) -> None:
        if turn not in self._ends:
            self._ends[turn] = asyncio.get_running_loop().create_future()
            self.turns.append(turn)

    async def end(self, turn: str) -> list[Event]:
        """The turn's facts, once it has ended."""
        return await asyncio.shield(self._ends[turn])

    async def _command(self, conversation: str, event: Event) -> None:
        self._numbers += 1
        partition = ids.partition_of(conversation)
        await self.bus.publish("turns", partition, conversation, event, f"command-{self._numbers}", "gateway/test")

    async def _watch(self) -> None:
        while True:
            for record in await self._reader.batch():
                subject, event = identity(record).subject, decode(record)
                self._events.setdefault(subject, []).append(event)
                end = self._ends.get(subject)
                if record.type in TERMINAL_TYPES and end is not None and not end.done():
                    end.set_result(self._events.pop(subject))

    def _at_ms(self) -> int:
        return int(self.now_ms())

    # -- parts that die --------------------------------------------------------------------------------------------

    async def new_owner(self) -> None:
        bus = await self._make_bus()
        embedder = HashEmbedder()
        registry = SkillRegistry(bus, self.store, embedder)
        await registry.start()
        self._closing += [bus.stop, registry.close]
        agents = {name: self._agent(agent) for name, agent in load_all().items()}
        router = Router(await embedded(embedder, agents))
        priced = ModelSpec(engine="scripted", structured=False, input_usd_per_million_tokens=0.4)
        setup = Setup(agents=agents, models={"default": priced})
        self._numbers += 1
        name = f"turns/test-{self._numbers}"

        def effects(owner: TurnOwner) -> Effects:
            return Effects(
                bus=bus, store=self.store, embedder=embedder, router=router, registry=registry,
                executor=self.skills, past=owner, writer=name, clock_ms=owner.clock_ms,
            )  # fmt: skip

        owner = TurnOwner(
            bus, self.store, setup, registry, effects, place=lambda r: ids.partition_of(r.conversation), writer=name,
            setup_id=await write_down(bus, setup, name), clock_ms=self.now_ms, draw=self._chance.randbytes,
        )  # fmt: skip
        await owner.start()
        self.owners.append(owner)

    def _agent(self, agent: Agent) -> Agent:
        skills = tuple(manifest.name for manifest in manifests()) if agent.plan else agent.skills
        return msgspec.structs.replace(agent, skills=skills, max_skills=8, max_calls=4, skill_ratio=0.0)

    async def new_worker(self) -> None:
        bus = await self._make_bus()
        self._closing.append(bus.stop)
        loop = asyncio.get_running_loop()
        engine = ScriptedEngine(script, tokens_per_second=self._pace, now=loop.time)
        await engine.start()
        spec = ModelSpec(engine="scripted", model="unused", requests_at_once=64)
        clock = Clock(self.now_ms, lambda: loop.time() * 1000)
        worker = GenerationWorker(bus, Models({"default": engine}, {"default": spec}), clock=clock)
        await worker.start()
        self.workers.append(worker)

    async def lose_worker(self) -> None:
        """A generation worker dies without a last word; another takes its place."""
        worker = self.workers.pop(0)
        for task in list(worker._tasks):
            task.cancel()
        await worker.stop(0)
        await self.new_worker()

    async def lose_owner(self) -> None:
        """A turn owner dies without a last word; another takes its place."""
        owner = self.owners.pop(0)
        for partition in owner.partitions.values():
            for live in [*partition.lives.values(), *partition.adopting.values()]:
                live.abandon(calls=True)
        for task in owner._tasks:
            task.cancel()
        assert owner._group is not None
        group, owner._group = owner._group, None
        await group.close()
        await self.new_owner()


__all__ = ["CLIENTS", "PEOPLE", "T0_MS", "Traffic", "manifests"]
