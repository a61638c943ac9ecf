"""The npm package `openai` under Node.js holds turns with the gateway as it comes."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import orjson
import pytest

from tests.support.gateways import Rig
from tests.support.turn_script import journey

NPM = Path(__file__).parents[1] / "npm"
NODE_S = 60.0  # Node.js starts in well under a second; this only ends a hang


def node() -> str:
    """The Node.js to run; skips the test where it or the client is not installed."""
    found = shutil.which("node")
    if found is None:
        pytest.skip("Node.js is not installed")
    if not (NPM / "node_modules" / "openai").is_dir():
        pytest.skip("tests/npm/node_modules has no `openai`: `make setup` installs it")
    return found


@pytest.mark.npm
@pytest.mark.asyncio
async def test_the_npm_client_holds_turns() -> None:
    binary = node()
    async with Rig(lambda submit: journey()) as rig:
        gateway = await rig.gateway()
        process = await asyncio.create_subprocess_exec(
            binary, str(NPM / "turns.mjs"), f"http://127.0.0.1:{gateway.port}/v1", rig.key,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        try:
            async with asyncio.timeout(NODE_S):
                output, errors = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
    assert process.returncode == 0, errors.decode()
    said = orjson.loads(output)
    text = "It is 4 °C in Oslo."
    assert said["socket"]["text"] == said["socket"]["final"] == said["responses"] == said["chat"] == text
    assert said["socket"]["lanes"] == ["npm"]
    assert said["socket"]["numbers"] == list(range(len(said["socket"]["numbers"])))
