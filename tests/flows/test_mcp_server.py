"""Skills as an MCP server: who sees which, what may be called, and that calls go the way that turns' calls go."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import pytest_asyncio
from mcp import Client, MCPError
from mcp.client.streamable_http import streamable_http_client
from mcp.shared._httpx_utils import create_mcp_http_client
from mcp.types import CallToolResult, TextContent

from headstart.mcp.connection import McpConnection, client_of
from headstart.mcp.direct import DirectCalls
from headstart.mcp.server import skill_server
from headstart.mcp.serving import principal_of, served_over_http
from headstart.service import Caller, Service, wall_clock_ms
from headstart.service_registration import register, withdraw
from memory.rows import Principal
from streams.errors import InvalidInput, NotPermitted, PeerUnavailable
from streams.events.registering import SkillManifest
from streams.signing import signed
from tests.support.bus_services import SECRET, TENANT, Rig, rig
from tests.support.skill_server import SkillServer
from tests.support.skill_server import skill_server as http_skills
from workers.planning.service_gate import ServiceGate
from workers.skills.executor import HttpExecutor

pytestmark = pytest.mark.asyncio
ADA = Principal(tenant=TENANT, user="ada", service=False, scopes=("chat",), key_id="key_0")


class Scene:
    """A log with skills of every kind on it, and direct calls of them."""

    def __init__(self, log: Rig, http: SkillServer, executor: HttpExecutor) -> None:
        self.log, self.http, self.executor = log, http, executor
        self.ran: list[str] = []
        self.started, self.stopped, self.go = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def open(self) -> None:
        manifests = [
            self.http.manifest("look", "text", version="1"),
            self.http.manifest("elsewhere", "text", tenants=("other",)),
            self.http.manifest("send", "text", effect="irreversible"),
            self.http.manifest("pay", "text", effect="irreversible", approval=True),
        ]
        _ = await register(self.log.bus, "test", manifests, 1)
        service = Service("desk", over="bus", api_key=await self.log.key("desk"), tenant=TENANT, signing_key=SECRET)

        @service.skill()
        async def find(title: str, caller: Caller) -> dict[str, str]:
            """Finds somebody."""
            self.ran.append(f"{caller.tenant}/{caller.user}")
            if title == "nobody":
                raise InvalidInput("nobody is not found", code="nobody")
            return {"name": f"{title} Ada"}

        @service.skill()
        async def wait(text: str) -> str:
            """Waits."""
            self.started.set()
            try:
                await self.go.wait()
            except asyncio.CancelledError:
                self.stopped.set()
                raise
            return text

        _ = await self.log.serve(service)

    @asynccontextmanager
    async def calls(self, every_effect: bool = False) -> AsyncIterator[DirectCalls]:
        gate = ServiceGate(lambda: self.log.bus.epoch, wall_clock_ms)
        made = DirectCalls(self.log.bus, self.log.store, self.executor, gate, every_effect=every_effect)
        await made.start()
        try:
            yield made
        finally:
            await made.close()

    @asynccontextmanager
    async def client(self, every_effect: bool = False) -> AsyncIterator[Client]:
        async with self.calls(every_effect) as calls, Client(skill_server(calls, "1", ADA)) as client:
            yield client


@pytest_asyncio.fixture
async def scene() -> AsyncIterator[Scene]:
    async with (
        rig() as log, http_skills() as http, HttpExecutor(signing_key=SECRET, allow_private=True) as executor
    ):  # fmt: skip
        made = Scene(log, http, executor)
        await made.open()
        yield made


def said(result: CallToolResult) -> str:
    return "\n".join(block.text for block in result.content if isinstance(block, TextContent))


async def names(client: Client) -> list[str]:
    return [tool.name for tool in (await client.list_tools(cache_mode="bypass")).tools]


async def test_a_tenants_pure_skills_are_listed(scene: Scene) -> None:
    async with scene.client() as client:
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
    assert list(tools) == ["find", "look", "wait"]
    assert tools["look"].input_schema["required"] == ["text"]
    assert tools["look"].annotations is not None
    assert tools["look"].annotations.read_only_hint


async def test_skills_that_change_something_are_offered_where_the_operator_says_so(scene: Scene) -> None:
    async with scene.client(every_effect=True) as client:
        assert await names(client) == ["find", "look", "send", "wait"]
        result = await client.call_tool("send", {"text": "hello"})
        assert (result.is_error, result.structured_content) == (False, {"skill": "send", "text": "hello"})
        refused = await client.call_tool("pay", {"text": "all"})
        assert refused.is_error
        assert "approval_required" in said(refused)
    [(skill, _, key)] = scene.http.arrivals
    assert skill == "send"
    assert key


async def test_by_default_nothing_is_changed(scene: Scene) -> None:
    async with scene.client() as client:
        for name in ("send", "pay"):
            refused = await client.call_tool(name, {"text": "x"})
            assert refused.is_error
            assert "effect_not_offered" in said(refused)
    assert scene.http.arrivals == []


async def test_a_call_over_http_and_one_over_the_bus(scene: Scene) -> None:
    await scene.log.turns("find")  # the partition's owner sees the results too
    async with scene.client() as client:
        assert (await client.call_tool("look", {"text": "ä"})).structured_content == {"skill": "look", "text": "ä"}
        assert (await client.call_tool("find", {"title": "cook"})).structured_content == {"name": "cook Ada"}
    assert scene.ran == [f"{TENANT}/ada"]
    assert await scene.log.records("dead_letters") == []


async def test_what_goes_wrong_is_said(scene: Scene) -> None:
    async with scene.client() as client:
        assert "skill_refused" in said(await client.call_tool("find", {"title": "nobody"}))
        wrong = await client.call_tool("look", {"text": 1})
        assert wrong.is_error
        assert "look.text should be: a string" in said(wrong)
        assert "missing_argument" in said(await client.call_tool("look", {}))
        for unknown in ("elsewhere", "nothing"):
            with pytest.raises(MCPError, match="no such tool"):
                await client.call_tool(unknown, {"text": "x"})


async def test_an_effect_in_doubt_is_said(scene: Scene) -> None:
    place = f"127.0.0.1:{scene.http.port}"
    broken = scene.http.manifest("broken", "text", effect="irreversible", url=f"http://{place}/a/b", retries=0)
    slow = scene.http.manifest("slow", "text", effect="irreversible", timeout_ms=50)
    scene.http.hold("slow")
    _ = await register(scene.log.bus, "test", [broken, slow], 2)
    async with scene.client(every_effect=True) as client:
        late = said(await client.call_tool("slow", {"text": "x"}))
        assert late.startswith("skill_timeout: ")
        assert "may have happened" in late
        assert "may have happened" not in said(await client.call_tool("broken", {"text": "x"}))
    scene.http.release("slow")


async def test_a_cancelled_call_stops_its_skill(scene: Scene) -> None:
    async with scene.calls() as calls:
        task = asyncio.create_task(calls.call(ADA, "wait", {"text": "x"}))
        await scene.started.wait()
        task.cancel()
        await scene.stopped.wait()
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_a_skill_that_comes_or_goes_is_seen(scene: Scene) -> None:
    async with scene.client() as client:
        _ = await register(scene.log.bus, "test", [scene.http.manifest("later", "text")], 2)
        while "later" not in await names(client):  # noqa: ASYNC110 - the list is asked for each time
            await asyncio.sleep(0)
        _ = await withdraw(scene.log.bus, "test", ["later"], 3)
        while "later" in await names(client):  # noqa: ASYNC110 - as above
            await asyncio.sleep(0)


async def test_many_skills_come_in_pages(scene: Scene) -> None:
    many: list[SkillManifest] = [scene.http.manifest(f"skill_{n:03}", "text") for n in range(150)]
    _ = await register(scene.log.bus, "test", many, 2)
    async with scene.client() as client:
        page = await client.list_tools()
        rest = await client.list_tools(cursor=page.next_cursor)
    assert (len(page.tools), len(rest.tools), rest.next_cursor) == (100, 53, None)


async def test_a_result_that_another_service_signed_does_not_count(scene: Scene) -> None:
    async with scene.calls() as calls:
        task = asyncio.create_task(calls.call(ADA, "wait", {"text": "x"}))
        await scene.started.wait()
        [request] = [event async for event in requests(scene.log)]
        forged = forge(request, await scene.log.key("thief"))
        await scene.log.bus.publish(*forged)
        _ = await scene.log.result_of(request.turn)
        right = forge(request, await scene.log.key("desk"), '"right"')
        await scene.log.bus.publish(*right)
        assert (await task).result == '"right"'
        scene.go.set()


async def requests(log: Rig) -> AsyncIterator[Any]:
    from streams.codec import decode
    from streams.events.calling import CallRequested

    for record in await log.records("calls"):
        event = decode(record)
        if isinstance(event, CallRequested):
            yield event


def forge(request: Any, key: str, result: str = '"forged"') -> tuple[Any, ...]:
    from streams import ids
    from streams.events.intake import CallResult

    event = CallResult(
        turn=request.turn, call=request.call, claim=request.claim, at_ms=1, key=request.key, tenant=request.tenant,
        result=result,
    )  # fmt: skip
    extra = signed(event, f"{result}/result", "turns", request.conversation, key)
    partition = ids.partition_of(request.turn)
    return "turns", partition, request.conversation, event, f"{result}/result", "service/x", extra


def keyed(url: str, key: str, mode: str = "auto") -> Client:
    http = create_mcp_http_client(headers={"authorization": f"Bearer {key}"})
    return Client(streamable_http_client(f"{url}/mcp", http_client=http), mode=mode)


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_over_http_each_request_brings_its_key(scene: Scene, mode: str) -> None:
    key = await scene.log.store.create_key(TENANT, "bo", "", ("chat",), 1)
    other = await scene.log.store.create_key("other", "eve", "", ("chat",), 1)
    async with scene.calls() as calls, served_over_http(calls, scene.log.store, "127.0.0.1", 0) as url:
        async with keyed(url, key, mode) as client:
            assert (await client.call_tool("find", {"title": "cook"})).structured_content == {"name": "cook Ada"}
            assert "elsewhere" not in await names(client)
        async with keyed(url, other, mode) as client:
            assert "elsewhere" in await names(client)
        async with create_mcp_http_client() as http:
            for headers in ({}, {"authorization": "Bearer hs_0123456789ab_x"}, {"authorization": f"Basic {key}"}):
                answer = await http.post(f"{url}/mcp", json={}, headers=headers)
                assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
    assert scene.ran == [f"{TENANT}/bo"]


async def test_a_server_that_asks_for_a_token_is_a_host_too(scene: Scene) -> None:
    """Headstart's own tools, by Headstart's own client."""
    key = await scene.log.store.create_key(TENANT, "bo", "", ("chat",), 1)
    async with scene.calls() as calls, served_over_http(calls, scene.log.store, "127.0.0.1", 0) as url:
        connection = McpConnection(lambda: client_of(f"{url}/mcp", key))
        await connection.start()
        try:
            assert connection.name == "headstart"
            assert "find" in [tool["name"] for tool in await connection.tools()]
            assert await connection.call("find", {"title": "cook"}, timeout_s=10) == {"name": "cook Ada"}
        finally:
            await connection.close()
        nobody = McpConnection(lambda: client_of(f"{url}/mcp"), retry_s=0)
        with pytest.raises(PeerUnavailable):
            await nobody.start()


async def test_a_key_that_is_not_in_force_opens_nothing(scene: Scene) -> None:
    key = await scene.log.store.create_key(TENANT, "bo", "", ("chat",), 1)
    assert (await principal_of(scene.log.store, key)).user == "bo"
    with pytest.raises(NotPermitted):
        await principal_of(scene.log.store, "hs_0123456789ab_x")
