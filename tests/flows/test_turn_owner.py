"""A turn owner on a bus in memory, with real HTTP skills; generation workers are played by the test."""

from __future__ import annotations

import pytest

from streams import ids
from streams.codec import Record, encode
from streams.events import InputItem
from streams.events.calling import CallAnswered, CallClosed, CallFired, CallOpened
from streams.events.conversation import ConversationOpened
from streams.events.generating import (
    AnswerDelta,
    ModelAsked,
    PlanFinished,
)
from streams.events.intake import TurnCancel, TurnOptions, TurnSubmit
from streams.events.turn import TurnAccepted, TurnCancelled, TurnCompleted, TurnFailed
from tests.support.turn_world import PLAN, T0, world

pytestmark = pytest.mark.asyncio


async def test_one_turn_goes_the_whole_way() -> None:
    async with world() as scene:
        await scene.owner()
        turn = await scene.submit(scene.conversation(), "Find nurses in Rome, and the weather", agent="recruiter")
        await scene.write(await scene.request("plan"), PLAN[:60], PLAN[60:])
        await scene.write(await scene.request("answer"), "Anna is ", "a nurse.")
        facts = await scene.facts(turn)
        kinds = [type(fact) for fact in facts]
        assert kinds[:2] == [TurnAccepted, ConversationOpened]
        assert kinds[-1] is TurnCompleted
        assert sorted(skill for skill, _, _ in scene.skills.arrivals) == ["get_weather", "search_people"]
        assert kinds.count(CallAnswered) == 2
        asked = [fact for fact in facts if isinstance(fact, ModelAsked)]
        assert "search_people: skill search_people, title nurse" in asked[1].messages[-1].content
        schema = asked[0].sampling.json_schema
        assert schema is not None
        assert "search_people" in str(schema)
        assert "delete_note" not in str(schema)  # the model can not name what was not discovered


async def test_a_call_is_on_the_wire_before_the_plan_ends() -> None:
    async with world() as scene:
        await scene.owner()
        turn = await scene.submit(scene.conversation(), "Find nurses in Rome", agent="recruiter")
        request = await scene.request("plan")
        await scene.write(request, PLAN[: PLAN.index("}}") + 1], finish="")
        await scene.skills.arrived.wait()  # the plan is not finished: nobody has written its end
        facts = await scene.facts(turn, frozenset({CallFired.TYPE}))
        assert not any(isinstance(fact, CallClosed | PlanFinished) for fact in facts)
        assert any(isinstance(fact, CallOpened) for fact in facts)
        assert [fact.written for fact in facts if isinstance(fact, CallFired)] == [True]


async def test_the_second_turn_waits_and_sees_the_first() -> None:
    async with world() as scene:
        await scene.owner()
        conversation = scene.conversation()
        first = await scene.submit(conversation, "My name is Ada", agent="companion")
        second = await scene.submit(conversation, "What is my name?", agent="companion", event_id="two")
        await scene.write(await scene.request("answer"), "Hello Ada")
        await scene.facts(first)
        request = await scene.request("answer")
        assert request.turn == second
        said = [(message.role, message.content) for message in request.messages]
        assert ("user", "My name is Ada") in said
        assert ("assistant", "Hello Ada") in said
        await scene.write(request, "Ada.")
        facts = await scene.facts(second)
        accepted = facts[0]
        assert isinstance(accepted, TurnAccepted)
        assert accepted.previous_turn == first
        assert accepted.previous_offset >= 0


async def test_a_submit_sent_twice_is_one_turn() -> None:
    async with world() as scene:
        await scene.owner()
        conversation = scene.conversation()
        turn = await scene.submit(conversation, "Hello", event_id="e1", agent="companion")
        again = await scene.submit(conversation, "Hello", event_id="e1", agent="companion")
        assert again == turn
        await scene.write(await scene.request("answer"), "Hi")
        await scene.facts(turn)
        after = await scene.submit(conversation, "Bye", event_id="e2", agent="companion")
        assert (await scene.request("answer")).turn == after


async def test_busy_conversations_can_refuse() -> None:
    async with world() as scene:
        await scene.owner()
        conversation = scene.conversation()
        await scene.submit(conversation, "Hello", event_id="a", agent="companion")
        await scene.request("answer")
        refused = await scene.submit(conversation, "Hello?", event_id="b", agent="companion", on_busy="reject")
        end = (await scene.facts(refused))[-1]
        assert isinstance(end, TurnFailed)
        assert end.code == "conversation_busy"


async def test_cancel_ends_the_turn_and_keeps_what_was_delivered() -> None:
    async with world() as scene:
        await scene.owner()
        conversation = scene.conversation()
        turn = await scene.submit(conversation, "Tell me a story", agent="companion")
        await scene.write(await scene.request("answer"), "Once upon", finish="")
        cancel = TurnCancel(turn=turn, tenant="acme", user="ada", at_ms=T0)
        await scene.bus.publish("turns", 1, conversation, cancel, "c1", "gateway/test")
        facts = await scene.facts(turn)
        assert isinstance(facts[-1], TurnCancelled)
        assert "".join(fact.text for fact in facts if isinstance(fact, AnswerDelta)) == "Once upon"


async def test_another_users_cancel_is_a_dead_letter_and_changes_nothing() -> None:
    async with world() as scene:
        await scene.owner()
        conversation = scene.conversation()
        turn = await scene.submit(conversation, "Tell me a story", agent="companion")
        request = await scene.request("answer")
        stranger = TurnCancel(turn=turn, tenant="acme", user="eve", at_ms=T0)
        await scene.bus.publish("turns", 1, conversation, stranger, "c1", "gateway/test")
        reader = await scene.bus.reader("dead_letters", dict.fromkeys(range(4), "earliest"))
        records: list[Record] = []
        while not records:
            records = await reader.batch()
        await reader.close()
        await scene.write(request, "The end")
        assert isinstance((await scene.facts(turn))[-1], TurnCompleted)


async def test_a_submit_of_an_unknown_version_fails_its_turn_and_nothing_else() -> None:
    async with world() as scene:
        await scene.owner()
        conversation = scene.conversation()
        turn = ids.turn_id(conversation, T0, bytes(10))
        submit = TurnSubmit(turn=turn, conversation=conversation, tenant="acme", user="ada", input=(), at_ms=T0)
        headers, value = encode(submit, turn, "gateway/test")
        unknown = [(name, b"headstart.turn.submit.v9" if name == "ce_type" else header) for name, header in headers]
        await (await scene.bus.post_raw("turns", 1, conversation.encode(), value, unknown))
        end = (await scene.facts(turn))[-1]
        assert isinstance(end, TurnFailed)
        assert end.code == "unknown_version"
        after = await scene.submit(scene.conversation(7), "Hello", agent="companion")
        await scene.write(await scene.request("answer"), "Hi")
        assert isinstance((await scene.facts(after))[-1], TurnCompleted)


async def test_a_submit_on_a_wrong_partition_is_forwarded() -> None:
    async with world() as scene:
        owner = await scene.owner()
        conversation = scene.conversation(partition=1)
        turn = ids.turn_id(conversation, T0, bytes(10))
        submit = TurnSubmit(
            turn=turn, conversation=conversation, tenant="acme", user="ada", input=(InputItem(text="Hello"),),
            at_ms=T0, opens=True, options=TurnOptions(agent="companion"),
        )  # fmt: skip
        await scene.bus.publish("turns", 0, conversation, submit, turn, "gateway/test")
        await scene.write(await scene.request("answer"), "Hi")
        assert isinstance((await scene.facts(turn))[-1], TurnCompleted)
        assert owner.forwarded == 1
