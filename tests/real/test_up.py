"""`headstart up` as a person runs it: a process that is started, used, stopped with Ctrl-C, and started again."""

from __future__ import annotations

import asyncio
import fcntl
import os
import re
import signal
import socket
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

import httpx
import orjson
import psutil
import pytest
from openai import AsyncOpenAI

from streams.child import Child, start_child
from streams.embedded import free_port
from tests.support.buses import kafka_broker
from tests.support.stacks import scripted_models, without_settings
from workers.generation.scripted_engine import Rule, When

START_S = 240  # these end a test that would hang; nothing is judged by them
STOP_S = 60
MODEL = "headstart"
NAMED, KNOWN, UNKNOWN = "Nice to meet you.", "It is Rex.", "I can not tell."
RULES = (
    Rule(step="answer", when=When(contains="my dog is called"), say=NAMED),
    Rule(step="answer", when=When(anywhere="my dog is called Rex"), say=KNOWN),
    Rule(step="plan", say="[]"),
    Rule(say=UNKNOWN),
)
NOTHING: Mapping[str, str] = MappingProxyType({})
COMMAND = (sys.executable, "-c", "from headstart.cli import main; main()")
pytestmark = [pytest.mark.asyncio, pytest.mark.slow]


class Up:
    """One `headstart up` on a data folder. url, key: as it printed them."""

    def __init__(self, folder: Path, port: int, child: Child) -> None:
        self.folder, self.port, self.child = folder, port, child
        self.url = f"http://127.0.0.1:{port}"
        self.key = ""

    async def until_ready(self) -> None:
        async with asyncio.timeout(START_S):
            while (printed := re.search(r"chat page +(\S+)/\?key=(\S+)", self.printed())) is None:
                self.child.check()
                await asyncio.sleep(0.05)
        assert printed[1] == self.url
        self.key = printed[2]

    def printed(self) -> str:
        return self.child.log_path.read_text()

    def family(self) -> list[psutil.Process]:
        return psutil.Process(self.child.pid).children(recursive=True)

    async def stop(self) -> None:
        """Ctrl-C: status 0, and none of its processes or listening sockets is left."""
        family = self.family()
        assert family, "the broker and Postgres are its children"
        self.child.process.send_signal(signal.SIGINT)
        async with asyncio.timeout(STOP_S):
            assert await self.child.wait() == 0, self.printed()
        gone, alive = psutil.wait_procs(family, timeout=STOP_S)
        assert [process.name() for process in alive] == [], gone
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"{self.url}/healthz")
        assert "Traceback" not in self.printed()

    @asynccontextmanager
    async def client(self) -> AsyncIterator[Any]:
        async with AsyncOpenAI(api_key=self.key, base_url=f"{self.url}/v1", max_retries=0) as client:
            yield client

    async def until_stored(self, conversation: str) -> list[tuple[str, str]]:
        """Who said what in a conversation, from Postgres, once the first turn is there."""
        async with self.client() as client, asyncio.timeout(STOP_S):
            while True:
                items = (await client.conversations.items.list(conversation, order="asc")).data
                if len(items) >= 2:
                    return [(item.role, item.content[0].text) for item in items]
                await asyncio.sleep(0.05)

    async def command(self, *arguments: str) -> tuple[int, str]:
        """Another headstart command in a shell that has read the file `env`; its status and what it printed."""
        line = '. "$0" && exec "$@"'
        child = start_child(
            arguments[0], ["/bin/sh", "-c", line, str(self.folder / "data" / "env"), *COMMAND, *arguments],
            log_path=self.folder / f"{arguments[0]}.log", environment=without_settings(os.environ),
        )  # fmt: skip
        status = await child.wait()
        return status, child.log_path.read_text()

    async def facts(self, turn: str) -> list[dict[str, Any]]:
        """A turn's facts in the log, by `headstart turn`; [] when the log does not know it."""
        status, printed = await self.command("turn", turn, "--json")
        if status != 0:
            assert "is not in the log" in printed
            return []
        return [orjson.loads(line) for line in printed.splitlines() if line.startswith("{")]


def start(folder: Path, *options: str, port: int = 0, settings: Mapping[str, str] = NOTHING) -> Up:
    """Begins to start; models are scripted and everything lies under `folder`."""
    port = port or free_port()
    told = {
        **without_settings(os.environ), "HEADSTART_PARTITIONS": "4",
        "HEADSTART_MODELS": str(scripted_models(folder, RULES)), **settings,
    }  # fmt: skip
    command = [*COMMAND, "up", "--data", str(folder / "data"), "--port", str(port), *options]
    return Up(folder, port, start_child("headstart up", command, log_path=folder / "up.log", environment=told))


