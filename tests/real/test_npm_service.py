"""A service in JavaScript (npm `kafkajs`) takes part on Apache Kafka with the AsyncAPI document and a page of text."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import orjson
import pytest

from streams.apache_kafka import find_kafka
from streams.asyncapi import FILE, document
from streams.events.calling import CallRequested
from streams.events.intake import CallResult, FactPublish, TurnSubmit
from tests.support.bus_services import AGENT, PARTITIONS, SECRET, TENANT, Rig, broker_for, rig
from workers.generation.scripted_engine import Rule

NPM = Path(__file__).parents[1] / "npm"
NODE_S = 90.0  # ends a hang; nothing is judged by it
SERVICE = "orders-js"
TOPICS = ("turns", "calls", "events", "skills")
RULES = (
    Rule(step="plan", say=json.dumps([{"name": "look_up_order", "arguments": {"number": "A-17", "detail": "short"}}])),
    Rule(say="It is on its way."),
)


def node(package: str) -> str:
    """The Node.js to run; skips the test where it or the package is not installed."""
    found = shutil.which("node")
    if found is None:
        pytest.skip("Node.js is not installed")
    if not (NPM / "node_modules" / package).is_dir():
        pytest.skip(f"tests/npm/node_modules has no `{package}`: `make setup` installs it")
    return found


async def run(*command: str) -> bytes:
    """A program's standard output; its error output is the test's when it fails."""
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )  # fmt: skip
    try:
        async with asyncio.timeout(NODE_S):
            output, errors = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    assert process.returncode == 0, errors.decode()
    return output


@pytest.mark.npm
@pytest.mark.asyncio
async def test_the_asyncapi_document_holds_to_its_specification() -> None:
    said = orjson.loads(await run(node("@asyncapi/parser"), str(NPM / "asyncapi.mjs"), str(FILE)))
    assert said["wrong"] == []
    assert said["offered"]["version"] == "3.0.0"
    assert said["offered"]["signed"]
    assert set(said["offered"]["operations"]) == set(document()["operations"])


async def held(scene: Rig) -> dict[str, Any]:
    """What the JavaScript service saw of its turn, once it was let go on."""
    assert scene.kafka is not None
    key = await scene.key(SERVICE)
    process = await asyncio.create_subprocess_exec(
        node("kafkajs"), str(NPM / "service.mjs"), scene.kafka.bootstrap, str(PARTITIONS), key, SECRET, TENANT, AGENT,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdin is not None
    assert process.stderr is not None
    try:
        async with asyncio.timeout(NODE_S):
            assert orjson.loads(await process.stdout.readline() or b"{}") == {"ready": True}
            await scene.turns("look_up_order")
            await scene.generation(RULES)
            process.stdin.write(b"go\n")
            said = await process.stdout.readline()
            await process.wait()
    except BaseException as error:
        error.add_note((await process.stderr.read()).decode())
        raise
    finally:
        if process.returncode is None:
            process.kill()
    assert process.returncode == 0
    result: dict[str, Any] = orjson.loads(said)
    return result


@pytest.mark.npm
@pytest.mark.kafka
@pytest.mark.asyncio
async def test_a_service_in_javascript_takes_part(tmp_path: Path) -> None:
    async with broker_for("kafka", tmp_path) as broker, rig(broker) as scene:
        said = await held(scene)
        [call] = said["calls"]
        assert call == {"arguments": {"number": "A-17"}, "user": "ada", "tenant": TENANT}
        assert (said["end"], said["answer"]) == ("headstart.turn.completed.v1", "It is on its way.")
        [fired], [answered] = said["fired"], said["answered"]
        assert fired["written"], "sent while the plan was still being written, as fire_on allows"
        assert json.loads(answered["result"]) == {"state": "order A-17 is on its way"}
        assert (said["published"]["kind"], said["published"]["data"]) == ("order.shipped", {"order": "A-17"})

        assert broker is not None
        java = find_kafka(Path(os.environ["KAFKA_HOME"]), os.environ)
        assert not isinstance(java, str)
        printed = await run(
            str(java.java), "-XX:TieredStopAtLevel=1", "-cp", f"{java.home}/libs/*", str(NPM / "Console.java"),
            broker.bootstrap, *TOPICS,
        )  # fmt: skip
        lines = [line.split("\t") for line in printed.decode().splitlines()]
        stand = {topic: len(await scene.records(topic, 1 if topic == "skills" else PARTITIONS)) for topic in TOPICS}
        assert Counter(line[0] for line in lines) == stand
        for topic, partition, _, key, headers, value in lines:
            assert "ce_type:headstart." in headers
            assert "ce_specversion:1.0" in headers
            assert isinstance(json.loads(value), dict)
            assert topic == "skills" or int(key.split("_")[1][:4], 16) == int(partition)
        types = " ".join(line[4] for line in lines)
        for kind in (TurnSubmit, FactPublish, CallRequested, CallResult):
            assert f"ce_type:{kind.TYPE}" in types
