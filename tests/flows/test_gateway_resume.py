"""Going on elsewhere: attach and resume on any gateway, slow clients, cancel, steer. All bytes come from the log."""

from __future__ import annotations

import asyncio
import random
import socket as socket_module
from typing import Any

import orjson
import pytest

from gateway.limits import Limits
from memory.rows import Change, ConversationRow
from streams import ids
from streams.events.intake import TurnCancel, TurnSteer, TurnSubmit
from streams.offsets import Cursor
from tests.support.gateways import PATIENCE_S, Frame, Rig, Socket, of_log, text_of
from tests.support.turn_script import Line, answer, client_call, completed, journey

pytestmark = pytest.mark.asyncio
PIECES = [f"piece {number} " for number in range(12)]


def held(submit: TurnSubmit) -> list[Line]:
    return journey(PIECES, hold_after=5)


async def begun(socket: Socket, **fields: Any) -> tuple[str, str]:
    """Starts a turn and reads to its fifth delta; (conversation, response)."""
    await socket.create("go", **fields)
    deltas = 0
    conversation = response = ""
    while deltas < 5:
        frame = await socket.next()
        if frame["type"] == "headstart.accepted":
            conversation, response = frame["conversation"], frame["response_id"]
        deltas += frame["type"] == "response.output_text.delta"
    return conversation, response


async def test_attach_on_another_gateway_gives_the_same_bytes_and_goes_on_live() -> None:
    async with Rig(held) as rig:
        one, two = await rig.gateway("one"), await rig.gateway("two")
        async with rig.socket(one) as first, rig.socket(two) as second:
            conversation, _ = await begun(first)
            await second.send({"type": "session.attach", "conversation": conversation, "after": "start"})
            assert (await second.next())["type"] == "session.attached"
            await second.until("session.live")
            rig.turns.release("answer")
            await first.until_end()
            await second.until_end()
    assert of_log(first.raw) == of_log(second.raw)


async def test_a_second_device_joins_live_and_sees_the_running_turn_whole() -> None:
    async with Rig(held) as rig:
        one, two = await rig.gateway("one"), await rig.gateway("two")
        async with rig.socket(one) as first, rig.socket(two) as second:
            conversation, _ = await begun(first)
            await second.send({"type": "session.attach", "conversation": conversation})
            await second.until("session.live")
            rig.turns.release("answer")
            await first.until_end()
            await second.until_end()
            assert of_log(first.raw) == of_log(second.raw)
            await first.create("again", conversation=conversation)
            await first.until_end()
            await second.until_end()
    assert of_log(first.raw) == of_log(second.raw)


async def test_attaching_on_the_socket_that_runs_the_turn_repeats_nothing() -> None:
    async with Rig(held) as rig:
        gateway = await rig.gateway()
        async with rig.socket(gateway) as socket:
            conversation, _ = await begun(socket, stream_id="a")
            await socket.send({"type": "session.attach", "conversation": conversation})
            await socket.until("session.live")
            rig.turns.release("answer")
            frames = await socket.until_end()
            assert {frame["stream_id"] for frame in frames} == {"a"}
            await socket.create("next in the lane", stream_id="a", conversation=conversation)
            await socket.until_end()
    numbers = [orjson.loads(text)["sequence_number"] for text in of_log(socket.raw)]
    half = numbers.index(0, 1)
    assert numbers == [*range(half), *range(half)]


