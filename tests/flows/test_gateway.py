"""A turn through a real server on a real socket, with the stock `openai` client."""

from __future__ import annotations

import asyncio

import pytest
from openai import APIStatusError

from streams import ids
from streams.events.intake import TurnSubmit
from streams.events.turn import TurnFailed
from tests.support.gateways import PATIENCE_S, Rig, text_of
from tests.support.turn_script import Line, Say, client_call, completed, journey

pytestmark = pytest.mark.asyncio
ENDS = ("response.completed", "response.incomplete", "response.failed")


async def test_a_turn_over_a_socket() -> None:
    async with Rig(lambda submit: journey()) as rig, asyncio.timeout(PATIENCE_S):
        client = rig.openai(await rig.gateway())
        async with client.responses.connect() as connection:
            await connection.response.create(model="headstart", input="How warm is it in Oslo?")
            events = []
            async for event in connection:
                events.append(event)
                if event.type in ENDS:
                    break
    assert events[0].type == "headstart.accepted"
    assert events[1].type == "response.created"
    assert [event.sequence_number for event in events[1:]] == list(range(len(events) - 1))
    text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    last = events[-1]
    assert last.type == "response.completed"
    assert text == last.response.output_text == "It is 4 °C in Oslo."


async def test_two_lanes_side_by_side() -> None:
    """Lanes are independent: the second ends while the first waits in its middle."""

    def script(submit: TurnSubmit) -> list[Line]:
        slow = submit.input[0].text == "slow"
        return journey([submit.input[0].text, " answer"], hold_after=1 if slow else -1)

    async with Rig(script) as rig, asyncio.timeout(PATIENCE_S):
        client = rig.openai(await rig.gateway())
        async with client.responses.connect() as connection:
            await connection.response.create(model="headstart", input="slow", stream_id="one")
            async for event in connection:
                if event.type == "response.output_text.delta":
                    break
            await connection.response.create(model="headstart", input="quick", stream_id="two")
            ended: list[tuple[str | None, str]] = []
            async for event in connection:
                if event.type == "response.completed":
                    ended.append((event.stream_id, event.response.output_text))
                    if len(ended) == 2:
                        break
                    rig.turns.release("answer")
    assert ended == [("two", "quick answer"), ("one", "slow answer")]


async def test_requests_of_one_lane_run_first_in_first_out() -> None:
    async with Rig() as rig:
        gateway = await rig.gateway()
        async with rig.socket(gateway) as socket:
            for number in range(3):
                await socket.create(f"number {number}", stream_id="a", event_id=f"e{number}")
            said: list[str] = []
            queued: list[str] = []
            while len(said) < 3:
                frames = await socket.until_end()
                queued += [frame["event_id"] for frame in frames if frame["type"] == "headstart.queued"]
                said.append(text_of(frames))
                assert all(frame.get("stream_id") == "a" for frame in frames)
    assert said == ["number 0", "number 1", "number 2"]
    assert queued == ["e1", "e2"]


async def test_plain_responses_and_the_conversation_they_make() -> None:
    async with Rig() as rig, asyncio.timeout(PATIENCE_S):
        client = rig.openai(await rig.gateway())
        first = await client.responses.create(model="headstart", input="one")
        assert first.output_text == "one"
        assert first.conversation is not None
        second = await client.responses.create(model="headstart", input="two", previous_response_id=first.id)
        assert second.conversation == first.conversation
        third = await client.responses.create(model="headstart", input="three", conversation=first.conversation.id)
        assert third.conversation == first.conversation
        assert third.previous_response_id == second.id
        forked = await client.responses.create(model="headstart", input="two again", previous_response_id=first.id)
        assert forked.conversation is not None
        assert forked.conversation.id != first.conversation.id
        assert ids.partition_of(forked.conversation.id) == ids.partition_of(first.conversation.id)
        submits = [command for command in rig.turns.commands if isinstance(command, TurnSubmit)]
        assert [submit.opens for submit in submits] == [True, False, False, True]
        assert (submits[3].parent, submits[3].parent_turn) == (first.conversation.id, ids.turn_of(first.id))


async def test_responses_by_server_sent_events() -> None:
    async with Rig(lambda submit: journey()) as rig, asyncio.timeout(PATIENCE_S):
        client = rig.openai(await rig.gateway())
        stream = await client.responses.create(model="headstart", input="warm?", stream=True)
        events = [event async for event in stream]
        assert [event.sequence_number for event in events] == list(range(len(events)))
        assert events[-1].type == "response.completed"
        got = await client.responses.retrieve(events[-1].response.id)
        assert got == events[-1].response
        rest = await client.responses.retrieve(got.id, stream=True, starting_after=10)
        assert [event async for event in rest] == events[11:]
        none = await client.responses.retrieve(got.id, stream=True, starting_after=len(events) - 1)
        assert [event async for event in none] == []
        items = await client.responses.input_items.list(got.id)
        assert [item.content[0].text for item in items.data] == ["warm?"]


async def test_the_sdks_own_stream_helper_accepts_the_frames() -> None:
    async with Rig(lambda submit: journey()) as rig, asyncio.timeout(PATIENCE_S):
        client = rig.openai(await rig.gateway())
        async with client.responses.stream(model="headstart", input="warm?") as stream:
            async for _ in stream:
                pass
            final = await stream.get_final_response()
    assert final.output_text == "It is 4 °C in Oslo."


