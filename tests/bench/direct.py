"""The baseline: the same scripted engine and the same skills, called directly from the measuring process.

A planned turn is done as the best program without a bus would: each call is sent over HTTP, by the same executor, the
moment the plan's text closes it, and the answer is asked for when the plan and the last result are there.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from urllib.parse import urlsplit

from streams.events.registering import SkillManifest
from streams.settings import Settings
from tests.bench import scenarios
from tests.bench.driving import TurnTimes, clock
from tests.bench.scenarios import Call, Scenario
from workers.generation.engine import EngineDelta, EngineRequest, Message
from workers.generation.scripted_engine import ScriptedEngine, parse_rules
from workers.skills.executor import CallContext, HttpExecutor


class Direct:
    """Turns without gateway and bus. `turn` may run any number of times side by side."""

    def __init__(self, engine: ScriptedEngine, executor: HttpExecutor, demo_url: str) -> None:
        self._engine, self._executor, self._demo_url = engine, executor, demo_url

    async def turn(self, scenario: Scenario, tokens: int, name: str) -> TurnTimes:
        times = TurnTimes(clock())
        question = scenario.ask(0, tokens)
        if scenario.plan:
            await self._plan(scenario, question, name)
        await self._generate("answer", question, name, lambda text: times.deltas.append((clock(), "")))
        return times

    async def _plan(self, scenario: Scenario, question: str, name: str) -> None:
        waiting, written = list(scenario.calls), 0
        async with asyncio.TaskGroup() as group:

            def on_text(text: str) -> None:
                nonlocal written
                written += len(text)
                while waiting and waiting[0].closed_at <= written:
                    number = len(scenario.calls) - len(waiting)
                    _ = group.create_task(self._call(waiting.pop(0), number, name))

            await self._generate("plan", question, name, on_text)

    async def _generate(self, step: str, question: str, name: str, on_text: Callable[[str], None]) -> None:
        request = EngineRequest(
            request_id=f"{name}/{step}", model="default", messages=[Message("user", question)], max_tokens=1000,
            step=step,
        )  # fmt: skip
        async with aclosing(self._engine.generate(request)) as events:
            async for event in events:
                if isinstance(event, EngineDelta):
                    on_text(event.text)

    async def _call(self, call: Call, number: int, name: str) -> None:
        manifest = SkillManifest(
            name=call.skill, version="1", description=call.skill, parameters={"type": "object"}, owner="demo",
            url=f"{self._demo_url}/skills/{call.skill}", hosts=(urlsplit(self._demo_url).netloc,),
        )  # fmt: skip
        context = CallContext(turn=name, call=number, tenant="bench", user="bench", key=f"{name}/{number}")
        await self._executor.call(manifest, call.arguments, context)


@asynccontextmanager
async def direct(settings: Settings, demo_url: str) -> AsyncIterator[Direct]:
    engine = ScriptedEngine(parse_rules(scenarios.rules()), tokens_per_second=scenarios.TOKENS_PER_SECOND)
    await engine.start()
    try:
        async with HttpExecutor.from_settings(settings) as executor:
            yield Direct(engine, executor, demo_url)
    finally:
        await engine.close()
