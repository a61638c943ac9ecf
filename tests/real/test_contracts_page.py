"""docs/contracts.md is true: each of its commands is run as a process on a real broker, and what it put in force is
called in a turn, and by an MCP client."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from mcp import Client, StdioServerParameters
from mcp.client.streamable_http import streamable_http_client
from mcp.shared._httpx_utils import create_mcp_http_client

from memory.embedded import EmbeddedPostgres
from streams.embedded import EmbeddedBroker, free_port
from streams.events.calling import CallAnswered, CallFailed, CallFired
from streams.events.intake import TurnOptions
from streams.process import READY
from tests.support.bus_services import AGENT, PARTITIONS, SECRET, TENANT, Rig, rig
from tests.support.lending import CONTRACT, DUNE, PARTNER, STAFF, library
from workers.generation.scripted_engine import Rule
from workers.skills.secrets import Secrets

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "contracts.md").read_text()
COMMANDS = [line.strip() for line in PAGE.splitlines() if line.startswith("    headstart ")]
LASTING = ("headstart skill serve-mcp", "headstart mcp")
PLAN = [{"name": "get_book", "arguments": {"isbn": DUNE["isbn"]}}, {"name": "statistics", "arguments": {}},
        {"name": "get_current_time", "arguments": {"timezone": "Asia/Tokyo"}}]  # fmt: skip


def words(command: str) -> list[str]:
    return [sys.executable, "-m", "headstart", *shlex.split(command)[1:]]


async def run(command: str, folder: Path, environment: dict[str, str]) -> str:
    done = await asyncio.to_thread(
        subprocess.run, words(command), cwd=folder, env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return str(done.stdout)


@asynccontextmanager
async def running(command: str, folder: Path, environment: dict[str, str]) -> AsyncIterator[None]:
    """A command that lasts, once it says that it is ready; it ends in order."""
    process = await asyncio.create_subprocess_exec(
        *words(command), cwd=folder, env=environment, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE
    )
    assert process.stderr is not None
    said = []
    try:
        async with asyncio.timeout(90):
            while READY not in (line := (await process.stderr.readline()).decode()):
                said.append(line)
                assert line, "".join(said)
        reading = asyncio.create_task(process.stderr.read())
        yield
        process.terminate()
        _ = await reading
        assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def called_in_a_turn(scene: Rig) -> dict[str, object]:
    """What a turn's calls gave, by skill."""
    publisher = await scene.publisher()
    submitted = await publisher.turn("ada", "What about Dune, and the time?", options=TurnOptions(agent=AGENT))
    facts = (await publisher.ended(submitted.turn)).facts
    assert [fact.code for fact in facts if isinstance(fact, CallFailed)] == []
    names = {fact.call: fact.skill.partition("@")[0] for fact in facts if isinstance(fact, CallFired)}
    return {names[fact.call]: json.loads(fact.result) for fact in facts if isinstance(fact, CallAnswered)}


@pytest.mark.asyncio
async def test_every_command_of_the_page_is_run(tmp_path: Path) -> None:
    assert len(COMMANDS) == 11
    said: dict[str, str] = {}
    environment = {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT), "HOME": str(tmp_path),
        "COLUMNS": "200", "HEADSTART_PARTITIONS": str(PARTITIONS), "HEADSTART_REPLICATION": "1",
        "HEADSTART_SIGNING_KEY": SECRET, "HEADSTART_ALLOW_PRIVATE_SKILL_HOSTS": "true",
    }  # fmt: skip
    async with EmbeddedBroker(tmp_path / "broker") as broker, rig(broker) as scene, library() as held:
        environment |= {
            "HEADSTART_KAFKA": broker.bootstrap, "HEADSTART_FETCH_MAX_WAIT_MS": str(broker.fetch_max_wait_ms),
            "HEADSTART_IDEMPOTENT": "false", "HEADSTART_KEY": await scene.key("mcp-time"),
        }  # fmt: skip
        contract = CONTRACT.read_text().replace("default: library.example", f"default: '{held.place}'")
        (tmp_path / CONTRACT.name).write_text(contract)
        for command in COMMANDS:
            if not command.startswith(LASTING):
                said[command] = await run(command, tmp_path, environment)
        serve = next(command for command in COMMANDS if "serve-mcp" in command)
        async with running(f"{serve} --service-tenant {TENANT}", tmp_path, environment):
            places = frozenset({held.place})
            secrets = Secrets({"library-staff": (STAFF, places), "library-partner": (PARTNER, places)})
            await scene.turns(*(str(call["name"]) for call in PLAN), secrets=secrets)
            await scene.generation([Rule(step="plan", say=json.dumps(PLAN)), Rule(say="Done.")])
            got = await called_in_a_turn(scene)
        await offered_as_an_mcp_server(tmp_path, environment)
    assert got["get_book"] == DUNE
    assert got["statistics"] == {"loans": 0}
    assert "Asia/Tokyo" in json.dumps(got["get_current_time"])
    assert said[COMMANDS[0]] == "20 skills in library.json\n"
    assert said[COMMANDS[1]].count("is in force") == 20
    assert re.search(
        rf"get_book .* city-library .* pure .* GET .* http://{held.place}/v2/books/{{isbn}}", said[COMMANDS[2]]
    )
    assert [one["name"] for one in json.loads(said[COMMANDS[3]])] == [
        "city_list_books", "city_get_book", "city_list_copies", "city_list_loans",
    ]  # fmt: skip
    assert (tmp_path / "count_words" / "test_count_words.py").exists()
    assert (tmp_path / "texts" / "agent.toml").exists()


async def offered_as_an_mcp_server(folder: Path, environment: dict[str, str]) -> None:
    """Both of the page's MCP servers, with a real client and a key that Postgres knows."""
    streams_command, http_command = (line for line in COMMANDS if line.startswith("headstart mcp"))
    # PostgreSQL does not run as root and its own user does not see every temporary folder.
    async with EmbeddedPostgres(folder / "postgres") as postgres:
        environment = environment | {"HEADSTART_POSTGRES": postgres.dsn}
        key = (await run("headstart keys create --user bo", folder, environment)).strip()
        environment |= {"HEADSTART_KEY": key}
        command, *arguments = words(streams_command)
        server = StdioServerParameters(command=command, args=arguments, env=environment, cwd=folder)
        async with Client(server) as client:
            await whole_exchange(client)
        port = free_port()
        async with running(re.sub(r"--port \d+", f"--port {port}", http_command), folder, environment):
            http = create_mcp_http_client(headers={"authorization": f"Bearer {key}"})
            async with Client(streamable_http_client(f"http://127.0.0.1:{port}/mcp", http_client=http)) as client:
                await whole_exchange(client)


async def whole_exchange(client: Client) -> None:
    names = {tool.name for tool in (await client.list_tools()).tools}
    assert "get_book" in names
    assert not names & {"add_book", "remove_book", "remove_member"}
    assert (await client.call_tool("get_book", {"isbn": DUNE["isbn"]})).structured_content == DUNE
    refused = await client.call_tool("remove_member", {"member_id": 1})
    assert refused.is_error


def test_the_time_server_is_on_the_path_of_the_page() -> None:
    assert shutil.which("mcp-server-time", path=str(Path(sys.executable).parent))
