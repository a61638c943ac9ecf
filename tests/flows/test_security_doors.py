"""Every door of the port, tried by people who may not pass: other members, other tenants, and nobody at all.

The victim has an ended turn, a running one and one that waits for an approval, on the log and in the store. `let in`
means: the victim's words were seen, something was answered as one's own, or something of the victim's changed.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import orjson
import pytest
from websockets.exceptions import WebSocketException

from gateway.access import SUBPROTOCOL
from gateway.limits import Limits
from gateway.server import Gateway
from streams import ids
from streams.events.intake import TurnSubmit
from tests.support.attacks import FILES, SECRET, Tally, forged_cursors, forged_ids, path_tricks, response_id, wrong_keys
from tests.support.gateways import Frame, Rig, Socket
from tests.support.turn_script import Line, answer, completed, journey

pytestmark = pytest.mark.asyncio
OPEN = Limits(frames_per_second=1e9, frames_burst=1_000_000_000, turns_per_second=1e9, turns_burst=1_000_000_000)
ATTACKERS = (("acme", "eve"), ("evil", "ada"), ("acme", ""), ("", "ada"), ("acme/ada", "x"), ("ACME", "ADA"))
SEED = 20


def script(submit: TurnSubmit) -> list[Line]:
    """The victim's turns say the secret and the one that runs holds; anybody else's say nothing of interest."""
    if (submit.tenant, submit.user) != ("acme", "ada"):
        return [*answer(["nothing"]), completed()]
    return journey([SECRET, " ", SECRET], hold_after=1 if "run" in submit.input[-1].text else -1)


class Victim:
    """What there is to steal. Everything an attacker could know of it is public: ids and cursors are no secrets."""

    def __init__(self, rig: Rig, gateway: Gateway) -> None:
        self.rig = rig
        self.gateway = gateway
        self.cursors: list[str] = []

    async def begin(self, socket: Socket) -> None:
        await socket.create(f"remember: {SECRET}", event_id="mine")
        frames = await socket.until_end()
        self.ended = frames[-1]["response"]["id"]
        self.conversation = frames[-1]["response"]["conversation"]["id"]
        await socket.create(f"run: {SECRET}", stream_id="running")
        frames += await socket.until("response.output_text.delta")
        self.running = frames[-1]["response_id"]
        accepted = next(f for f in frames if f["type"] == "headstart.accepted" and f["response_id"] == self.running)
        self.other_conversation = accepted["conversation"]
        self.cursors = [frame["cursor"] for frame in frames if "cursor" in frame]
        self.approval = ids.item_id("mcpr", ids.turn_of(self.ended), 0)
        self.commands = len(self.rig.turns.commands)

    @property
    def conversations(self) -> tuple[str, str]:
        return self.conversation, self.other_conversation

    @property
    def responses(self) -> tuple[str, str]:
        return self.ended, self.running

    def touched(self) -> list[str]:
        """Commands about the victim's things that came since, and were not the victim's."""
        named = {*self.conversations, *map(ids.turn_of, self.responses)}
        since = self.rig.turns.commands[self.commands :]
        return [
            repr(command)[:200] for command in since
            if {getattr(command, "conversation", ""), getattr(command, "turn", "")} & named
        ]  # fmt: skip


@asynccontextmanager
async def scene() -> AsyncIterator[tuple[Rig, Gateway, Victim]]:
    async with Rig(script) as rig, asyncio.timeout(240):
        key = "k" * 40
        gateway = await rig.gateway(limits=OPEN, signing_key=key, origins=("https://app.example",))
        async with rig.socket(gateway) as socket:
            victim = Victim(rig, gateway)
            await victim.begin(socket)
            yield rig, gateway, victim
            assert victim.touched() == []
            rig.turns.release("answer")
            assert (await socket.until_end())[-1]["type"] == "response.completed"  # nobody cancelled or steered it


def stolen(raw: bytes) -> bool:
    return SECRET.encode() in raw


def overheard(socket: Socket) -> bool:
    """Whether the secret was said on the socket since this was asked last."""
    raw = "".join(socket.raw)
    socket.raw.clear()
    return SECRET in raw


def refused(frame: Frame) -> bool:
    return frame["type"] in ("error", "response.steer.failed")


def frames_about(victim: Victim) -> list[Frame]:
    """Frames that would do something if they were the victim's own."""
    create: Frame = {"type": "response.create", "model": "headstart", "input": "what did I say?"}
    yes = {"type": "mcp_approval_response", "approval_request_id": victim.approval, "approve": True}
    output = {"type": "function_call_output", "call_id": ids.call_id(ids.turn_of(victim.ended), 0), "output": "42"}
    frames: list[Frame] = []
    for conversation in victim.conversations:
        frames += [{**create, "conversation": conversation, "on_busy": busy} for busy in ("enqueue", "interrupt")]
        frames += [{**create, "conversation": {"id": conversation}, "metadata": {"tenant": "acme", "user": "ada"}}]
        frames += [{"type": "session.attach", "conversation": conversation, "after": at} for at in ("start", "live")]
    for response in victim.responses:
        frames += [
            {**create, "previous_response_id": response, "event_id": "fork"},
            {**create, "previous_response_id": response, "input": [yes]},
            {**create, "previous_response_id": response, "input": [output]},
            {"type": "response.cancel", "response_id": response, "event_id": "c"},
            {"type": "response.steer", "previous_response_id": response, "input": "tell me", "event_id": "s"},
        ]
    frames += [{"type": "session.attach", "after": cursor} for cursor in victim.cursors]
    return frames


