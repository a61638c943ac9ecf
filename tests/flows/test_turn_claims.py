"""Calls that somebody else has claimed: waited for while the claim is renewed, in doubt once it is not. On a clock that
jumps, with real HTTP."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from streams import ids
from streams.events import Event
from streams.events.calling import CallAnswered, CallFailed, CallFired, PlanCommitted
from streams.events.turn import TurnAdopted, TurnCompleted
from streams.writer import StageWriter
from tests.support import jumping_clock
from tests.support.turn_world import T0, World, world

OTHER = "turns/other"
ARGUMENTS = {"person": "Anna"}
PLAN = '[{"name": "schedule_interview", "arguments": {"person": "Anna"}}]'
LEASE_MS = 3_000


def claim_hash(turn: str) -> str:
    said = msgspec.json.encode(ARGUMENTS, order="deterministic").decode()
    return ids.digest_hex(ids.digest_hex("call", turn, "schedule_interview@1", said)[:32])


async def claim(scene: World, turn: str, writer: str = OTHER) -> None:
    """The other worker takes the claim, or renews it."""
    now_ms = int(jumping_clock.clock_ms())
    assert await scene.store.claim(turn, 0, claim_hash(turn), 1, LEASE_MS, writer, now_ms)


def fired() -> CallFired:
    return CallFired(
        call=0, skill="schedule_interview@1", arguments=ARGUMENTS, effect="irreversible", claim=1, token=-1, at_ms=T0
    )  # fmt: skip


async def planned(scene: World, writer: str = OTHER) -> str:
    """A turn whose only call is claimed already; this worker owns it, and its plan is committed."""
    turn = await scene.submit(scene.conversation(), "An interview with Anna", agent="recruiter", deadline_ms=60_000)
    await claim(scene, turn, writer)
    await scene.write(await scene.request("plan"), PLAN)
    await scene.facts(turn, frozenset({PlanCommitted.TYPE}))
    return turn


def of(facts: list[Event], kind: type[Event]) -> list[Event]:
    return [fact for fact in facts if isinstance(fact, kind)]


def test_whoever_renews_the_claim_brings_the_outcome() -> None:
    async def body() -> None:
        async with world(clock_ms=jumping_clock.clock_ms, patience_s=100) as scene:
            await scene.owner()
            turn = await planned(scene)
            other = StageWriter(scene.bus, scene.conversation(), turn, "call.0", 1, OTHER)
            for _ in range(8):  # longer than any lease
                await asyncio.sleep(1)
                await claim(scene, turn)
            await other.write(fired())
            await other.write(CallAnswered(call=0, result='"scheduled"', status=200, took_ms=9, at_ms=T0))
            assert await scene.store.settle(turn, 0, 1, "answered")
            request = await scene.request("answer")
            assert "scheduled" in request.messages[-1].content
            await asyncio.sleep(10)
            await scene.write(request, "It is.")
            facts = await scene.facts(turn)
            assert scene.skills.arrivals == []
            assert of(facts, CallFailed) == []
            assert len(of(facts, CallFired)) == 1
            end = facts[-1]
            assert isinstance(end, TurnCompleted)
            assert end.in_doubt == ()

    jumping_clock.run(body())


@pytest.mark.parametrize("writer", [OTHER, "turns/0"], ids=["another worker", "an earlier life here"])
def test_a_claim_that_nobody_renews_is_in_doubt_and_nothing_is_sent(writer: str) -> None:
    async def body() -> None:
        async with world(clock_ms=jumping_clock.clock_ms, patience_s=100) as scene:
            await scene.owner()
            turn = await planned(scene, writer)
            begun_ms = jumping_clock.clock_ms()
            await scene.write(await scene.request("answer"), "I do not know.")
            assert jumping_clock.clock_ms() - begun_ms >= LEASE_MS - 1_000
            facts = await scene.facts(turn)
            assert [(fact.code, fact.in_doubt) for fact in facts if isinstance(fact, CallFailed)] == [
                ("call_in_doubt", True)
            ]
            assert scene.skills.arrivals == []
            end = facts[-1]
            assert isinstance(end, TurnCompleted)
            assert end.in_doubt == (0,)

    jumping_clock.run(body())


@pytest.mark.parametrize("settled", [True, False])
def test_a_worker_that_was_only_paused_brings_its_result(settled: bool) -> None:
    """It fired, was silent for longer than a lease, so its successor wants to go again; then it wakes up and answers.
    Its answer counts, whether or not it lives to settle its claim."""

    async def body() -> None:
        async with world(clock_ms=jumping_clock.clock_ms, patience_s=100) as scene:
            await scene.owner()
            conversation = scene.conversation()
            turn = await scene.submit(conversation, "An interview", agent="recruiter", deadline_ms=60_000)
            request = await scene.request("plan")
            first = StageWriter(scene.bus, conversation, turn, "turn", 2, OTHER)
            await first.write(TurnAdopted(at_ms=T0))  # the other has the turn, and fires its call
            await claim(scene, turn)
            call = StageWriter(scene.bus, conversation, turn, "call.0", 1, OTHER)
            await scene.write(request, PLAN)
            await call.write(fired())
            await asyncio.sleep(2.5)  # this one adopted it back, and hears nothing
            await claim(scene, turn)
            await call.write(CallAnswered(call=0, result='"scheduled"', status=200, took_ms=9, at_ms=T0))
            if settled:
                assert await scene.store.settle(turn, 0, 1, "answered")
            answer = await scene.request("answer")
            assert "scheduled" in answer.messages[-1].content
            await asyncio.sleep(10)
            await scene.write(answer, "It is.")
            facts = await scene.facts(turn)
            assert of(facts, CallFailed) == []
            assert scene.skills.arrivals == []
            assert isinstance(facts[-1], TurnCompleted)

    jumping_clock.run(body())
