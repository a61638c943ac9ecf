"""The very commands of compose.yaml, and its very health checks, as plain processes on the embedded parts."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from memory.embed import HashEmbedder
from memory.opening import MINILM_DIMENSIONS
from streams.child import Child, start_child
from streams.embedded import EmbeddedBroker, free_port
from tests.support.compose import services
from tests.support.stacks import foundations

SERVICES = ("gateway", "turns", "generation", "memory", "skills")
HEALTHY_WITHIN_S = 120
SAME_PYTHON = {"python": sys.executable, "python3": sys.executable}


@contextlib.asynccontextmanager
async def elsewhere(folder: Path) -> AsyncIterator[dict[str, str]]:
    """The parts that compose runs in containers of their own; gives what to tell the services instead."""
    async with foundations(folder, EmbeddedBroker(folder), HashEmbedder(MINILM_DIMENSIONS)) as told:
        nobody = {"HEADSTART_KAFKA_USER": "", "HEADSTART_KAFKA_PASSWORD": ""}  # this broker knows no users
        yield {**told, **nobody, "HEADSTART_MODEL_URL": told["HEADSTART_EMBEDDINGS_URL"], "HEADSTART_DEMO_URL": ""}


class Service:
    """One service of compose.yaml as a process here: its command, its environment, its health check."""

    def __init__(self, name: str, instead: dict[str, str], folder: Path) -> None:
        self.name, self._folder = name, folder
        described = services()[name]
        self._ports = {"8080": str(free_port()), "8090": str(free_port())}
        told = {key: instead.get(key, text) for key, text in described["environment"].items() if text is not None}
        told = {key: self._ports.get(text, text).replace("0.0.0.0", "127.0.0.1") for key, text in told.items()}
        # A container sees nothing else either: no variable of this process's own, but where programs are.
        self.environment = {"PATH": os.environ["PATH"], "HOME": str(folder), **told}
        if "HEADSTART_KAFKA" in told:
            self.environment |= {key: instead[key] for key in ("HEADSTART_FETCH_MAX_WAIT_MS", "HEADSTART_IDEMPOTENT")}
        self._command = described["command"]
        self._check = described["healthcheck"]["test"][1:]

    def _start(self, command: list[str], log: str) -> Child:
        words = [re.sub(r":(8080|8090)/", lambda match: f":{self._ports[match[1]]}/", word) for word in command]
        words[0] = SAME_PYTHON.get(words[0], words[0])
        return start_child(self.name, words, log_path=self._folder / log, environment=self.environment)

    def start(self) -> Child:
        return self._start(self._command, f"{self.name}.log")

    async def until_healthy(self, child: Child) -> None:
        """Runs the health check until it says yes; fails with the service's log if it ends, or never is healthy."""
        try:
            async with asyncio.timeout(HEALTHY_WITHIN_S):
                while True:
                    child.check()
                    if await self._start(self._check, f"{self.name}-check.log").wait() == 0:
                        return
        except TimeoutError:
            said = (self._folder / f"{self.name}-check.log").read_text()
            pytest.fail(f"{self.name} is not healthy: {said}\n{child.log_tail()}")


@pytest.mark.slow
@pytest.mark.asyncio
async def test_every_service_starts_gets_healthy_and_ends_in_order(tmp_path: Path) -> None:
    async with elsewhere(tmp_path) as instead:
        parts = [Service(name, instead, tmp_path) for name in SERVICES]
        running = [part.start() for part in parts]
        try:
            await asyncio.gather(*(part.until_healthy(child) for part, child in zip(parts, running, strict=True)))
            ended = await asyncio.gather(*(child.stop(grace_s=30) for child in running))
            said = {child.name: child.log_tail() for child, status in zip(running, ended, strict=True) if status != 0}
            assert said == {}, "a service did not end with status 0 on SIGTERM"
        finally:
            for child in running:
                child.kill()
                await child.stop()


@pytest.mark.asyncio
@pytest.mark.parametrize("name", SERVICES)
async def test_a_service_that_lacks_a_setting_says_which(tmp_path: Path, name: str) -> None:
    service = Service(name, {"HEADSTART_FETCH_MAX_WAIT_MS": "5", "HEADSTART_IDEMPOTENT": "false"}, tmp_path)
    del service.environment["HEADSTART_KAFKA"]
    child = service.start()
    assert await child.wait() not in (0, None)
    assert "HEADSTART_KAFKA" in child.log_tail()
    assert "Traceback" not in child.log_tail()
