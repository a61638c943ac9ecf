"""Turns whose owner goes: killed, or rebalanced away from with a call in flight."""

from __future__ import annotations

import asyncio
import json

import pytest

from streams.events.calling import CallAnswered, CallFired
from streams.events.turn import TurnAdopted, TurnCompleted
from tests.support import jumping_clock
from tests.support.turn_world import PLAN, vanish, world


@pytest.mark.asyncio
@pytest.mark.parametrize("at", ["before_plan", "mid_plan", "calls_in_flight", "mid_answer"])
async def test_a_second_worker_takes_over_and_ends_the_turn(at: str) -> None:
    """The first owner vanishes without a word; the second rebuilds the turn from the log alone."""
    async with world() as scene:
        first = await scene.owner()
        turn = await scene.submit(scene.conversation(), "Find nurses in Rome", agent="recruiter")
        plan = await scene.request("plan")
        answer = None
        if at == "mid_plan":
            await scene.write(plan, PLAN[:70], finish="")
            await scene.facts(turn, frozenset({CallAnswered.TYPE}))
        elif at == "calls_in_flight":
            scene.skills.hold("get_weather")
            await scene.write(plan, PLAN)
            await scene.facts(turn, frozenset({CallAnswered.TYPE}))
        elif at == "mid_answer":
            await scene.write(plan, PLAN)
            answer = await scene.request("answer")
            await scene.write(answer, "Anna ", finish="")
        await vanish(first)
        if at == "calls_in_flight":
            scene.skills.release("get_weather")
        await scene.owner()
        await scene.facts(turn, frozenset({TurnAdopted.TYPE}))
        if at == "before_plan":
            plan = await scene.request("plan", 2)
            await scene.write(plan, PLAN)
        elif at == "mid_plan":
            plan = await scene.request("plan", 2)  # its lease is over: the plan is written anew
            await scene.write(plan, PLAN, name="generation/2")
        if at == "mid_answer":
            answer = await scene.request("answer", 2)
            assert answer.resume
        else:
            answer = await scene.request("answer")
        await scene.write(answer, "is a nurse.", name="generation/2")
        facts = await scene.facts(turn)
        assert isinstance(facts[-1], TurnCompleted)
        counted = [skill for skill, _, _ in scene.skills.arrivals if skill == "search_people"]
        assert len(counted) == 1  # its result was in the log: it is adopted, not asked again


@pytest.mark.asyncio
async def test_a_call_outlives_the_partition_and_its_result_counts() -> None:
    """The partition moves while a long call runs: the worker that fired it keeps it, the new owner uses its result."""
    async with world() as scene:
        await scene.owner()
        scene.skills.hold("get_weather")
        turn = await scene.submit(scene.conversation(), "Weather in Rome?", agent="recruiter")
        await scene.write(await scene.request("plan"), '[{"name": "get_weather", "arguments": {"city": "Rome"}}]')
        await scene.facts(turn, frozenset({CallFired.TYPE}))
        second = await scene.owner()  # partition 1 of 2 goes to the second member
        assert 1 in second.partitions
        await scene.facts(turn, frozenset({TurnAdopted.TYPE}))
        scene.skills.release("get_weather")
        answer = await scene.request("answer")
        assert "Rome" in answer.messages[-1].content
        await scene.write(answer, "Sunny.")
        facts = await scene.facts(turn)
        assert [fact.claim for fact in facts if isinstance(fact, CallFired)] == [1]
        assert len(scene.skills.arrivals) == 1
        assert isinstance(facts[-1], TurnCompleted)


THREE_MINUTES_S = 180.0
LONG_PLANS = {
    "pure": '[{"name": "get_weather", "arguments": {"city": "Rome"}}]',
    "irreversible": '[{"name": "schedule_interview", "arguments": {"person": "Anna"}}]',
}


@pytest.mark.parametrize("effect", LONG_PLANS)
def test_a_skill_of_three_minutes_runs_once_while_its_partition_moves(effect: str) -> None:
    """Rebalanced three times meanwhile: the worker that fired the call keeps it alive, whoever owns the turn uses its
    result. Every lease of the way runs out dozens of times in these three minutes, and is renewed."""
    jumping_clock.run(_three_minutes(LONG_PLANS[effect]))


async def _three_minutes(plan: str) -> None:
    begun_ms = jumping_clock.clock_ms()
    async with world(timeout_ms=200_000, clock_ms=jumping_clock.clock_ms, patience_s=1_000) as scene:
        await scene.owner()
        skill = json.loads(plan)[0]["name"]
        scene.skills.takes_s[skill] = THREE_MINUTES_S
        turn = await scene.submit(scene.conversation(), "As long as it takes", agent="recruiter", deadline_ms=300_000)
        await scene.write(await scene.request("plan"), plan)
        await scene.facts(turn, frozenset({CallFired.TYPE}))
        holder = None
        for number in (1, 2, 3):
            await asyncio.sleep(THREE_MINUTES_S / 5)
            newcomer = await scene.owner()
            if holder is not None:
                await holder.stop()
            await scene.facts(turn, frozenset({TurnAdopted.TYPE}), number)
            holder = newcomer
        answer = await scene.request("answer")
        waited_s = (jumping_clock.clock_ms() - begun_ms) / 1000
        assert waited_s == pytest.approx(THREE_MINUTES_S, abs=10), "by the loop's clock"
        assert skill in answer.messages[-1].content
        await scene.write(answer, "There it is.")
        facts = await scene.facts(turn)
        assert len([fact for fact in facts if isinstance(fact, TurnAdopted)]) == 3
        assert [fact.claim for fact in facts if isinstance(fact, CallFired)] == [1]
        assert len([fact for fact in facts if isinstance(fact, CallAnswered)]) == 1
        assert len(scene.skills.arrivals) == 1
        end = facts[-1]
        assert isinstance(end, TurnCompleted)
        assert end.in_doubt == ()
