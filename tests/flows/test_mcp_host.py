"""Tools of MCP servers become skills and are called in turns; what the server does meanwhile is seen for what it is."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Literal

import pytest
import pytest_asyncio

from headstart.importing.choices import Choices
from headstart.importing.mcp_tools import ImportedTool, import_tools
from headstart.mcp.connection import McpConnection, client_of
from headstart.mcp.host import mcp_service
from headstart.service import Service
from headstart.service_facts import Ended
from streams import ids
from streams.errors import InvalidInput, PeerUnavailable, Refused
from streams.events.calling import ApprovalAsked, CallAnswered, CallFired
from streams.events.intake import TurnCancel, TurnOptions
from tests.support.bus_services import AGENT, SECRET, TENANT, Rig, rig
from tests.support.mcp_servers import TIME, Desk
from workers.generation.scripted_engine import Rule, When

pytestmark = pytest.mark.asyncio
OPTIONS = TurnOptions(agent=AGENT)
BERLIN = ("get_current_time", {"timezone": "Europe/Berlin"})


@pytest_asyncio.fixture
async def scene() -> AsyncIterator[Rig]:
    async with rig() as made:
        yield made


@asynccontextmanager
async def connected(source: str) -> AsyncIterator[McpConnection]:
    made = McpConnection(lambda: client_of(source), retry_s=0)
    await made.start()
    try:
        yield made
    finally:
        await made.close()


async def tools_of(connection: McpConnection, **choices: Any) -> list[ImportedTool]:
    tools, imported = import_tools(await connection.tools(), Choices(**choices), connection.name)
    assert imported.left_out == []
    return tools


async def hosted(
    scene: Rig, connection: McpConnection, name: str = "mcp-time", over: Literal["bus", "http"] = "bus", **choices: Any
) -> list[str]:
    """Serves a server's tools to a turns worker; gives the skills' names."""
    tools = await tools_of(connection, **choices)
    key = await scene.key(name)
    service = Service(name, over=over, api_key=key, tenant=TENANT, signing_key=SECRET)
    _ = await scene.serve(mcp_service(connection, tools, service))
    names = [tool.manifest.name for tool in tools]
    await scene.turns(*names)
    return names


def plan(text: str, *calls: tuple[str, dict[str, Any]]) -> Rule:
    written = json.dumps([{"name": name, "arguments": arguments} for name, arguments in calls])
    return Rule(step="plan", when=When(contains=text), say=written)


async def say(scene: Rig, text: str) -> Ended:
    publisher = await scene.publisher()
    return await publisher.ended((await publisher.turn("ada", text, options=OPTIONS)).turn)


def results(ended: Ended) -> dict[str, Any]:
    names = {fact.call: fact.skill.partition("@")[0] for fact in ended.facts if isinstance(fact, CallFired)}
    return {names[fact.call]: json.loads(fact.result) for fact in ended.facts if isinstance(fact, CallAnswered)}


async def test_a_real_mcp_servers_tools_are_called_in_a_turn(scene: Rig) -> None:
    convert = {"source_timezone": "Europe/Berlin", "target_timezone": "Asia/Tokyo", "time": "09:30"}
    await scene.generation([
        plan("both", BERLIN, ("convert_time", convert)), plan("nowhere", ("get_current_time", {"timezone": "Nowhere"})),
        Rule(say="Done."),
    ])  # fmt: skip
    async with connected(TIME) as connection:
        assert await hosted(scene, connection) == ["get_current_time", "convert_time"]
        got = results(await say(scene, "Do both for me"))
        assert got["get_current_time"]["timezone"] == "Europe/Berlin"
        assert got["convert_time"]["target"]["datetime"][11:16] in ("16:30", "17:30")
        failed = results(await say(scene, "What time is it nowhere?"))
        assert "Invalid timezone" in failed["get_current_time"]["error"]


async def test_a_breaking_change_of_a_servers_tool_is_refused(scene: Rig) -> None:
    async with connected(TIME) as connection:
        await hosted(scene, connection)
        listed = json.loads(json.dumps(await connection.tools()))
        listed[0]["inputSchema"]["properties"]["calendar"] = {"type": "string"}
        listed[0]["inputSchema"]["required"].append("calendar")
        changed, _ = import_tools(listed, Choices(), connection.name)
        service = Service("mcp-time", over="bus", api_key=await scene.key("mcp-time"), tenant=TENANT)
        with pytest.raises(Refused, match=r"parameters\.calendar has become required"):
            await scene.serve(mcp_service(connection, changed, service))


@pytest.mark.parametrize("over", ["bus", "http"])
async def test_what_a_server_says_of_its_tools_becomes_their_effect(scene: Rig, over: Literal["bus", "http"]) -> None:
    desk = Desk()
    await scene.generation([
        plan("bell", ("ring", {"times": 2})), plan("tired", ("ring", {"times": 4})),
        plan("paper", ("shred", {"paper": "A"})), Rule(say="Done."),
    ])  # fmt: skip
    async with desk.serve() as port, connected(f"http://127.0.0.1:{port}/mcp") as connection:
        assert connection.name == "front desk"
        await hosted(scene, connection, name="front-desk", over=over)
        assert results(await say(scene, "Ring the bell")) == {"ring": {"rung": True}}
        assert "the bell is tired" in results(await say(scene, "Ring until it is tired"))["ring"]["error"]
        asked = await say(scene, "Shred the paper")
        assert [fact.skill.partition("@")[0] for fact in asked.facts if isinstance(fact, ApprovalAsked)] == ["shred"]
    assert desk.done == ["ring 2"]


async def test_a_cancelled_turn_cancels_the_tool(scene: Rig) -> None:
    desk = Desk()
    await scene.generation([plan("wait", ("wait", {"text": "x"})), Rule(say="Done.")])
    async with desk.serve() as port, connected(f"http://127.0.0.1:{port}/mcp") as connection:
        await hosted(scene, connection, name="front-desk")
        publisher = await scene.publisher()
        submitted = await publisher.turn("ada", "wait", options=OPTIONS)
        await desk.started.wait()
        cancel = TurnCancel(turn=submitted.turn, tenant=TENANT, user="ada", at_ms=1)
        partition = ids.partition_of(submitted.conversation)
        await scene.bus.publish("turns", partition, submitted.conversation, cancel, "cancel", "gateway/test")
        await desk.cancelled.wait()
        assert (await publisher.ended(submitted.turn)).status == "cancelled"


async def test_a_server_that_died_is_started_again_and_gets_none_of_our_keys(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HEADSTART_KEY", "hs_secret")
    monkeypatch.setenv("SOMETHING_ELSE", "there")
    pids, environment = tmp_path / "pids", tmp_path / "environment"
    async with connected(f"sh -c 'echo $$ >> {pids}; env > {environment}; exec {TIME}'") as connection:
        first = await connection.call(*BERLIN, timeout_s=10)
        os.kill(int(pids.read_text()), signal.SIGKILL)
        with pytest.raises(PeerUnavailable):
            await connection.call(*BERLIN, timeout_s=10)
        again = await connection.call(*BERLIN, timeout_s=10)
        assert (first["timezone"], again["timezone"]) == ("Europe/Berlin", "Europe/Berlin")
    assert len(pids.read_text().split()) == 2
    assert "SOMETHING_ELSE=there" in environment.read_text()
    assert "HEADSTART_KEY" not in environment.read_text()


async def test_a_server_over_http_that_was_away_is_used_again() -> None:
    desk = Desk()
    async with desk.serve() as port:
        made = McpConnection(lambda: client_of(f"http://127.0.0.1:{port}/mcp"), retry_s=0)
        await made.start()
        assert await made.call("ring", {}, timeout_s=10) == {"rung": True}
    try:
        with pytest.raises(PeerUnavailable):
            await made.call("ring", {}, timeout_s=10)
        desk = Desk()
        async with desk.serve(port):
            assert await made.call("ring", {}, timeout_s=10) == {"rung": True}
    finally:
        await made.close()


@pytest.mark.parametrize("source", ["http://127.0.0.1:9/mcp", "/nonexistent", "true"])
async def test_what_is_no_mcp_server_is_named(source: str) -> None:
    made = McpConnection(lambda: client_of(source), retry_s=0)
    with pytest.raises(PeerUnavailable) as caught:
        await made.start()
    assert caught.value.code == "mcp_unreachable"


async def test_what_a_server_refuses_to_begin_is_the_callers_fault() -> None:
    async with connected(TIME) as connection:
        with pytest.raises(InvalidInput) as caught:
            await connection.call("no_such_tool", {}, timeout_s=10)
        assert caught.value.code == "tool_refused"


async def test_a_command_line_that_cannot_be_read() -> None:
    with pytest.raises(InvalidInput, match="not a command line"):
        client_of("server 'unclosed")
