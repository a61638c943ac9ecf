"""A cell of the grid through the real turn machine: a turns worker and a generation worker on a bus in memory, the
scripted engine at the cell's pace, the skill over HTTP.

`whole` is the same engine waiting for the whole message: its deltas are held back until the plan's end, so the turn
machine sees the plan at once, when it is finished.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

import msgspec

from memory.embed import HashEmbedder
from memory.memory_store import MemoryStore
from streams import ids
from streams.codec import Record, decode, identity
from streams.collector import keep_what_is_loaded
from streams.events import Event, InputItem
from streams.events.calling import CallFired
from streams.events.intake import TurnOptions, TurnSubmit
from streams.events.registering import SkillPointed, SkillRegistered
from streams.events.turn import TERMINAL_TYPES, TurnCompleted
from streams.memory_bus import MemoryBroker, MemoryBus
from streams.models import ModelSpec
from tests.bench.firing_grid import DELAYS_MS, RATES, Cell, manifest, run_name, skill_name
from workers.agents.catalog import Agent, StepOptions, load_all
from workers.generation.engine import EngineDelta, EngineEvent, EngineRequest
from workers.generation.models import Models
from workers.generation.scripted_engine import ScriptedEngine
from workers.generation.worker import GenerationWorker
from workers.planning.effects import Effects
from workers.planning.machine import Setup
from workers.planning.owner import TurnOwner
from workers.routing.router import Router
from workers.skills.executor import HttpExecutor
from workers.skills.registry import SkillRegistry

RUN: Final = re.compile(r"r\d{3}[ew]")
KINDS: Final = {"e": "early", "w": "whole"}
PATIENCE_S: Final = 120.0  # ends a run that would hang


@dataclass
class Run:
    """One turn. turn_ms: from the plan's request at the model to the answer's request there. facts: the turn's own."""

    cell: Cell
    name: str
    asked_at: float = 0.0
    turn_ms: float = 0.0
    facts: list[Event] = field(default_factory=list)

    @property
    def end(self) -> TurnCompleted:
        end = self.facts[-1]
        assert isinstance(end, TurnCompleted), end
        return end

    @property
    def lags_ms(self) -> list[float]:
        """From the close of the last needed argument to the request on the wire, one for each call."""
        return [fact.closed_to_wire_ms for fact in self.facts if isinstance(fact, CallFired)]


class Model(ScriptedEngine):
    """Writes the plan of the run that a request is about; notes when it was asked."""

    def __init__(self, runs: dict[str, Run], rate: float | None) -> None:
        super().__init__(self._write, tokens_per_second=rate)
        self._runs = runs

    def _write(self, request: EngineRequest) -> str:
        run = self._run(request)
        return run.cell.text(run.name) if request.step == "plan" else "Done."

    def _run(self, request: EngineRequest) -> Run:
        for message in request.messages:
            if found := RUN.search(message.content):
                return self._runs[found[0]]
        raise AssertionError("a request that is about no run")

    async def generate(self, request: EngineRequest) -> AsyncGenerator[EngineEvent, None]:
        now, run = time.perf_counter(), self._run(request)
        if request.step == "plan":
            run.asked_at = now
        else:
            run.turn_ms = round((now - run.asked_at) * 1000, 3)
        held: list[EngineDelta] = []
        async for event in super().generate(request):
            if isinstance(event, EngineDelta) and run.name.endswith("w"):
                held.append(event)
                continue
            if held and type(event).__name__ == "EngineFinished":
                ids_of_all = [number for delta in held for number in delta.ids]
                yield EngineDelta("".join(delta.text for delta in held), ids_of_all, 0)
            yield event


class Harness:
    """Runs turns; many side by side."""

    def __init__(self, bus: MemoryBus) -> None:
        self.bus = bus
        self.runs: dict[str, Run] = {}

    async def run(self, cell: Cell, number: int, kind: str) -> Run:
        """One turn of a cell. number: below 1,000, another for each. kind: "e" fires early, "w" waits for the whole."""
        name = run_name(number, kind)
        run = self.runs[name] = Run(cell, name)
        now_ms = int(time.time() * 1000)
        conversation = ids.conversation_id(number % self.bus.partitions, now_ms, name.encode().ljust(10, b"-"))
        turn = ids.turn_id(conversation, now_ms, name.encode().ljust(10, b"-"))
        partition = ids.partition_of(conversation)
        reader = await self.bus.reader("events", {partition: "latest"})
        submit = TurnSubmit(
            turn=turn, conversation=conversation, tenant="bench", user="ada", input=(InputItem(text=f"Do {name}."),),
            at_ms=now_ms, opens=True, options=TurnOptions(agent=agent_name(cell)),
        )  # fmt: skip
        await self.bus.publish("turns", partition, conversation, submit, turn, "bench")
        kept: list[Record] = []  # read later: what the benchmark does itself stands in nobody's way
        key = conversation.encode()
        try:
            async with asyncio.timeout(PATIENCE_S):
                while not kept or kept[-1].type not in TERMINAL_TYPES:
                    kept += [record for record in await reader.batch() if record.key == key]
        finally:
            await reader.close()
        run.facts = [decode(record) for record in kept if identity(record).subject == turn]
        return run


