"""Bad input at the door: each kind gets a typed answer that names it, and the socket goes on."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

from gateway.access import SUBPROTOCOL
from gateway.limits import Limits
from streams import ids
from tests.support.gateways import PATIENCE_S, Rig, text_of
from tests.support.turn_script import conversation_of

pytestmark = pytest.mark.asyncio
NOBODYS = conversation_of(77)
CREATE = {"type": "response.create", "model": "headstart", "input": "x"}
DEEP = orjson.loads(b'{"a":' * 200 + b"1" + b"}" * 200)
BAD: list[tuple[dict[str, Any] | str | bytes, str, int]] = [
    ("{not json", "not_json", 400),
    (b"\xff\xfe\x00", "not_json", 400),
    ("[1, 2]", "not_an_object", 400),
    ('"response.create"', "not_an_object", 400),
    ({}, "missing_type", 400),
    ({"type": 5}, "missing_type", 400),
    ({"type": "response.explode"}, "unknown_frame", 400),
    ({**CREATE, "input": 5}, "invalid_input", 400),
    ({**CREATE, "input": []}, "invalid_input", 400),
    ({**CREATE, "input": [{"type": "input_image"}]}, "invalid_input", 400),
    ({**CREATE, "input": [{"role": "user", "content": [{"type": "input_image", "image_url": "x"}]}]}, "invalid_input",
     400),
    ({**CREATE, "input": [{"role": "robot", "content": "x"}]}, "invalid_input", 400),
    ({**CREATE, "temperature": "hot"}, "invalid_input", 400),
    ({**CREATE, "max_output_tokens": True}, "invalid_input", 400),
    ({**CREATE, "tools": [{"type": "web_search"}]}, "invalid_input", 400),
    ({**CREATE, "tools": [{"type": "function", "name": "f", "parameters": DEEP}]}, "invalid_input", 400),
    ({**CREATE, "tool_choice": 7}, "invalid_input", 400),
    ({**CREATE, "metadata": {"a": 5}}, "invalid_input", 400),
    ({**CREATE, "stream_id": ""}, "invalid_input", 400),
    ({**CREATE, "on_busy": "panic"}, "invalid_input", 400),
    ({**CREATE, "event_id": 9}, "invalid_input", 400),
    ({**CREATE, "background": True}, "invalid_input", 400),
    ({**CREATE, "conversation": "conv_nonsense"}, "invalid_conversation", 400),
    ({**CREATE, "conversation": NOBODYS}, "unknown_conversation", 404),
    ({**CREATE, "conversation": f"conv_ffff{NOBODYS[9:]}"}, "unknown_conversation", 404),
    ({**CREATE, "previous_response_id": "resp_1"}, "invalid_previous_response_id", 400),
    ({**CREATE, "previous_response_id": f"resp_{ids.body_of(NOBODYS)}"}, "response_not_found", 404),
    ({**CREATE, "previous_response_id": f"resp_{ids.body_of(NOBODYS)}", "conversation": NOBODYS}, "invalid_input", 400),
    ({"type": "response.cancel"}, "invalid_input", 400),
    ({"type": "response.cancel", "response_id": f"resp_{ids.body_of(NOBODYS)}"}, "response_not_found", 404),
    ({"type": "session.attach"}, "invalid_conversation", 400),
    ({"type": "session.attach", "conversation": NOBODYS}, "unknown_conversation", 404),
    ({"type": "session.attach", "conversation": NOBODYS, "after": "x"}, "invalid_cursor", 400),
    ({"type": "session.detach", "conversation": 4}, "invalid_input", 400),
    ({"type": "headstart.ack", "cursor": "live"}, "invalid_cursor", 400),
    ({"type": "headstart.ack"}, "invalid_cursor", 400),
]  # fmt: skip


async def test_every_bad_frame_is_answered_by_name_and_the_socket_goes_on() -> None:
    async with Rig() as rig:
        gateway = await rig.gateway()
        async with rig.socket(gateway) as socket:
            for number, (frame, code, status) in enumerate(BAD):
                named = {"event_id": f"bad {number}", **frame} if isinstance(frame, dict) else frame
                await socket.send(named)
                answer = await socket.next()
                assert (answer["type"], answer["error"]["code"], answer["status"]) == ("error", code, status), frame
                assert "cursor" not in answer
                if isinstance(named, dict) and isinstance(named["event_id"], str):
                    assert answer["event_id"] == named["event_id"]
            await socket.create("still here")
            assert text_of(await socket.until_end()) == "still here"


async def test_bad_steers_give_the_input_back() -> None:
    async with Rig() as rig:
        gateway = await rig.gateway()
        async with rig.socket(gateway) as socket:
            await socket.create("done")
            ended = (await socket.until_end())[-1]["response"]["id"]
            for previous, given, code in (
                ("resp_1", "more", "response_not_found"),
                (f"resp_{ids.body_of(NOBODYS)}", "more", "response_not_found"),
                (ended, [], "invalid_input"),
                (ended, [{"type": "function_call_output", "call_id": "c", "output": "o"}], "invalid_input"),
                (ended, "more", "response_already_completed"),
            ):
                await socket.send({"type": "response.steer", "previous_response_id": previous, "input": given})
                answer = await socket.next()
                assert answer["type"] == "response.steer.failed"
                assert answer["error"]["code"] == code
                assert answer["steer"]["input"] == given


async def test_a_frame_that_is_too_large_costs_its_sender_an_error() -> None:
    async with Rig() as rig:
        gateway = await rig.gateway(limits=Limits(frame_bytes=4096))
        async with rig.socket(gateway) as socket:
            for text in ("a" * 5000, "ä" * 2500, "€" * 1400):
                await socket.send(text)
                answer = await socket.next()
                assert (answer["error"]["code"], answer["status"]) == ("frame_too_large", 413)
            await socket.create("still here")
            assert text_of(await socket.until_end()) == "still here"


async def test_a_frame_beyond_all_measure_ends_its_own_socket_only() -> None:
    async with Rig() as rig:
        gateway = await rig.gateway(limits=Limits(frame_bytes=4096))
        async with rig.socket(gateway) as other, rig.socket(gateway) as socket:
            await socket.send("a" * 20_000)
            with pytest.raises(ConnectionClosed) as caught:
                await socket.next()
            assert caught.value.rcvd is not None
            assert caught.value.rcvd.code == 1009
            await other.create("still here")
            assert text_of(await other.until_end()) == "still here"


@pytest.mark.parametrize("key", ["", "wrong", "hs_000000000000_wrong"])
async def test_a_wrong_key_opens_no_socket_and_no_endpoint(key: str) -> None:
    async with Rig() as rig:
        gateway = await rig.gateway()
        with pytest.raises(InvalidStatus) as caught:
            async with rig.socket(gateway, key=key or " "):
                raise AssertionError("it was let in")
        assert caught.value.response.status_code == 401
        async with rig.http(gateway, key=key or "-") as http:
            for method, path in (
                ("POST", "/v1/responses"), ("GET", f"/v1/responses/resp_{ids.body_of(NOBODYS)}"),
                ("POST", f"/v1/responses/resp_{ids.body_of(NOBODYS)}/cancel"), ("POST", "/v1/chat/completions"),
                ("GET", "/v1/conversations"), ("POST", "/v1/conversations"), ("GET", f"/v1/conversations/{NOBODYS}"),
                ("DELETE", f"/v1/conversations/{NOBODYS}"), ("GET", f"/v1/conversations/{NOBODYS}/items"),
                ("GET", "/v1/models"),
            ):  # fmt: skip
                answer = await http.request(method, path)
                assert answer.status_code == 401, path
                assert answer.json()["error"]["code"] == "unauthorized"


async def test_a_revoked_key_is_shut_out_when_the_cache_is_over() -> None:
    async with Rig() as rig:
        gateway = await rig.gateway(limits=Limits(key_cache_ms=-1))
        async with rig.http(gateway) as http:
            assert (await http.get("/v1/models")).status_code == 200
            (row,) = await rig.store.keys()
            assert await rig.store.revoke_key(row.key_id, 1)
            assert (await http.get("/v1/models")).status_code == 401


async def test_browsers_open_sockets_from_our_own_pages_only() -> None:
    async with Rig() as rig:
        gateway = await rig.gateway(origins=("https://app.example",))
        here = f"http://127.0.0.1:{gateway.port}"
        for origin in (here, "https://app.example"):
            async with rig.socket(gateway, origin=origin) as socket:
                await socket.create("hello")
                assert text_of(await socket.until_end()) == "hello"
        for origin in ("https://evil.example", "null", "http://127.0.0.1:1"):
            with pytest.raises(InvalidStatus) as caught:
                async with rig.socket(gateway, origin=origin):
                    raise AssertionError("it was let in")
            assert caught.value.response.status_code == 403


async def test_a_browsers_key_comes_by_query_or_subprotocol() -> None:
    async with Rig() as rig:
        gateway = await rig.gateway()
        async with rig.socket(gateway, query=f"?key={rig.key}", key=" ") as socket:
            await socket.create("by query")
            assert text_of(await socket.until_end()) == "by query"
        async with rig.socket(gateway, key=" ", subprotocols=[SUBPROTOCOL + rig.key]) as socket:
            await socket.create("by subprotocol")
            assert text_of(await socket.until_end()) == "by subprotocol"


async def test_other_peoples_things_do_not_exist() -> None:
    """Another user's, and another tenant's user of the same name."""
    async with Rig() as rig:
        gateway = await rig.gateway()
        async with rig.socket(gateway) as socket:
            await socket.create("mine")
            frames = await socket.until_end()
        response = frames[-1]["response"]["id"]
        conversation = frames[-1]["response"]["conversation"]["id"]
        cursor = frames[-1]["cursor"]
        for tenant, user in (("acme", "eve"), ("evil", "ada")):
            key = await rig.new_key(tenant, user)
            async with rig.socket(gateway, key=key) as socket:
                for frame in (
                    {**CREATE, "conversation": conversation}, {**CREATE, "previous_response_id": response},
                    {"type": "response.cancel", "response_id": response},
                    {"type": "session.attach", "conversation": conversation, "after": "start"},
                    {"type": "session.attach", "after": cursor},
                ):  # fmt: skip
                    await socket.send(frame)
                    assert (await socket.next())["status"] == 404
                await socket.send({"type": "response.steer", "previous_response_id": response, "input": "more"})
                assert (await socket.next())["error"]["code"] == "response_not_found"
            async with rig.socket(gateway, query=f"?after={cursor}", key=key) as socket:
                assert (await socket.next())["error"]["code"] == "unknown_conversation"
            async with rig.http(gateway, key=key) as http:
                for method, path in (
                    ("GET", f"/v1/responses/{response}"), ("GET", f"/v1/responses/{response}?stream=true"),
                    ("POST", f"/v1/responses/{response}/cancel"), ("GET", f"/v1/responses/{response}/input_items"),
                    ("GET", f"/v1/conversations/{conversation}"), ("DELETE", f"/v1/conversations/{conversation}"),
                    ("POST", f"/v1/conversations/{conversation}"), ("GET", f"/v1/conversations/{conversation}/items"),
                ):  # fmt: skip
                    assert (await http.request(method, path)).status_code == 404, path
                assert (await http.get("/v1/conversations")).json()["data"] == []


async def test_a_key_that_asks_too_fast_is_told_when_to_come_back() -> None:
    async with Rig() as rig:
        gateway = await rig.gateway(limits=Limits(turns_burst=2, turns_per_second=0.001))
        async with rig.socket(gateway) as socket:
            codes = []
            for _ in range(3):
                await socket.create("x")
                codes.append((await socket.until("response.completed", "error"))[-1])
        assert [frame["type"] for frame in codes] == ["response.completed", "response.completed", "error"]
        assert codes[-1]["error"]["code"] == "rate_limited"
        assert codes[-1]["status"] == 429


async def test_a_full_lane_refuses_and_goes_on() -> None:
    async with Rig() as rig:
        gateway = await rig.gateway(limits=Limits(lane_requests=1, lanes=1))
        rig.turns.silent = True
        async with rig.socket(gateway) as socket:
            await socket.create("one")
            assert (await socket.next())["type"] == "headstart.accepted"
            await socket.create("two")
            assert (await socket.next())["type"] == "headstart.queued"
            await socket.create("three")
            assert (await socket.next())["error"]["code"] == "too_many_requests"
            await socket.create("four", stream_id="other")
            assert (await socket.next())["error"]["code"] == "too_many_requests"


async def test_with_no_worker_alive_the_client_hears_of_it() -> None:
    async with Rig() as rig, asyncio.timeout(PATIENCE_S):
        gateway = await rig.gateway(limits=Limits(accept_ms=1))
        rig.turns.silent = True
        async with rig.socket(gateway) as socket:
            await socket.create("anybody?", event_id="e1")
            frames = await socket.until("error")
            assert frames[-1]["error"]["code"] == "no_worker"
            assert frames[-1]["event_id"] == "e1"
            assert frames[-1]["response_id"] == frames[0]["response_id"]
        async with rig.http(gateway) as http:
            answer = await http.post("/v1/responses", json={"model": "headstart", "input": "x"})
            assert answer.status_code == 503


async def test_bad_bodies_over_http() -> None:
    async with Rig() as rig:
        gateway = await rig.gateway(limits=Limits(frame_bytes=4096))
        async with rig.http(gateway) as http:
            for content, status, code in (
                (b"{", 400, "not_json"), (b"[]", 400, "not_an_object"), (b"{}", 400, "invalid_input"),
                (b"x" * 5000, 413, "body_too_large"),
            ):  # fmt: skip
                for path in ("/v1/responses", "/v1/chat/completions"):
                    answer = await http.post(path, content=content)
                    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
            for path in ("/v1/responses/nonsense", "/v1/conversations/nonsense", "/v1/nothing"):
                assert (await http.get(path)).status_code == 404