async def test_the_stock_client_resumes_after_a_restart() -> None:
    """A drained gateway closes with 1012; the SDK reconnects, and its handler says after which cursor."""
    async with Rig(held) as rig, asyncio.timeout(PATIENCE_S):
        gateway = await rig.gateway("one")
        port = gateway.port
        last: dict[str, str] = {}
        reconnected: list[int] = []

        def on_reconnecting(event: Any) -> dict[str, Any]:
            reconnected.append(event.close_code)
            return {"extra_query": {"after": list(last.values())}}

        client = rig.openai(gateway)
        restarted = False
        text, numbers = "", []
        async with client.responses.connect(on_reconnecting=on_reconnecting, initial_delay=0.01) as connection:
            await connection.response.create(model="headstart", input="go")
            async for event in connection:
                if event.type in ("headstart.accepted", "session.attached", "session.live"):
                    continue
                last["conversation"] = event.cursor
                numbers.append(event.sequence_number)
                text += event.delta if event.type == "response.output_text.delta" else ""
                if text.endswith("piece 4 ") and not restarted:
                    restarted = True
                    await gateway.stop()
                    await rig.gateway("two", port=port)
                    rig.turns.release("answer")
                if event.type == "response.completed":
                    break
    assert reconnected == [1012]
    assert numbers == list(range(len(numbers)))
    assert text == "".join(PIECES) == event.response.output_text


@pytest.mark.parametrize("seed", range(4))
async def test_streams_resumed_at_random_cursors_elsewhere_while_they_run(seed: int) -> None:
    """Each stream is cut at a random frame and resumed on the other gateway; some resumes follow a restart."""
    rng = random.Random(seed)
    count = 25

    async with Rig(lambda submit: journey(PIECES, hold_after=rng.randrange(12))) as rig:
        gateways = [await rig.gateway("one"), await rig.gateway("two")]
        cut: list[tuple[list[str], str]] = []
        for number in range(count):
            async with rig.socket(gateways[number % 2]) as socket:
                await socket.create("go", event_id=f"e{number}")
                stop = rng.randrange(1, 15)
                while len(of_log(socket.raw)) < stop:
                    await socket.next()
                cut.append((of_log(socket.raw), orjson.loads(of_log(socket.raw)[-1])["cursor"]))
        if seed % 2:
            await gateways[0].stop()
            gateways[0] = await rig.gateway("three")
        rig.turns.release("answer")
        for number, (had, cursor) in enumerate(cut):
            elsewhere = gateways[(number + 1) % 2]
            async with rig.socket(elsewhere, query=f"?after={cursor}") as socket:
                await socket.until_end()
            resumed = had + of_log(socket.raw)
            conversation = Cursor.decode(cursor).conversation
            async with rig.socket(gateways[number % 2]) as socket:
                await socket.send({"type": "session.attach", "conversation": conversation, "after": "start"})
                await socket.until_end()
            assert resumed == of_log(socket.raw)


async def test_many_conversations_on_one_socket() -> None:
    async with Rig() as rig:
        gateway = await rig.gateway()
        async with rig.socket(gateway) as socket:
            for number in range(3):
                await socket.create(f"text {number}")
                await socket.until_end()
        cursors = [
            frame["cursor"]
            for frame in (orjson.loads(text) for text in socket.raw)
            if frame["type"] == "response.created"
        ]
        async with rig.socket(gateway, query="?" + "&".join(f"after[]={cursor}" for cursor in cursors)) as second:
            frames = [frame for _ in cursors for frame in await second.until_end()]
    said: dict[str, str] = {}
    for frame in frames:
        if frame["type"] == "response.output_text.delta":
            said[frame["response_id"]] = said.get(frame["response_id"], "") + frame["delta"]
    assert sorted(said.values()) == ["text 0", "text 1", "text 2"]


async def test_expired_history_is_a_gap_and_a_snapshot() -> None:
    async with Rig() as rig:
        gateway = await rig.gateway()
        async with rig.socket(gateway) as socket:
            await socket.create("old news")
            frames = await socket.until_end()
        cursor = Cursor.decode(frames[2]["cursor"])
        row = ConversationRow(conversation=cursor.conversation, tenant="acme", user="ada", created_at_ms=1)
        await rig.store.project(cursor.partition, cursor.offset, [Change(cursor.offset, row)])
        rig.broker.trim("events", cursor.partition, cursor.offset + 2)
        other = await rig.gateway("other")
        async with rig.socket(other, query=f"?after={frames[2]['cursor']}") as socket:
            kinds = [(await socket.next())["type"] for _ in range(4)]
            assert kinds == ["session.attached", "session.gap", "session.snapshot", "session.live"]
            await socket.create("news", conversation=cursor.conversation)
            assert text_of(await socket.until_end()) == "news"