@asynccontextmanager
async def up(folder: Path, *options: str, settings: Mapping[str, str] = NOTHING) -> AsyncIterator[Up]:
    """Ready, and stopped with Ctrl-C at the end."""
    one = start(folder, *options, settings=settings)
    try:
        await one.until_ready()
        yield one
        await one.stop()
    except BaseException as error:
        error.add_note(one.printed())
        raise
    finally:
        one.child.kill()
        await one.child.wait()


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        pytest.param("tansu", (), id="in-one-process"),
        pytest.param("tansu", ("--processes",), id="as-processes"),
        pytest.param("kafka", (), id="on-apache-kafka", marks=pytest.mark.kafka),
    ],
)
async def test_it_starts_serves_stops_and_goes_on_where_it_was(
    kind: str, options: tuple[str, ...], tmp_path: Path
) -> None:
    settings: dict[str, str] = {}
    if kind == "kafka":
        kafka_broker(tmp_path)  # skips the test where there is none
        settings = {"KAFKA_HOME": os.environ["KAFKA_HOME"]}
    async with up(tmp_path, *options, settings=settings) as first:
        assert httpx.get(f"{first.url}/readyz").status_code == 200
        async with first.client() as client:
            told = await client.responses.create(model=MODEL, input="Hello, my dog is called Rex")
        assert told.output_text == NAMED
        said = await first.until_stored(told.conversation.id)
        assert said == [("user", "Hello, my dog is called Rex"), ("assistant", NAMED)]
    async with up(tmp_path, *options, settings=settings) as second:
        assert second.key == first.key
        assert await second.until_stored(told.conversation.id) == said
        async with second.client() as client:
            asked = await client.responses.create(
                model=MODEL, input="What is the name of my dog?", conversation=told.conversation.id
            )
        assert asked.output_text == KNOWN
        answer = next(
            fact["data"] for fact in await second.facts(asked.id)
            if fact["type"].startswith("headstart.model.asked") and fact["data"]["step"] == "answer"
        )  # fmt: skip
        assert {"role": "assistant", "content": NAMED} in answer["messages"]
        assert bool(await second.facts(told.id)) == (kind == "kafka"), "only Apache Kafka's log outlives a restart"


async def test_ctrl_c_ends_a_start(tmp_path: Path) -> None:
    one = start(tmp_path)
    async with asyncio.timeout(START_S):
        while "generation worker" not in one.printed():
            one.child.check()
            await asyncio.sleep(0.01)
    await one.stop()


@pytest.mark.parametrize(
    ("options", "program", "name"), [((), "tansu", "Tansu"), (("--processes",), "workers turns", "turns worker")]
)
async def test_a_part_that_dies_ends_everything_and_is_named(
    options: tuple[str, ...], program: str, name: str, tmp_path: Path
) -> None:
    one = start(tmp_path, *options)
    try:
        await one.until_ready()
        family = one.family()
        next(process for process in family if program in " ".join(process.cmdline())).kill()
        async with asyncio.timeout(STOP_S):
            assert await one.child.wait() == 1, one.printed()
        _, alive = psutil.wait_procs(family, timeout=STOP_S)
        assert [process.name() for process in alive] == []
        assert f"headstart: {name} ended with status -9" in one.printed()
        assert "Traceback" not in one.printed()
    finally:
        one.child.kill()
        await one.child.wait()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"HEADSTART_PARTITIONS": "many"}, "HEADSTART_PARTITIONS"),
        ({"HEADSTART_KAFFKA": "localhost:9092"}, "did you mean HEADSTART_KAFKA"),
        ({"HEADSTART_MODELS": "/nowhere/models.toml"}, "HEADSTART_MODELS"),
        ({"HEADSTART_MODEL_URL": "http://127.0.0.1:1/v1"}, "HEADSTART_MODEL"),
    ],
)
async def test_a_wrong_setting_is_one_clear_line(settings: dict[str, str], said: str, tmp_path: Path) -> None:
    one = start(tmp_path, settings=settings)
    await ends_with_one_line(one, said)


async def test_a_taken_port_and_a_taken_folder_are_said_at_once(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        await ends_with_one_line(start(tmp_path, port=port), f"can not listen on 127.0.0.1:{port}")
    (tmp_path / "data").mkdir(exist_ok=True)
    with (tmp_path / "data" / "lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        await ends_with_one_line(start(tmp_path), "another installation runs in")


async def ends_with_one_line(one: Up, said: str) -> None:
    try:
        async with asyncio.timeout(START_S):
            assert await one.child.wait() == 2
        lines = [line for line in one.printed().splitlines() if line != "Headstart starts"]
        assert len(lines) == 1, one.printed()
        assert said in lines[0]
    finally:
        one.child.kill()
