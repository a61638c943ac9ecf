"""Turns workers as processes, on a real broker and a real database: killed with SIGKILL, and rebalanced away from.

The skills are slow on purpose, so that a call is in flight when it happens, for longer than a lease. What was done is
read in the demo service's ledger.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any, Final

import httpx
import orjson
import pytest

from headstart.stack import until_ready
from headstart.turn_facts import facts_of, of_type, until_remembered
from streams import ids
from streams.codec import decode
from streams.embedded import EmbeddedBroker
from streams.events import Event
from streams.events.calling import CallAnswered, CallFired
from streams.events.generating import ModelAsked
from streams.events.registering import SkillRegistered
from streams.events.turn import TurnAdopted, TurnCompleted
from tests.support.stacks import Installation, installation
from workers.generation.scripted_engine import Rule, When

pytestmark = [pytest.mark.slow, pytest.mark.asyncio]
PATIENCE_S: Final = 90.0  # ends a test that would hang; nothing is judged by it
SKILL_MS: Final = 4_000  # longer than the lease of a silent worker
WEATHER: Final = "What is the weather in Berlin?"
RULES: Final = (
    Rule(step="plan", say='[{"name":"get_weather","arguments":{"city":"Berlin"}}]'),
    Rule(step="answer", when=When(contains="get_weather:"), say="It is mild."),
    Rule(say="I cannot tell."),
)


async def started(stack: Installation, text: str, deadline_ms: int = 120_000) -> str:
    """Asks over the gateway and hangs up once the turn is accepted; gives the turn's id."""
    async with stack.client() as client:
        more = {"deadline_ms": deadline_ms}
        stream = await client.responses.create(model="headstart", input=text, stream=True, extra_body=more)
        async for event in stream:
            if event.type == "response.created":
                return ids.turn_of(event.response.id)
    raise AssertionError("no response was created")


async def until(stack: Installation, turn: str, kind: type[Event]) -> str:
    """Waits until the log has such a fact of the turn; gives its writer's name."""
    reader = await stack.parts.bus.reader("events", {ids.partition_of(turn): "earliest"})
    try:
        while True:
            for record in await reader.batch():
                if dict(record.headers)["ce_id"].decode().startswith(turn) and isinstance(decode(record), kind):
                    return record.source
    finally:
        await reader.close()


async def ledger(stack: Installation) -> Any:
    """GET /ledger of the demo service, found by what it registered."""
    reader = await stack.parts.bus.reader("skills", {0: "earliest"})
    try:
        while True:
            for record in await reader.batch():
                event = decode(record)
                if isinstance(event, SkillRegistered):
                    url = httpx.URL(event.manifest.url).copy_with(path="/ledger")
                    async with httpx.AsyncClient() as client:
                        return orjson.loads((await client.get(url)).content)
    finally:
        await reader.close()


async def ended(stack: Installation, turn: str) -> list[Event]:
    row = await until_remembered(stack.parts.store, turn)
    return await facts_of(stack.parts.bus, turn, row.offset)


async def test_calls_in_flight_when_their_worker_loses_them(tmp_path: Path) -> None:
    """Rebalanced: the call runs once and its result is used, whoever owns the turn then. Killed: the successor fires it
    again under the next claim, once the worker that had it is not heard any more."""
    delay = {"HEADSTART_DEMO_DELAY_MS": str(SKILL_MS)}
    async with (
        installation(tmp_path, EmbeddedBroker(tmp_path), RULES, settings=delay) as stack,
        asyncio.timeout(PATIENCE_S),
    ):
        await stack.until_shared(1)
        rebalanced = await started(stack, WEATHER)
        await until(stack, rebalanced, CallFired)
        await until_ready(stack.start("turns 2", "workers", "turns"))
        facts = await used(stack, rebalanced)
        assert [fact.claim for fact in of_type(facts, CallFired)] == [1]
        assert [row["claim"] for row in await arrivals(stack, rebalanced)] == [1]

        killed = await started(stack, WEATHER)
        writer = await until(stack, killed, CallFired)
        [name] = [name for name, child in stack.children.items() if f"-{child.pid}-" in writer]
        child = stack.children.pop(name)
        child.kill()
        await child.wait()
        facts = await used(stack, killed)
        assert of_type(facts, TurnAdopted)
        assert [row["claim"] for row in await arrivals(stack, killed)] == [1, 2]


@pytest.mark.skipif(
    "HEADSTART_TEST_SKILL_MS" not in os.environ,
    reason="lasts as long as HEADSTART_TEST_SKILL_MS says; on a clock that jumps: test_turn_taken_over",
)
async def test_a_skill_as_long_as_asked_runs_once_while_workers_come_and_go(tmp_path: Path) -> None:
    """Four times a worker joins and leaves again while one request is under way, so its partition moves or may move
    eight times."""
    skill_ms = int(os.environ["HEADSTART_TEST_SKILL_MS"])
    delay = {"HEADSTART_DEMO_DELAY_MS": str(skill_ms)}
    async with (
        installation(tmp_path, EmbeddedBroker(tmp_path), RULES, settings=delay) as stack,
        asyncio.timeout(PATIENCE_S + skill_ms / 1000),
    ):
        await stack.until_shared(1)
        turn = await started(stack, WEATHER, skill_ms + 60_000)
        await until(stack, turn, CallFired)
        for number in range(2, 6):
            newcomer = stack.start(f"turns {number}", "workers", "turns")
            await until_ready(newcomer)
            await asyncio.sleep(skill_ms / 8_000)
            assert await newcomer.stop(grace_s=30) == 0
            del stack.children[f"turns {number}"]
        facts = await used(stack, turn)
        assert [fact.claim for fact in of_type(facts, CallFired)] == [1]
        assert [row["claim"] for row in await arrivals(stack, turn)] == [1]
        [answered] = of_type(facts, CallAnswered)
        print(f"\nthe skill took {answered.took_ms:,.0f} ms; adopted {len(of_type(facts, TurnAdopted))} times")


async def used(stack: Installation, turn: str) -> list[Event]:
    """The facts of a turn that went on to its end with the one result of its call."""
    await until(stack, turn, TurnCompleted)
    facts = await ended(stack, turn)
    assert isinstance(facts[-1], TurnCompleted)
    [answered] = of_type(facts, CallAnswered)
    assert "Berlin" in answered.result
    assert "get_weather: city Berlin" in of_type(facts, ModelAsked)[-1].messages[-1].content
    return facts


async def arrivals(stack: Installation, turn: str) -> list[Any]:
    return [row for row in (await ledger(stack))["arrivals"] if row["turn"] == turn]