async def test_a_cursor_of_a_log_that_was_made_anew_is_a_gap() -> None:
    async with Rig() as rig:
        gateway = await rig.gateway()
        async with rig.socket(gateway) as socket:
            await socket.create("x")
            cursor = Cursor.decode((await socket.until_end())[-1]["cursor"])
        old = Cursor(cursor.offset, cursor.frame, cursor.conversation, cursor.turn_offset, cursor.topic_epoch ^ 1)
        async with rig.socket(gateway, query=f"?after={old.encode()}") as socket:
            kinds = [frame["type"] for frame in await socket.until("session.live")]
    assert kinds[:3] == ["session.attached", "session.gap", "session.snapshot"]
    assert kinds[-2:] == ["response.completed", "session.live"]


async def test_a_stalled_client_is_fed_from_the_log_and_others_are_not_held_up() -> None:
    """It reads nothing while another client gets everything; its window stays bounded, and its frames are the same."""
    pieces = [f"{number:04d} " + "x" * 4000 + " " for number in range(400)]
    async with Rig(lambda submit: [*answer(pieces), completed()]) as rig:
        gateway = await rig.gateway(limits=Limits(window_bytes=32 * 1024))
        plain = socket_module.socket()
        plain.setsockopt(socket_module.SOL_SOCKET, socket_module.SO_RCVBUF, 8192)
        plain.connect(("127.0.0.1", gateway.port))
        async with rig.socket(gateway, max_queue=1, sock=plain) as stalled:
            await stalled.create("long")
            await stalled.next()
            (connection,) = gateway.connections
            async with rig.socket(gateway) as other:
                await other.create("long")
                assert text_of(await other.until_end()) == "".join(pieces)
                while connection.outlet.window.room(len(pieces[0]) + 500):
                    await (await other.connection.ping())
            assert connection.outlet.window.waiting_bytes <= 32 * 1024
            frames = await stalled.until_end()
    assert text_of(frames) == "".join(pieces)
    assert [f["sequence_number"] for f in frames if "cursor" in f] == list(range(len(frames)))


async def test_a_client_that_acknowledges_holds_its_own_window() -> None:
    """Frames stop when what is not acknowledged fills the window, and go on with the acknowledgement."""
    pieces = ["x" * 1000] * 40
    async with Rig(lambda submit: [*answer(pieces, hold_after=1), completed()]) as rig:
        gateway = await rig.gateway(limits=Limits(window_bytes=16 * 1024))
        async with rig.socket(gateway) as socket:
            await socket.create("go")
            frames = await socket.until("response.output_text.delta")
            await socket.send({"type": "headstart.ack", "cursor": frames[-1]["cursor"]})
            await socket.send({"type": "response.unknown"})
            await socket.until("error")  # the acknowledgement was read
            rig.turns.release("answer")
            window = next(iter(gateway.connections)).outlet.window
            while window.room(1000):
                frames.append(await socket.next())
            unacknowledged = window.unacknowledged_bytes
            assert unacknowledged <= 16 * 1024
            async with rig.socket(gateway) as other:
                await other.create("go")
                await other.until_end()
            assert window.unacknowledged_bytes + window.waiting_bytes <= 16 * 1024
            while frames[-1]["type"] != "response.completed":
                await socket.send({"type": "headstart.ack", "cursor": frames[-1]["cursor"]})
                frames.append(await socket.next())
    kept = [frame for frame in frames if "sequence_number" in frame]
    assert [frame["sequence_number"] for frame in kept] == list(range(len(kept)))