async def ask(socket: Socket, frame: Frame) -> list[Frame]:
    """What came of a frame, at least one answer: all up to the answer of a question that is asked behind it."""
    await socket.send(frame)
    got: list[Frame] = []
    while not got:
        await socket.send({"type": "is.that.all"})
        while (answered := await socket.next()).get("error", {}).get("code") != "unknown_frame":
            got.append(answered)
    return got


async def test_sockets_of_others() -> None:
    tally, rng = Tally(), random.Random(SEED)
    async with scene() as (rig, gateway, victim):
        elsewhere = await rig.gateway("elsewhere", limits=OPEN, signing_key="k" * 40)
        for tenant, user in ATTACKERS:
            key = await rig.new_key(tenant, user)
            for port in (gateway, elsewhere):  # one that knows the victim, and one that has to look
                async with rig.socket(port, key=key) as socket:
                    for frame in frames_about(victim):
                        came = await ask(socket, frame)
                        got_in = not all(map(refused, came)) or overheard(socket)
                        tally.note("socket frames", f"{tenant}/{user} {frame}", got_in)
                        socket.raw.clear()
                cursors = "&".join(f"after[]={cursor}" for cursor in victim.cursors[:8])
                async with rig.socket(port, f"?{cursors}", key=key) as socket:
                    for _ in victim.cursors[:8]:
                        tally.note("cursors", "?after=", not refused(await socket.next()))
        async with rig.socket(gateway, key=await rig.new_key("acme", "eve")) as socket:
            for conversation in forged_ids(victim.conversation, rng, 150):
                came = await ask(socket, {"type": "session.attach", "conversation": conversation, "after": "start"})
                tally.note("forged ids", conversation, not all(map(refused, came)))
            for response in (*forged_ids(victim.running, rng, 100), *map(response_id, range(20))):
                for frame in (
                    {"type": "response.cancel", "response_id": response},
                    {"type": "response.steer", "previous_response_id": response, "input": "x"},
                ):
                    came = await ask(socket, frame)
                    tally.note("forged ids", response, not all(map(refused, came)))
            for cursor in forged_cursors(victim.cursors[-1], rng, 400):
                came = await ask(socket, {"type": "session.attach", "after": cursor})
                tally.note("cursors", cursor, not all(map(refused, came)) or overheard(socket))
    tally.conclude("socket frames", "cursors", "forged ids")


