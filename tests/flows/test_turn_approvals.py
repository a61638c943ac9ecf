"""Irreversible calls that ask a person first: the answer opens the next turn, and is carried out once."""

from __future__ import annotations

import json

import pytest

from streams import ids
from streams.events import InputItem
from streams.events.calling import ApprovalAsked, CallFailed
from streams.events.intake import TurnCancel, TurnSubmit
from streams.events.turn import TurnCancelled, TurnCompleted, TurnFailed
from tests.support.turn_world import T0, World, world

pytestmark = pytest.mark.asyncio


@pytest.mark.parametrize("approve", [True, False])
async def test_an_irreversible_call_waits_for_a_person(approve: bool) -> None:
    async with world() as scene:
        await scene.owner()
        conversation = scene.conversation()
        asking = await scene.submit(conversation, "Tell Lena that I am late", agent="recruiter")
        await scene.write(await scene.request("plan"), '[{"name": "send_message", "arguments": {"text": "late"}}]')
        facts = await scene.facts(asking)
        [asked] = [fact for fact in facts if isinstance(fact, ApprovalAsked)]
        end = facts[-1]
        assert isinstance(end, TurnCompleted)
        assert end.awaiting == "approval"
        assert scene.skills.arrivals == []
        turn = await scene.answer(conversation, asked.request, approve)
        await scene.write(await scene.request("answer"), "Done.")
        facts = await scene.facts(turn)
        assert isinstance(facts[-1], TurnCompleted)
        sent = [(skill, arguments) for skill, arguments, _ in scene.skills.arrivals]
        assert sent == ([("send_message", {"text": "late"})] if approve else [])


async def test_an_approval_of_nothing_fails_its_turn() -> None:
    async with world() as scene:
        await scene.owner()
        conversation = scene.conversation()
        turn = ids.turn_id(conversation, T0 + 5, bytes(10))
        item = InputItem(kind="approval", call_id=ids.item_id("mcpr", turn, 0), approve=True)
        submit = TurnSubmit(
            turn=turn, conversation=conversation, tenant="acme", user="ada", input=(item,), at_ms=T0, opens=True,
        )  # fmt: skip
        await scene.bus.publish("turns", 1, conversation, submit, turn, "gateway/test")
        end = (await scene.facts(turn))[-1]
        assert isinstance(end, TurnFailed)
        assert end.code == "approval_unknown"


async def asked_for(scene: World, conversation: str, *texts: str) -> list[ApprovalAsked]:
    """A turn that ends with these messages waiting for a person."""
    turn = await scene.submit(conversation, "Tell Lena", agent="recruiter")
    calls = [{"name": "send_message", "arguments": {"text": text}} for text in texts]
    await scene.write(await scene.request("plan"), json.dumps(calls))
    facts = await scene.facts(turn)
    assert isinstance(facts[-1], TurnCompleted)
    return [fact for fact in facts if isinstance(fact, ApprovalAsked)]


async def test_what_is_approved_twice_is_done_once_and_the_second_turn_says_so() -> None:
    """Two devices, or a worker of another partition: the ledger knows it from the turn that asked."""
    async with world() as scene:
        await scene.owner()
        conversation = scene.conversation()
        [asked] = await asked_for(scene, conversation, "late")
        first = await scene.answer(conversation, asked.request, True)
        await scene.write(await scene.request("answer"), "Done.")
        assert isinstance((await scene.facts(first))[-1], TurnCompleted)
        again = await scene.answer(conversation, asked.request, True)
        request = await scene.request("answer")
        assert "send_message" in request.messages[-1].content, "the model is told that it has no result"
        await scene.write(request, "It was sent before.")
        facts = await scene.facts(again)
        [failed] = [fact for fact in facts if isinstance(fact, CallFailed)]
        assert (failed.code, failed.in_doubt) == ("approval_used", False)
        assert len(scene.skills.arrivals) == 1
        assert len({key for _, _, key in scene.skills.arrivals}) == 1


async def test_what_is_approved_again_while_the_first_attempt_is_unknown_is_not_tried() -> None:
    async with world() as scene:
        await scene.owner()
        conversation = scene.conversation()
        [asked] = await asked_for(scene, conversation, "late")
        scene.skills.hold("send_message")
        first = await scene.answer(conversation, asked.request, True)
        await scene.skills.arrived.wait()
        cancel = TurnCancel(turn=first, tenant="acme", user="ada", at_ms=T0)
        await scene.bus.publish("turns", 1, conversation, cancel, "c1", "gateway/test")
        end = (await scene.facts(first))[-1]
        assert isinstance(end, TurnCancelled)
        assert end.in_doubt == (0,), "nobody knows whether it was sent"
        again = await scene.answer(conversation, asked.request, True)
        await scene.write(await scene.request("answer"), "I do not know.")
        facts = await scene.facts(again)
        [failed] = [fact for fact in facts if isinstance(fact, CallFailed)]
        assert (failed.code, failed.in_doubt) == ("call_in_doubt", True)
        assert isinstance(facts[-1], TurnCompleted)
        assert facts[-1].in_doubt == (0,)
        assert len(scene.skills.arrivals) == 1


async def test_a_refusal_may_be_thought_over() -> None:
    async with world() as scene:
        await scene.owner()
        conversation = scene.conversation()
        [asked] = await asked_for(scene, conversation, "late")
        for approve in (False, True):
            turn = await scene.answer(conversation, asked.request, approve)
            await scene.write(await scene.request("answer"), "As you wish.")
            assert isinstance((await scene.facts(turn))[-1], TurnCompleted)
            assert len(scene.skills.arrivals) == int(approve)


async def test_the_same_message_twice_in_a_plan_is_asked_and_sent_once() -> None:
    async with world() as scene:
        await scene.owner()
        conversation = scene.conversation()
        asked = await asked_for(scene, conversation, "late", "late", "very late")
        assert [fact.arguments for fact in asked] == [{"text": "late"}, {"text": "very late"}]
        turn = await scene.answer(conversation, asked[0].request, True)
        await scene.write(await scene.request("answer"), "Done.")
        assert isinstance((await scene.facts(turn))[-1], TurnCompleted)
        assert [arguments for _, arguments, _ in scene.skills.arrivals] == [{"text": "late"}]