async def test_cancel_from_another_gateway() -> None:
    async with Rig(held) as rig:
        one, two = await rig.gateway("one"), await rig.gateway("two")
        async with rig.socket(one) as socket, rig.socket(two) as other:
            _, response = await begun(socket)
            await other.send({"type": "response.cancel", "response_id": response, "event_id": "c1"})
            assert (await other.next()) == {
                "type": "headstart.cancel.accepted", "event_id": "c1", "response_id": response,
            }  # fmt: skip
            frames = await socket.until_end()
            assert frames[-1]["type"] == "response.incomplete"
            assert frames[-1]["response"]["status"] == "cancelled"
            assert [frame["type"] for frame in frames][-2] == "headstart.delivered"
            await socket.send({"type": "response.cancel", "response_id": response})
            assert (await socket.next())["error"]["code"] == "response_already_completed"
        assert isinstance(await rig.turns.read(TurnCancel), TurnCancel)


async def test_cancel_over_http_answers_with_the_end() -> None:
    async with Rig(held) as rig, asyncio.timeout(PATIENCE_S):
        gateway = await rig.gateway()
        client = rig.openai(gateway)
        started = await client.responses.create(model="headstart", input="go", background=True)
        assert started.status == "in_progress"
        cancelled = await client.responses.cancel(started.id)
        assert cancelled.status == "cancelled"
        assert (await client.responses.retrieve(started.id)) == cancelled


async def test_a_closed_socket_cancels_nothing() -> None:
    async with Rig(held) as rig, asyncio.timeout(PATIENCE_S):
        gateway = await rig.gateway()
        async with rig.socket(gateway) as socket:
            _, response = await begun(socket)
        rig.turns.release("answer")
        got = await rig.openai(gateway).responses.retrieve(response, stream=True)
        events = [event async for event in got]
    assert events[-1].type == "response.completed"


async def test_steering_a_running_response() -> None:
    async with Rig(held) as rig, asyncio.timeout(PATIENCE_S):
        client = rig.openai(await rig.gateway())
        async with client.responses.connect() as connection:
            await connection.response.create(model="headstart", input="go", stream_id="a")
            kinds: list[str] = []
            steered = response = ""
            async for event in connection:
                kinds.append(event.type)
                if event.type == "response.output_text.delta" and event.delta == PIECES[4] and not response:
                    response = event.response_id
                    await connection.response.steer(previous_response_id=response, input="and now shorter")
                if event.type == "response.steer.accepted":
                    assert event.steer.previous_response_id == response
                if event.type == "response.incomplete":
                    assert event.response.incomplete_details.reason == "steered"
                    rig.turns.release("answer")
                if event.type == "response.created":
                    steered = event.response.id
                if event.type == "response.completed":
                    break
    assert kinds.count("response.created") == 2
    assert kinds.index("response.steer.accepted") < kinds.index("response.incomplete")
    assert event.response.id == steered != response
    assert event.stream_id == "a"
    steer = await rig.turns.read(TurnSteer)
    assert isinstance(steer, TurnSteer)
    assert ids.response_of(steer.successor) == steered


async def test_a_steer_that_meets_a_client_call_waits_for_its_output() -> None:
    def script(submit: TurnSubmit) -> list[Line]:
        if submit.previous_turn:
            return [*answer([item.text or item.output for item in submit.input]), completed()]
        return [*answer(["Let me see. "], hold_after=1)[:-1], *client_call(), completed(awaiting="tool_output")]

    async with Rig(script) as rig:
        gateway = await rig.gateway()
        rig.turns.ignore_steers = True
        tool = {"type": "function", "name": "open_door", "parameters": {"type": "object"}}
        async with rig.socket(gateway) as socket:
            await socket.create("open", tools=[tool])
            frames = await socket.until("response.output_text.delta")
            response = frames[0]["response_id"]
            await socket.send({"type": "response.steer", "previous_response_id": response, "input": "Quickly. "})
            await socket.until("response.steer.accepted")
            rig.turns.release("answer")
            pending = (await socket.until("response.steer.pending"))[-1]
            assert pending["reason"] == "waiting_for_required_input"
            (stub,) = pending["required_input"]
            assert (stub["type"], stub["name"]) == ("function_call_output", "open_door")
            assert pending["steer"]["previous_response_id"] == response
            output = {"type": "function_call_output", "call_id": stub["call_id"], "output": "Opened."}
            await socket.send({"type": "response.create", "previous_response_id": response, "input": [output]})
            assert text_of(await socket.until_end()) == "Quickly. Opened."