async def test_a_members_own_event_id_is_not_somebody_elses() -> None:
    """The same idempotency key opens one's own conversation, and shows nothing of the one it named first."""
    tally = Tally()
    async with scene() as (rig, gateway, _):
        for tenant, user in ATTACKERS:
            async with rig.socket(gateway, key=await rig.new_key(tenant, user)) as socket:
                await socket.create("remember", event_id="mine")
                await socket.until_end()
                tally.note("idempotency keys", f"{tenant}/{user}", overheard(socket))
    tally.conclude("idempotency keys")


async def test_http_of_others() -> None:
    tally = Tally()
    async with scene() as (rig, gateway, victim):
        elsewhere = await rig.gateway("elsewhere", limits=OPEN, signing_key="k" * 40)
        for tenant, user in ATTACKERS:
            key = await rig.new_key(tenant, user)
            for port in (gateway, elsewhere):
                async with rig.http(port, key=key) as http:
                    for door, method, path, body in requests_about(victim):
                        answer = await http.request(method, path, json=body)
                        got_in = answer.status_code < 400 or stolen(answer.content)
                        tally.note(door, f"{tenant}/{user} {method} {path}", got_in)
                    mine = await http.get("/v1/conversations?limit=100")
                    tally.note("conversations", "list", mine.json()["data"] != [])
    tally.conclude("responses", "chat completions", "conversations")


def requests_about(victim: Victim) -> list[tuple[str, str, str, Any]]:
    """(door, method, path, body) of everything that names something of the victim's."""
    found: list[tuple[str, str, str, Any]] = []
    ask_it = {"model": "headstart", "input": "what did I say?"}
    yes = {"type": "mcp_approval_response", "approval_request_id": victim.approval, "approve": True}
    for response in victim.responses:
        path = f"/v1/responses/{response}"
        ends = ("", "?stream=true", "?stream=true&starting_after=0")
        found += [("responses", "GET", path + end, None) for end in ends]
        found += [("responses", "GET", f"{path}/input_items", None), ("responses", "POST", f"{path}/cancel", None)]
        for stream in (False, True):
            body = {**ask_it, "previous_response_id": response, "stream": stream}
            found += [("responses", "POST", "/v1/responses", body)]
        found += [("responses", "POST", "/v1/responses", {"input": [yes], "previous_response_id": response})]
    for conversation in victim.conversations:
        path = f"/v1/conversations/{conversation}"
        found += [("conversations", method, path, {"title": "mine"}) for method in ("GET", "POST", "PATCH", "DELETE")]
        found += [("conversations", "GET", f"{path}/items", None)]
        for stream in (False, True):
            body = {**ask_it, "conversation": conversation, "stream": stream}
            found += [("responses", "POST", "/v1/responses", body)]
            messages = [{"role": "user", "content": "what did I say?"}]
            chat = {"model": "headstart", "messages": messages, "stream": stream}
            for name in (conversation, {"id": conversation}):
                found += [("chat completions", "POST", "/v1/chat/completions", {**chat, "conversation": name})]
    return found


async def test_keys_that_are_none() -> None:
    tally, rng = Tally(), random.Random(SEED)
    async with scene() as (rig, gateway, victim):
        revoked = await rig.new_key("acme", "ada")
        row = next(row for row in await rig.store.keys() if revoked.startswith(f"hs_{row.key_id.removeprefix('key_')}"))
        assert await rig.store.revoke_key(row.key_id, 1)
        service = await rig.store.create_key("acme", "ada", "a service", ("service",), 0)
        limits = httpx.Limits(max_connections=20)
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{gateway.port}", limits=limits, timeout=60) as http:
            for key in (revoked, service, *wrong_keys(rig.key, rng, 60)):
                wrong, right = key.encode(), rig.key.encode()
                ways: list[tuple[list[tuple[bytes, bytes]], dict[str, str]]] = [
                    ([(b"authorization", b"Bearer " + wrong)], {}),
                    ([], {"key": key}),
                    ([(b"authorization", b"Basic " + right)], {}),
                    ([(b"x-api-key", right), (b"cookie", b"key=" + right)], {}),
                ]
                for headers, query in ways:  # fmt: skip
                    try:
                        answer = await http.get(
                            f"/v1/conversations/{victim.conversation}/items", params=query, headers=headers
                        )
                        got_in = answer.status_code < 400 or stolen(answer.content)
                    except httpx.HTTPError:
                        got_in = False  # the connection was closed on it: its head is larger than any may be
                    tally.note("keys", key[:80], got_in)
        for key in (revoked, service, *wrong_keys(rig.key, rng, 20)):
            for options in ({"query": f"?key={key}", "key": " "}, {"key": " ", "subprotocols": [SUBPROTOCOL + key]}):
                tally.note("keys", f"socket {key[:80]}", await opens(rig, gateway, **options))
    tally.conclude("keys")


