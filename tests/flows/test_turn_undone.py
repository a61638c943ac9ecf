"""What a turn takes back, and what it leaves to its client: compensations and the client's own functions."""

from __future__ import annotations

import asyncio
import json

import pytest

from streams import ids
from streams.events import InputItem
from streams.events.calling import CallAnswered, CallArguments, CallClosed, CallFired, CallOpened, CallVoided
from streams.events.intake import ClientTool, TurnCancel, TurnOptions, TurnSubmit
from streams.events.turn import TurnCancelled, TurnCompleted
from tests.support.turn_world import T0, world

pytestmark = pytest.mark.asyncio
NOTE = '[{"name": "save_note", "arguments": {"text": "milk"}}'
DOOR = ClientTool(
    name="open_door", description="Opens a door",
    parameters={"type": "object", "properties": {"door": {"type": "string"}}},
)  # fmt: skip


async def test_what_was_done_early_is_undone_when_the_turn_is_cancelled() -> None:
    """Fired while the plan was written, answered, and then nobody wants it any more."""
    async with world() as scene:
        await scene.owner()
        conversation = scene.conversation()
        turn = await scene.submit(conversation, "Note: milk", agent="desk")
        await scene.write(await scene.request("plan"), NOTE, finish="")
        await scene.facts(turn, frozenset({CallAnswered.TYPE}))
        cancel = TurnCancel(turn=turn, tenant="acme", user="ada", at_ms=T0)
        await scene.bus.publish("turns", 1, conversation, cancel, "c1", "gateway/test")
        facts = await scene.facts(turn)
        assert isinstance(facts[-1], TurnCancelled)
        while len(scene.skills.arrivals) < 2:
            scene.skills.arrived.clear()
            await scene.skills.arrived.wait()
        assert [(skill, arguments) for skill, arguments, _ in scene.skills.arrivals] == [
            ("save_note", {"text": "milk"}), ("delete_note", {"text": "milk"}),
        ]  # fmt: skip
        keys = [key for _, _, key in scene.skills.arrivals]
        assert all(keys)
        assert keys[0] != keys[1], "the undoing is a request of its own"


async def test_what_stands_is_not_undone() -> None:
    async with world() as scene:
        await scene.owner()
        turn = await scene.submit(scene.conversation(), "Note: milk", agent="desk")
        await scene.write(await scene.request("plan"), NOTE + "]")
        await scene.write(await scene.request("answer"), "Noted.")
        assert isinstance((await scene.facts(turn))[-1], TurnCompleted)
        await asyncio.sleep(0)
        assert [skill for skill, _, _ in scene.skills.arrivals] == ["save_note"]


async def test_a_clients_function_goes_to_the_client_and_the_next_turn_goes_on_with_its_output() -> None:
    async with world() as scene:
        await scene.owner()
        conversation = scene.conversation()
        turn = await scene.submit(conversation, "Open the door", agent="desk", tools=(DOOR,))
        request = await scene.request("plan")
        assert "open_door" in json.dumps(request.sampling.json_schema), "the model may name it"
        await scene.write(request, '[{"name": "open_door", "argu', 'ments": {"door": "2"}}]')
        facts = await scene.facts(turn)
        [opened] = [fact for fact in facts if isinstance(fact, CallOpened)]
        assert opened.client
        assert json.loads("".join(fact.text for fact in facts if isinstance(fact, CallArguments))) == {"door": "2"}
        assert [fact.arguments for fact in facts if isinstance(fact, CallClosed)] == [{"door": "2"}]
        end = facts[-1]
        assert isinstance(end, TurnCompleted)
        assert end.awaiting == "tool_output"
        assert not [fact for fact in facts if isinstance(fact, CallFired | CallVoided)]
        assert scene.skills.arrivals == []

        goes_on = ids.turn_id(conversation, T0 + 5, bytes(10))
        output = InputItem(kind="function_call_output", call_id=ids.call_id(turn, 0), output='{"opened": "door two"}')
        submit = TurnSubmit(
            turn=goes_on, conversation=conversation, tenant="acme", user="ada", input=(output,), at_ms=T0,
            previous_turn=turn, options=TurnOptions(agent="desk", tools=(DOOR,)),
        )  # fmt: skip
        await scene.bus.publish("turns", 1, conversation, submit, goes_on, "gateway/test")
        answer = await scene.request("answer")
        assert "door two" in answer.messages[-1].content
        await scene.write(answer, "It is open.")
        assert isinstance((await scene.facts(goes_on))[-1], TurnCompleted)