async def test_a_steer_that_comes_too_late_gives_its_input_back() -> None:
    async with Rig(held) as rig:
        gateway = await rig.gateway()
        rig.turns.ignore_steers = True
        async with rig.socket(gateway) as socket:
            _, response = await begun(socket)
            await socket.send({"type": "response.steer", "previous_response_id": response, "input": "more"})
            await socket.until("response.steer.accepted")
            rig.turns.release("answer")
            failed = (await socket.until("response.steer.failed"))[-1]
    assert failed["error"]["code"] == "response_already_completed"
    assert failed["steer"]["input"] == "more"


async def test_a_keyed_request_sent_again_shows_the_turn_from_its_beginning() -> None:
    async with Rig(held) as rig:
        one, two = await rig.gateway("one"), await rig.gateway("two", limits=Limits(repeat_after_ms=1))
        async with rig.socket(one) as first:
            await begun(first, event_id="e1")
            async with rig.socket(one) as same, rig.socket(two) as other:
                for socket in (same, other):
                    await socket.create("go", event_id="e1")
                await same.until("response.output_text.delta")
                await other.until("response.output_text.delta")
                rig.turns.release("answer")
                await first.until_end()
                await same.until_end()
                await other.until_end()
    assert of_log(first.raw) == of_log(same.raw) == of_log(other.raw)
    submits = [command for command in rig.turns.commands if isinstance(command, TurnSubmit)]
    assert len({submit.turn for submit in submits}) == 1


async def test_what_to_do_when_the_conversation_is_busy_does_not_wait_in_the_lane() -> None:
    async with Rig(held) as rig:
        gateway = await rig.gateway()
        async with rig.socket(gateway) as socket:
            conversation, _ = await begun(socket)
            await socket.create("me first", conversation=conversation, on_busy="interrupt")
            frames: list[Frame] = await socket.until("response.created")
            assert "headstart.queued" not in [frame["type"] for frame in frames]
        submits = [command for command in rig.turns.commands if isinstance(command, TurnSubmit)]
    assert submits[-1].options.on_busy == "interrupt"


async def test_conversations_over_http() -> None:
    async with Rig() as rig, asyncio.timeout(PATIENCE_S):
        gateway = await rig.gateway()
        client = rig.openai(gateway)
        async with rig.http(gateway) as http:
            made = (await http.post("/v1/conversations", json={})).json()
            conversation = made["id"]
            assert (await http.get(f"/v1/conversations/{conversation}")).json() == made
            answer = await client.responses.create(model="headstart", input="hi", conversation=conversation)
            assert answer.conversation.id == conversation
            async with rig.socket(gateway) as socket:
                await socket.send({"type": "session.attach", "conversation": conversation})
                await socket.until("session.live")
                renamed = await http.post(f"/v1/conversations/{conversation}", json={"title": "Greetings"})
                assert renamed.json()["metadata"] == {"title": "Greetings"}
                assert (await socket.next())["title"] == "Greetings"
                assert (await http.delete(f"/v1/conversations/{conversation}")).json()["deleted"]
                assert (await socket.next())["type"] == "headstart.conversation.deleted"
            for path in ("?limit=0", "?after=x"):
                assert (await http.get("/v1/conversations" + path)).status_code == 400


async def test_a_stopping_gateway_begins_nothing_new() -> None:
    async with Rig(held) as rig:
        gateway = await rig.gateway()
        async with rig.socket(gateway) as socket:
            await begun(socket)
            gateway.services.draining = True
            await socket.create("one more")
            assert (await socket.until("error"))[-1]["error"]["code"] == "draining"
            async with rig.http(gateway) as http:
                assert (await http.get("/readyz")).status_code == 503
            gateway.services.draining = False
