"""From the record that registers or withdraws a skill to the plan that has it, or has it no more.

A turns worker on a real broker and a real Postgres, with the real embeddings and every skill of the benchmark but a
few. Each try registers one of those few and, at the moment at which the broker has acknowledged it, submits a turn that
needs it; then it withdraws the skill and submits the same turn again. A turn asks for its plan with a schema of the
skills that it may use, which is read from the topic `generations`; one that does not know yet is followed by another.
  in force   from the acknowledgement to the moment from which the worker offers the skill, or offers it no more
  planned    from the acknowledgement to the request for the first plan that knows, with accepting the turn, embedding
             its question and recalling
  next       the share of tries in which the turn that was submitted at the acknowledgement knew
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import msgspec

from memory.embed import Embedder
from memory.store import Store
from streams import ids
from streams.bus import Bus, Reader
from streams.codec import decode
from streams.events import InputItem
from streams.events.generating import GenerationRequested
from streams.events.intake import TurnCancel, TurnOptions, TurnSubmit
from streams.events.registering import SkillManifest, SkillPointed
from streams.settings import Settings
from streams.topology import GENERATIONS, SKILLS, TURNS
from tests.bench.figures import Spread, spread
from tests.bench.routing.finding import announce
from workers.planning.worker import TurnsWorker

AGENT: Final = "anything"
TENANT, USER = "bench", "ada"
PATIENCE_S: Final = 30.0
_PLAN: Final = """\
@system
Reply with a JSON list of calls. The functions:
{% for skill in skills %}
- {{ skill.name }}: {{ skill.description }}
{% endfor %}
@user
{{ question }}
"""


def write_agent(root: Path, max_skills: int = 10) -> None:
    """An agent that may use every skill, as a folder."""
    folder = root / AGENT
    folder.mkdir(parents=True)
    table = f'description = "does what any skill does"\nskills = ["*"]\nmax_skills = {max_skills}\n'
    (folder / "agent.toml").write_text(table)
    (folder / "utterances.txt").write_text("".join(f"Use a skill, number {number}\n" for number in range(5)))
    (folder / "plan.jinja").write_text(_PLAN)
    (folder / "answer.jinja").write_text("@user\n{{ question }}\n")
    (folder / "rubric.md").write_text("A good answer uses the results.\n")


@dataclass(slots=True)
class Measured:
    """Milliseconds of each try, and whether the next plan knew."""

    in_force_ms: list[float] = field(default_factory=list)
    planned_ms: list[float] = field(default_factory=list)
    next_knew: list[bool] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        force, planned = self.spreads()
        return {
            "tries": len(self.next_knew), "in_force_ms": force.as_json(), "planned_ms": planned.as_json(),
            "next_plan_knew": sum(self.next_knew) / max(1, len(self.next_knew)),
        }  # fmt: skip

    def spreads(self) -> tuple[Spread, Spread]:
        return spread(self.in_force_ms), spread(self.planned_ms)


class Bench:
    """A turns worker, and turns that show what it would plan with."""

    def __init__(self, bus: Bus, worker: TurnsWorker, plans: Reader) -> None:
        self._bus, self._worker, self._plans = bus, worker, plans
        self._turns = 0
        self._changed: dict[str, asyncio.Future[float]] = {}
        worker.skills.on_change(self._on_change)

    def _on_change(self, name: str, manifest: SkillManifest | None) -> None:
        waiting = self._changed.pop(name, None)
        if waiting is not None:
            waiting.set_result(time.perf_counter())

    async def plan(self, text: str) -> set[str]:
        """Submits a turn and gives the names of the skills in the schema of its plan; the turn is then cancelled."""
        self._turns += 1
        now_ms = int(time.time() * 1000)
        partition = self._turns % self._bus.partitions
        conversation = ids.conversation_id(partition, now_ms, self._turns.to_bytes(10, "big"))
        turn = ids.turn_id(conversation, now_ms, self._turns.to_bytes(10, "big"))
        submit = TurnSubmit(
            turn=turn, conversation=conversation, tenant=TENANT, user=USER, input=(InputItem(text=text),), at_ms=now_ms,
            opens=True, options=TurnOptions(agent=AGENT),
        )  # fmt: skip
        _ = await self._bus.publish(TURNS.name, partition, conversation, submit, turn, "gateway/bench")
        async with asyncio.timeout(PATIENCE_S):
            request = await self._request(turn)
        cancel = TurnCancel(turn=turn, tenant=TENANT, user=USER, at_ms=now_ms)
        _ = await self._bus.publish(TURNS.name, partition, conversation, cancel, f"{turn}/cancel", "gateway/bench")
        schema = msgspec.json.encode(request.sampling.json_schema).decode()
        return {manifest.name for manifest in self._worker.skills.every().values() if f'"{manifest.name}"' in schema}

    async def _request(self, turn: str) -> GenerationRequested:
        while True:
            for record in await self._plans.batch():
                event = decode(record)
                if isinstance(event, GenerationRequested) and event.turn == turn and event.step == "plan":
                    return event

    async def measure(self, name: str, change: Awaitable[object], text: str, there: bool, into: Measured) -> None:
        """Makes a change of a skill and measures when it is in force, and which plan is the first to know."""
        waiting = self._changed[name] = asyncio.get_running_loop().create_future()
        await change
        acknowledged = time.perf_counter()
        knew = (name in await self.plan(text)) is there
        into.next_knew.append(knew)
        while not knew:
            knew = (name in await self.plan(text)) is there
        into.planned_ms.append((time.perf_counter() - acknowledged) * 1e3)
        into.in_force_ms.append(max(0.0, (await waiting - acknowledged) * 1e3))


async def measured(
    bus: Bus, store: Store, embedder: Embedder, settings: Settings, every: Sequence[SkillManifest],
    tried: Sequence[tuple[SkillManifest, str]], say: Callable[[str], object] = lambda _: None,
) -> tuple[Measured, Measured]:  # fmt: skip
    """Registering and withdrawing each skill of `tried`, asked for by its text. every: skills that are registered all
    the while. settings: with `agents` naming a folder of `write_agent`, and no signing key."""
    for manifest in every:
        _ = await announce(bus, manifest)
    worker = TurnsWorker(bus, store, embedder, settings)
    await worker.start()
    plans = await bus.reader(GENERATIONS.name, dict.fromkeys(range(bus.partitions), "latest"))
    registered, withdrawn = Measured(), Measured()
    try:
        bench = Bench(bus, worker, plans)
        _ = await bench.plan("Warm up, please")
        for manifest, text in tried:
            await bench.measure(manifest.name, announce(bus, manifest), text, True, registered)
            await bench.measure(manifest.name, _withdraw(bus, manifest.name), text, False, withdrawn)
            say(manifest.name)
    finally:
        await plans.close()
        await worker.stop()
    return registered, withdrawn


async def _withdraw(bus: Bus, name: str) -> int:
    pointed = SkillPointed(name=name, version="", at_ms=int(time.time() * 1000))
    return await bus.publish(SKILLS.name, 0, name, pointed, f"{name}/withdraw/{pointed.at_ms}", "service/bench")