def agent_name(cell: Cell) -> str:
    return f"bench_{cell.rate}_{cell.delay_ms}"


def agents() -> dict[str, Agent]:
    """One agent for each pace and skill, beside those that ship."""
    shipped = load_all()
    recruiter = shipped["recruiter"]
    assert recruiter.plan is not None
    made = {}
    for rate in RATES:
        plan = msgspec.structs.replace(recruiter.plan, options=StepOptions(model=f"pace_{rate}", max_tokens=2_000))
        for delay_ms in DELAYS_MS:
            name = agent_name(Cell(rate, delay_ms, 1, 0, "first"))
            made[name] = msgspec.structs.replace(
                recruiter, name=name, skills=(skill_name(delay_ms),), plan=plan, max_calls=6, skill_ratio=0.0
            )
    return {**shipped, **made}


@asynccontextmanager
async def harness(skills_at: str) -> AsyncIterator[Harness]:
    """Everything started; stopped at the end. skills_at: host:port of the world's process (firing_world.py)."""
    async with AsyncExitStack() as opened:
        broker = MemoryBroker(partitions=8)
        bus = MemoryBus(broker)
        await bus.start()
        opened.push_async_callback(bus.stop)
        embedder = HashEmbedder()
        store = MemoryStore(dimensions=embedder.dimensions)
        store.follow(bus.epoch)
        now_ms = int(time.time() * 1000)
        for one in (manifest(delay_ms, skills_at) for delay_ms in DELAYS_MS):
            registered, pointed = (
                SkillRegistered(manifest=one, at_ms=now_ms),
                SkillPointed(name=one.name, version=one.version, at_ms=now_ms),
            )
            await bus.publish("skills", 0, one.id, registered, one.id, "bench")
            await bus.publish("skills", 0, one.name, pointed, one.name, "bench")
        made = Harness(bus)
        specs = {"default": ModelSpec(engine="scripted", structured=False)}
        specs |= {f"pace_{rate}": specs["default"] for rate in RATES}
        engines = {"default": Model(made.runs, None)} | {f"pace_{rate}": Model(made.runs, rate) for rate in RATES}
        models = Models(engines, specs)
        await models.start()
        opened.push_async_callback(models.close)
        generation = GenerationWorker(bus, models)
        await generation.start()
        opened.push_async_callback(generation.stop)
        registry = SkillRegistry(bus, store, embedder)
        await registry.start()
        opened.push_async_callback(registry.close)
        executor = await opened.enter_async_context(HttpExecutor(signing_key="ab" * 32, allow_private=True))

        def effects(owner: TurnOwner) -> Effects:
            return Effects(
                bus=bus, store=store, embedder=embedder, router=Router({}), registry=registry, executor=executor,
                past=owner, writer="turns/bench", clock_ms=owner.clock_ms,
            )  # fmt: skip

        owner = TurnOwner(
            bus, store, Setup(agents=agents(), models=specs), registry, effects, writer="turns/bench",
            place=lambda request: ids.partition_of(request.conversation),
        )  # fmt: skip
        await owner.start()
        opened.push_async_callback(owner.stop)
        keep_what_is_loaded()  # as every stage's process does
        yield made


def consistent(runs: Sequence[Run]) -> list[str]:
    """What is wrong with the facts of these runs, in words; [] when they hold together."""
    found = []
    for run in runs:
        end, calls = run.end, run.cell.calls
        if len(run.lags_ms) != calls or len(end.savings) != calls:
            found.append(f"{run.name}: {calls} calls, {len(run.lags_ms)} fired, {len(end.savings)} accounted for")
        if not 0 <= end.saved_ms <= end.oracle_ms + 0.002:
            found.append(f"{run.name}: saved {end.saved_ms} ms of {end.oracle_ms} ms")
    return found