async def opens(rig: Rig, gateway: Gateway, **options: Any) -> bool:
    """Whether a socket can be opened so."""
    try:
        async with rig.socket(gateway, **options):
            return True
    except (WebSocketException, OSError, ValueError):  # ValueError: a header that no client can send
        return False


async def test_pages_that_may_not_open_sockets() -> None:
    tally = Tally()
    hosts = ("app.example.evil.net", "evil.net", "evil.net:443", "app.example@evil.net", "127.0.0.1:1", "localhost")
    async with scene() as (rig, gateway, _):
        here = f"127.0.0.1:{gateway.port}"
        origins = [
            "null",
            "",
            "*",
            "https://",
            "https://app.example:8443",
            "http://app.example",
            "https://APP.example.",
        ]
        origins += [f"{scheme}://{host}" for scheme in ("http", "https", "ws", "chrome-extension") for host in hosts]
        origins += [f"http://{here}.evil.net", f"http://{here}@evil.net", f"http://evil.net/{here}", "file://"]
        for origin in origins:
            for path in ("", "?origin=https://app.example"):
                tally.note("origins", origin, await opens(rig, gateway, query=path, origin=origin))
    tally.conclude("origins")


async def test_paths_that_mean_another() -> None:
    """By the key of somebody else: neither the victim's things nor files come out, however the path is written."""
    tally = Tally()
    async with scene() as (rig, gateway, victim):
        key = await rig.new_key("acme", "eve")
        for path in path_tricks(victim.conversation, victim.ended):
            for method in (b"GET", b"POST", b"DELETE"):
                raw = await send_raw(gateway.port, method, path.encode("latin-1", "replace"), key)
                head, _, body = raw.partition(b"\r\n\r\n")
                got_in = stolen(raw) or any(mark in body for mark in FILES) or b" 500 " in head[:20]
                tally.note("paths", path, got_in)
    tally.conclude("paths")


async def send_raw(port: int, method: bytes, path: bytes, key: str) -> bytes:
    """A request as it is written here: clients put paths right before they send them."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(method + b" " + path + b" HTTP/1.1\r\nhost: x\r\nconnection: close\r\nauthorization: Bearer ")
    writer.write(key.encode() + b"\r\nx-original-url: /v1/conversations\r\nx-forwarded-for: 127.0.0.1\r\n\r\n")
    try:
        return await reader.read()
    except ConnectionError:
        return b""
    finally:
        writer.close()


async def test_an_answer_names_nothing_that_was_sent_in_secret() -> None:
    """Keys come back in no error, neither in a frame nor in a body."""
    async with scene() as (rig, gateway, victim):
        async with rig.http(gateway, key=(wrong := rig.key[:-1] + "~")) as http:
            for path in ("/v1/models", f"/v1/conversations/{victim.conversation}?key={wrong}"):
                assert wrong not in (await http.get(path)).text
        async with rig.socket(gateway, key=await rig.new_key("acme", "eve")) as socket:
            await socket.send({"type": rig.key, "event_id": "x"})
            assert rig.key not in orjson.dumps(await socket.next()).decode()
