"""Starts an installation to measure (stack_process.py), tells what its processes cost, and stops it."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
import psutil

from streams.child import Child, start_child
from streams.embedded import free_port
from streams.errors import PeerTimeout
from streams.settings import Settings
from tests.bench import scenarios
from tests.bench.stack_process import Whereabouts

START_TIMEOUT_S: Final = 300.0
KEYS: Final = 50  # a key may begin 20 turns a second
CPU_OF: Final = {"tansu": "broker", "java": "broker", "postgres": "Postgres"}  # by the beginning of a program's name


@dataclass(frozen=True, slots=True)
class Installation:
    """A running one. broker: in words. separate: each stage is a process of its own."""

    broker: str
    separate: bool
    where: Whereabouts
    settings: Settings
    demo_url: str
    _child: Child

    def cpu_seconds(self) -> dict[str, float]:
        """CPU that each part has used so far, in seconds, over all its processes that live."""
        used: dict[str, float] = {}
        names = dict(self.where.processes)
        root = psutil.Process(self._child.pid)
        for process in (root, *root.children(recursive=True)):  # parents before their children
            try:
                times, program, parent = process.cpu_times(), process.name(), process.ppid()
            except psutil.NoSuchProcess:
                continue
            known = next((part for start, part in CPU_OF.items() if program.startswith(start)), None)
            name = names.setdefault(process.pid, known or names.get(parent, program))
            used[name] = used.get(name, 0.0) + times.user + times.system
        return used


@asynccontextmanager
async def installed(
    folder: Path, *, kafka_home: Path | None, separate: bool, scripted: bool = True, partitions: int | None = None,
    models: str | None = None,
) -> AsyncIterator[Installation]:  # fmt: skip
    """kafka_home None: the embedded broker. scripted False: the model that ships, on vLLM. models: a table of models
    (HEADSTART_MODELS) instead of either. Stopped at the end."""
    folder.mkdir(parents=True, exist_ok=True)
    demo_port = free_port()
    kept = {
        name: text for name, text in os.environ.items() if not name.startswith("HEADSTART_") and name != "KAFKA_HOME"
    }
    environment = kept | {
        "HEADSTART_DATA": str(folder / "data"),
        "HEADSTART_PORT": str(free_port()),
        "HEADSTART_DEMO_PORT": str(demo_port),
        "HEADSTART_LOG_LEVEL": "info",  # `ready` is said at this level
    }
    if "HEADSTART_CACHE" in os.environ:
        environment["HEADSTART_CACHE"] = os.environ["HEADSTART_CACHE"]
    if partitions is not None:
        environment["HEADSTART_PARTITIONS"] = str(partitions)
    if kafka_home is not None:
        environment["HEADSTART_KAFKA_HOME"] = str(kafka_home)
    if models is not None:
        (folder / "models.toml").write_text(models)
        environment["HEADSTART_MODELS"] = str(folder / "models.toml")
    elif scripted:
        (folder / "rules.json").write_bytes(scenarios.rules())
        (folder / "models.toml").write_text(scenarios.models_table(str(folder / "rules.json")))
        environment["HEADSTART_MODELS"] = str(folder / "models.toml")
    file = folder / "where.json"
    command = [
        sys.executable,
        "-m",
        "tests.bench.stack_process",
        str(file),
        str(KEYS),
        "separate" if separate else "one",
    ]
    child = start_child("installation", command, log_path=folder / "stack.log", environment=environment)
    try:
        where = await _started(child, file)
        settings = Settings.from_env(where.environment)
        name = "Apache Kafka" if settings.idempotent else "Tansu"
        yield Installation(name, separate, where, settings, f"http://127.0.0.1:{demo_port}", child)
        child.check()
    finally:
        await child.stop(grace_s=60)


async def _started(child: Child, file: Path) -> Whereabouts:
    try:
        async with asyncio.timeout(START_TIMEOUT_S):
            while not file.exists():
                child.check()
                await asyncio.sleep(0.1)
    except TimeoutError:
        raise PeerTimeout(
            f"the installation did not start within {START_TIMEOUT_S:.0f} s", hint=child.log_tail()
        ) from None
    return msgspec.json.decode(file.read_bytes(), type=Whereabouts)
