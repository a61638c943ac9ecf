"""What was learnt changes a later turn: habits in its plan and its route, rated answers and facts in its answer."""

from __future__ import annotations

import pytest

from memory.embed import HashEmbedder
from memory.habits import habit_id
from memory.rows import Change, Edit, ExampleRow, Observed, TurnRecord
from streams import ids
from streams.events.recalling import Recalled
from tests.support.turn_world import T0, World, world

pytestmark = pytest.mark.asyncio
QUESTION = "How do I ask for leave?"


async def observe(scene: World, kind: str, name: str, times: int) -> None:
    seen = Observed(tenant="acme", user="ada", kind=kind, name=name, taken=True, at_ms=T0)
    position = await scene.store.position(0)
    changes = [Change(position + number, seen) for number in range(1, times + 1)]
    assert await scene.store.project(0, position + times, changes)


async def edit(scene: World, item: str, *, text: str = "", muted: bool = False, forget: bool = False) -> None:
    position = await scene.store.position(0) + 1
    row = Edit(tenant="acme", user="ada", item=item, at_ms=T0 + position, text=text, muted=muted, forget=forget)
    assert await scene.store.project(0, position, [Change(position, row)])


async def plan_prompt(scene: World, event_id: str) -> str:
    turn = await scene.submit(scene.conversation(), "Weather, please", event_id=event_id, agent="recruiter")
    request = await scene.request("plan")
    await scene.write(request, "[]")
    await scene.write(await scene.request("answer"), "Sunny.")
    await scene.facts(turn)
    return "\n".join(message.content for message in request.messages)


async def test_a_habit_stands_in_the_next_plan_until_it_is_muted_or_erased() -> None:
    async with world() as scene:
        await scene.owner()
        usual = "I usually mean Rome as city for get_weather"
        await observe(scene, "skill", "get_weather", 2)
        await observe(scene, "argument", "get_weather/city=Rome", 2)
        assert usual not in await plan_prompt(scene, "a"), "twice is no habit yet"
        await observe(scene, "skill", "get_weather", 1)
        await observe(scene, "argument", "get_weather/city=Rome", 1)
        assert usual in await plan_prompt(scene, "b")
        habit = habit_id("acme", "ada", "argument", "get_weather/city=Rome")
        await edit(scene, habit, text="I always mean Oslo.")
        assert "I always mean Oslo." in await plan_prompt(scene, "c")
        await edit(scene, habit, muted=True)
        assert "usually mean" not in await plan_prompt(scene, "d")
        await edit(scene, habit, forget=True)
        assert "usually mean" not in await plan_prompt(scene, "e")


async def rate(scene: World, rating: str, position: int) -> None:
    conversation = scene.conversation(9, partition=0)
    turn = ids.turn_id(conversation, T0, b"turn-entropy")
    record = TurnRecord(
        turn=turn, conversation=conversation, tenant="acme", user="ada", begin_offset=0, end_offset=position,
        status="completed", reason="", routed=True, agent="companion", messages=(), models=(), accepted_at_ms=T0,
        ended_at_ms=T0, previous_turn="", previous_offset=-1, event_id="", origin="client",
    )  # fmt: skip
    [vector] = await HashEmbedder().embed([QUESTION])
    example = ExampleRow(
        turn=turn, conversation=conversation, tenant="acme", user="ada", agent="companion", question=QUESTION,
        answer="Fill in form 12.", rating=rating, shared=False, at_ms=T0 + position, vector=vector,
    )  # fmt: skip
    assert await scene.store.project(0, position, [Change(position, record), Change(position, example)])


async def answer_prompt(scene: World, text: str, event_id: str) -> list[tuple[str, str]]:
    conversation = scene.conversation(len(event_id) + 3)
    turn = await scene.submit(conversation, text, event_id=event_id, agent="companion")
    request = await scene.request("answer")
    await scene.write(request, "Fine.")
    facts = await scene.facts(turn)
    assert any(isinstance(fact, Recalled) for fact in facts)
    return [(message.role, message.content) for message in request.messages]


async def test_a_rated_answer_is_an_example_in_the_next_like_turn_until_it_is_rated_badly() -> None:
    async with world() as scene:
        await scene.owner()
        await rate(scene, "good", 5)
        prompt = await answer_prompt(scene, "How do I ask for a leave?", "a")
        assert ("assistant", "Fill in form 12.") in prompt
        assert prompt.index(("assistant", "Fill in form 12.")) == len(prompt) - 2, "next to the question"
        other = await answer_prompt(scene, "Tell me about whales", "bb")
        assert ("assistant", "Fill in form 12.") not in other
        await rate(scene, "bad", 9)
        after = await answer_prompt(scene, "How do I ask for a leave?", "ccc")
        assert ("assistant", "Fill in form 12.") not in after
