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
        times = psutil.Process(self.child.pid).cpu_times()
        return float(times.user + times.system)


@dataclass(frozen=True, slots=True)
class Ground:
    """What runs. key: of the one user whose conversations are written. broker: in words."""

    broker: str
    settings: Settings
    parts: Parts
    key: str
    folder: Path

    @asynccontextmanager
    async def gateway(self, name: str = "gateway") -> AsyncIterator[GatewayProcess]:
        port = free_port()
        environment = self._environment() | {"HEADSTART_PORT": str(port)}
        child = self._child(name, ["gateway"], environment)
        try:
            await until_ready(child)
            yield GatewayProcess(f"http://127.0.0.1:{port}", child)
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
        child = self._child(
            "log writer", ["tests.bench.gateway.log_writer", str(asked), str(answer)], self._environment()
        )
        try:
            while not answer.exists():
                child.check()
                await asyncio.sleep(0.05)
            yield log_writer.decode(answer.read_bytes())
            child.check()
        finally:
            await child.stop(STOP_S)

    def _environment(self) -> dict[str, str]:
        return {**without_settings(os.environ), **self.settings.environment()}

    def _child(self, name: str, module: list[str], environment: Mapping[str, str]) -> Child:
        log_path = self.folder / "logs" / f"{name.replace(' ', '-')}-{time.monotonic_ns()}.log"
        return start_child(name, [sys.executable, "-m", *module], log_path=log_path, environment=environment)


def without_settings(environ: Mapping[str, str]) -> dict[str, str]:
    """An environment that says nothing about an installation."""
    return {name: text for name, text in environ.items() if not name.startswith("HEADSTART_") and name != "KAFKA_HOME"}


@asynccontextmanager
async def ground(folder: Path, kafka_home: Path | None, partitions: int = 32) -> AsyncIterator[Ground]:
    """kafka_home None: the embedded broker. Everything is stopped at the end."""
    folder.mkdir(parents=True, exist_ok=True)
    async with AsyncExitStack() as opened:
        choice = await asyncio.to_thread(choose_broker, kafka_home, os.environ)
        broker: Broker = choice.create(folder)
        await opened.enter_async_context(broker)
        postgres = await opened.enter_async_context(EmbeddedPostgres(folder / "postgres"))
        told = {
            "HEADSTART_DEV": "true",
            "HEADSTART_DATA": str(folder / "data"),
            "HEADSTART_PARTITIONS": str(partitions),
        }
        settings = Settings.from_env(told).but(postgres=postgres.dsn)
        settings = settings.on_broker(
            broker.bootstrap, fetch_max_wait_ms=broker.fetch_max_wait_ms, idempotent=broker.idempotent
        )
        parts = await opened.enter_async_context(open_parts(settings, "bench", embeds=False))
        key = await parts.store.create_key(TENANT, USER, "bench", (), int(time.time() * 1000))
        yield Ground(broker.name, settings, parts, key, folder)