async def test_chat_completions_streamed_and_plain() -> None:
    async with Rig(lambda submit: journey()) as rig, asyncio.timeout(PATIENCE_S):
        client = rig.openai(await rig.gateway())
        messages = [{"role": "system", "content": "Be short."}, {"role": "user", "content": "warm?"}]
        plain = await client.chat.completions.create(model="headstart", messages=messages)
        assert plain.choices[0].message.content == "It is 4 °C in Oslo."
        assert plain.choices[0].finish_reason == "stop"
        assert plain.usage is not None
        stream = await client.chat.completions.create(
            model="headstart", messages=messages, stream=True, stream_options={"include_usage": True}
        )  # fmt: skip
        chunks = [chunk async for chunk in stream]
    said = "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)
    assert said == "It is 4 °C in Oslo."
    assert [choice.finish_reason for chunk in chunks for choice in chunk.choices][-1] == "stop"
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.total_tokens == 15
    submit = await rig.turns.read(TurnSubmit)
    assert isinstance(submit, TurnSubmit)
    assert [(item.role, item.text) for item in submit.input] == [("system", "Be short."), ("user", "warm?")]


async def test_the_clients_own_function_over_chat_completions() -> None:
    tool = {"type": "function", "function": {"name": "open_door", "parameters": {"type": "object"}}}
    async with Rig(lambda submit: [*client_call(), completed(awaiting="tool_output")]) as rig:
        client = rig.openai(await rig.gateway())
        messages = [{"role": "user", "content": "open"}]
        async with asyncio.timeout(PATIENCE_S):
            plain = await client.chat.completions.create(
                model="headstart", messages=messages, tools=[tool]
            )  # fmt: skip
            stream = await client.chat.completions.create(
                model="headstart", messages=messages, tools=[tool], stream=True
            )  # fmt: skip
            chunks = [chunk async for chunk in stream]
    assert plain.choices[0].finish_reason == "tool_calls"
    assert plain.choices[0].message.tool_calls is not None
    call = plain.choices[0].message.tool_calls[0]
    assert call.type == "function"
    assert call.function.arguments == '{"door":2}'
    pieces = [call.function.arguments for chunk in chunks for choice in chunk.choices
              for call in choice.delta.tool_calls or [] if call.function]  # fmt: skip
    assert "".join(piece or "" for piece in pieces) == '{"door":2}'


async def test_the_clients_own_function_over_responses() -> None:
    tool = {"type": "function", "name": "open_door", "parameters": {"type": "object"}, "strict": False}

    def script(submit: TurnSubmit) -> list[Line]:
        output = next((item.output for item in submit.input if item.kind == "function_call_output"), None)
        return journey([f"It said {output}."]) if output else [*client_call(), completed(awaiting="tool_output")]

    async with Rig(script) as rig, asyncio.timeout(PATIENCE_S):
        client = rig.openai(await rig.gateway())
        first = await client.responses.create(model="headstart", input="open", tools=[tool])
        (call,) = first.output
        assert call.type == "function_call"
        second = await client.responses.create(
            model="headstart", previous_response_id=first.id,
            input=[{"type": "function_call_output", "call_id": call.call_id, "output": "done"}],
        )  # fmt: skip
    assert second.output_text == "It said done."


async def test_a_failed_turn_is_an_error_in_each_api() -> None:
    failed = Say("turn", TurnFailed(at_ms=1, code="no_such_agent", message="No such agent.", fault="caller"))
    async with Rig(lambda submit: [failed]) as rig, asyncio.timeout(PATIENCE_S):
        client = rig.openai(await rig.gateway())
        response = await client.responses.create(model="headstart", input="x")
        assert response.status == "failed"
        assert response.error is not None
        with pytest.raises(APIStatusError) as caught:
            await client.chat.completions.create(model="headstart", messages=[{"role": "user", "content": "x"}])
        assert caught.value.status_code == 400
        assert caught.value.code == "no_such_agent"


async def test_models_health_figures_and_the_page() -> None:
    async with Rig() as rig:
        gateway = await rig.gateway()
        client = rig.openai(gateway)
        assert [model.id for model in (await client.models.list()).data] == ["headstart"]
        async with rig.http(gateway) as http:
            assert (await http.get("/healthz")).json() == {"status": "ok"}
            assert (await http.get("/readyz")).json() == {"status": "ready", "failing": []}
            await client.responses.create(model="headstart", input="x")
            page = await http.get("/")
            assert page.status_code == 200
            assert "frame-ancestors 'none'" in page.headers["content-security-policy"]
            assert (await http.get("/web/app.js")).status_code == 200
            figures = (await http.get("/metrics")).text
            assert "headstart_gateway_turns_total 1.0" in figures


async def test_the_same_event_id_is_the_same_turn_on_any_gateway() -> None:
    async with Rig() as rig, asyncio.timeout(PATIENCE_S):
        one, two = await rig.gateway("one"), await rig.gateway("two")
        first = await rig.openai(one).responses.create(
            model="headstart", input="once", metadata={"event_id": "e1"}
        )  # fmt: skip
        again = await rig.openai(one).responses.create(
            model="headstart", input="once", metadata={"event_id": "e1"}
        )  # fmt: skip
        elsewhere = await rig.openai(two).responses.create(
            model="headstart", input="once", metadata={"event_id": "e1"}
        )  # fmt: skip
    assert first == again == elsewhere
