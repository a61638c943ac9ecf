"""Broker, Postgres and gateways, and nothing else: what a gateway costs without the rest of the journey beside it.

The log is written by a process of its own (log_writer.py) instead of turn and generation workers.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil

from headstart.stack import until_ready
from memory.embedded import EmbeddedPostgres
from memory.opening import Parts, open_parts
from streams.child import Child, start_child
from streams.embedded import Broker, choose_broker, free_port
from streams.settings import Settings
from tests.bench.gateway import log_writer

TENANT, USER = "bench", "bench-user"
STOP_S: Final = 20.0


@dataclass(frozen=True, slots=True)
class GatewayProcess:
    """`python -m gateway` as people run it."""

    url: str
    child: Child

    def resident_bytes(self) -> int:
        """Memory that is its own: what would come back if it ended."""
        return int(psutil.Process(self.child.pid).memory_full_info().uss)

    def cpu_s(self) -> float:
        return cpu_s(self.child)


@dataclass(frozen=True, slots=True)
class Ground:
    """What runs. key: of the one user whose conversations are written."""

    settings: Settings
    parts: Parts
    key: str
    folder: Path

    @asynccontextmanager
    async def gateway(self, name: str = "gateway") -> AsyncIterator[GatewayProcess]:
        port = free_port()
        async with self.process(name, "gateway", HEADSTART_PORT=str(port)) as child:
            await until_ready(child)
            yield GatewayProcess(f"http://127.0.0.1:{port}", child)

    @asynccontextmanager
    async def process(self, name: str, *module: str, **settings: str) -> AsyncIterator[Child]:
        """`python -m MODULE …` of this ground; entered at once, stopped at the end. settings: further variables."""
        child = self._child(name, list(module), self._environment() | settings)
        try:
            yield child
            child.check()
        finally:
            await child.stop(STOP_S)

    @asynccontextmanager
    async def writer(self, job: log_writer.Job) -> AsyncIterator[log_writer.Written]:
        """Writes the log as the job says while the context is open; entered when its turns have begun."""
        folder = self.folder / "writer"
        folder.mkdir(exist_ok=True)
        asked, answer = folder / f"job-{time.monotonic_ns()}.json", folder / f"written-{time.monotonic_ns()}.json"
        asked.write_bytes(log_writer.encode(job))
        async with self.process("log writer", "tests.bench.gateway.log_writer", str(asked), str(answer)) as child:
            await until_written(answer, child)
            yield log_writer.decode(answer.read_bytes())

    def _environment(self) -> dict[str, str]:
        return {**without_settings(os.environ), **self.settings.environment()}

    def _child(self, name: str, module: list[str], environment: Mapping[str, str]) -> Child:
        log_path = self.folder / "logs" / f"{name.replace(' ', '-')}-{time.monotonic_ns()}.log"
        return start_child(name, [sys.executable, "-m", *module], log_path=log_path, environment=environment)


def without_settings(environ: Mapping[str, str]) -> dict[str, str]:
    """An environment that says nothing about an installation."""
    return {name: text for name, text in environ.items() if not name.startswith("HEADSTART_") and name != "KAFKA_HOME"}


def cpu_s(child: Child) -> float:
    """CPU that a process has used so far, in seconds."""
    times = psutil.Process(child.pid).cpu_times()
    return float(times.user + times.system)


async def until_written(file: Path, child: Child) -> None:
    """Waits for a file that a process writes. Raises PeerUnavailable when it ends instead."""
    while not file.exists():
        child.check()
        await asyncio.sleep(0.05)


@asynccontextmanager
async def broker_alone(folder: Path, kafka_home: Path | None, partitions: int = 32) -> AsyncIterator[Settings]:
    """A broker, and the settings that lead to it. kafka_home None: the embedded one."""
    folder.mkdir(parents=True, exist_ok=True)
    choice = await asyncio.to_thread(choose_broker, kafka_home, os.environ)
    broker: Broker = choice.create(folder)
    async with broker:
        told = {
            "HEADSTART_DEV": "true",
            "HEADSTART_DATA": str(folder / "data"),
            "HEADSTART_PARTITIONS": str(partitions),
        }
        yield Settings.from_env(told).on_broker(
            broker.bootstrap, fetch_max_wait_ms=broker.fetch_max_wait_ms, idempotent=broker.idempotent
        )


@asynccontextmanager
async def ground(folder: Path, kafka_home: Path | None, partitions: int = 32) -> AsyncIterator[Ground]:
    """kafka_home None: the embedded broker. Everything is stopped at the end."""
    async with AsyncExitStack() as opened:
        settings = await opened.enter_async_context(broker_alone(folder, kafka_home, partitions))
        postgres = await opened.enter_async_context(EmbeddedPostgres(folder / "postgres"))
        settings = settings.but(postgres=postgres.dsn)
        parts = await opened.enter_async_context(open_parts(settings, "bench", embeds=False))
        key = await parts.store.create_key(TENANT, USER, "bench", ("chat",), int(time.time() * 1000))
        yield Ground(settings, parts, key, folder)


@asynccontextmanager
async def model_server(folder: Path) -> AsyncIterator[str]:
    """The scripted OpenAI-compatible server as a process of its own; gives its URL, `/v1` included."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "model-server.url"
    command = [sys.executable, "-m", "tests.bench.gateway.model_server", str(file)]
    child = start_child("model server", command, log_path=folder / "logs" / "model-server.log")
    try:
        await until_written(file, child)
        yield file.read_text()
    finally:
        await child.stop(STOP_S)
