"""An installation whose every part can be killed, stopped and started again on its own: two gateways, two turns,
generation and memory workers, one skill service, Postgres and a broker, each a process (or several) of its own.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Final, Literal

from headstart.stack import until_ready
from memory.embed import MiniLMEmbedder
from memory.embedded import EmbeddedPostgres
from memory.opening import Parts, open_parts
from streams.child import Child, start_child
from streams.embedded import Broker, free_port
from streams.settings import Settings
from tests.faults.skill_service import LEDGER
from tests.faults.story import rules
from tests.support.openai_server import OpenAIServer, serve
from tests.support.stacks import KEY_TIME_MS, PARTITIONS, scripted_models, without_settings
from workers.generation.scripted_engine import ScriptedEngine

Part = Literal["gateway", "turns", "generation", "memory", "skills", "postgres", "broker"]
PARTS: Final[tuple[Part, ...]] = ("gateway", "turns", "generation", "memory", "skills", "postgres", "broker")
PAIRED: Final[tuple[Part, ...]] = ("gateway", "turns", "generation", "memory")
TOKENS_PER_SECOND: Final = 40.0  # of three bytes: an answer takes a second and a half, a plan one second
END_MS: Final = 40.0  # the step in which a model says that it has ended: between the last token and the end
SKILL_MS: Final = 600
SESSION_MS: Final = 3_000  # a worker that went silent is replaced within it
GRACE_S: Final = 30.0


class Process:
    """One process of the installation, over all its lives. number: of the life, from 1."""

    def __init__(self, name: str, start: Callable[[str], Child]) -> None:
        self.name = name
        self.lives = 0
        self.paused = False
        self._start = start
        self.child: Child | None = None

    @property
    def pid(self) -> int:
        assert self.child is not None
        return self.child.pid

    def start(self) -> None:
        self.lives += 1
        self.child = self._start(f"{self.name}.{self.lives}")

    async def ready(self) -> None:
        """Returns once it serves. Raises PeerUnavailable with the end of its log when it has ended."""
        assert self.child is not None
        await until_ready(self.child)

    async def kill(self) -> None:
        """SIGKILL; returns when it is gone."""
        assert self.child is not None
        self.child.kill()
        await self.child.wait()
        self.paused = False

    def pause(self) -> None:
        """SIGSTOP: it holds its sockets, and does not know that time passes."""
        self.paused = True
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        if self.paused:
            self.paused = False
            os.kill(self.pid, signal.SIGCONT)

    async def stop(self) -> int:
        """SIGTERM and the time to drain; gives the exit status."""
        assert self.child is not None
        self.resume()
        return await self.child.stop(GRACE_S)


class FaultStack:
    """What runs. addresses: host:port of each gateway by its name. parts: open in this process. key: of user ada of
    tenant acme. told: the variables that every process gets."""

    def __init__(self, folder: Path, broker: Broker, postgres: EmbeddedPostgres, told: dict[str, str], parts: Parts):
        self.folder, self.broker, self.postgres, self.told, self.parts = folder, broker, postgres, told, parts
        self.ledger = folder / "ledger.jsonl"
        self.key = ""
        self.addresses: dict[str, str] = {}
        self.processes: dict[str, Process] = {}

    def add(self, name: str, *command: str, **settings: str) -> Process:
        """Names a process; `start` it."""
        environment = {**without_settings(os.environ), **self.told, **settings}

        def start(life: str) -> Child:
            return start_child(
                name, [sys.executable, "-m", *command], log_path=self.folder / "logs" / f"{life}.log",
                environment=environment,
            )  # fmt: skip

        made = self.processes[name] = Process(name, start)
        return made

    def of(self, part: Part) -> list[Process]:
        """The processes of a part, which is none of Postgres and the broker."""
        return [process for name, process in self.processes.items() if name.partition(" ")[0] == part]

    def writer(self, source: str) -> Process | None:
        """The process that signs its facts so: a writer's name holds its pid."""
        found = [one for one in self.processes.values() if one.child is not None and f"-{one.pid}-" in source]
        return found[0] if found else None

    def logs(self) -> str:
        """The end of every process's newest log."""
        said = {name: one.child.log_tail() for name, one in self.processes.items() if one.child is not None}
        return "\n".join(f"--- {name}\n{text}" for name, text in said.items())


def settings_of(folder: Path, broker: Broker, postgres: EmbeddedPostgres, embeddings_url: str) -> dict[str, str]:
    models = scripted_models(folder, rules(), TOKENS_PER_SECOND)
    models.write_text(f"{models.read_text()}end_ms = {END_MS}\n")
    return {
        "HEADSTART_KAFKA": broker.bootstrap,
        "HEADSTART_FETCH_MAX_WAIT_MS": str(broker.fetch_max_wait_ms),
        "HEADSTART_IDEMPOTENT": str(broker.idempotent).lower(),
        "HEADSTART_SESSION_TIMEOUT_MS": str(SESSION_MS),
        "HEADSTART_PARTITIONS": str(PARTITIONS),
        "HEADSTART_REPLICATION": "1",
        "HEADSTART_POSTGRES": postgres.dsn,
        "HEADSTART_EMBEDDINGS_URL": embeddings_url,
        "HEADSTART_EMBEDDINGS_MODEL": MiniLMEmbedder().name,
        "HEADSTART_DATA": str(folder / "data"),
        "HEADSTART_CACHE": str(folder / "cache"),
        "HEADSTART_MODELS": str(models),
        "HEADSTART_SIGNING_KEY": "ab" * 32,
        "HEADSTART_ALLOW_PRIVATE_SKILL_HOSTS": "true",
        "HEADSTART_DEMO_PORT": str(free_port()),
        "HEADSTART_DEMO_DELAY_MS": str(SKILL_MS),
        LEDGER: str(folder / "ledger.jsonl"),
    }


@asynccontextmanager
async def fault_stack(folder: Path, broker: Broker, **settings: str) -> AsyncIterator[FaultStack]:
    """A running one, all of it ready; all ended at the end. What is raised meanwhile carries the end of every log.

    settings: further variables for every process.
    """
    postgres = EmbeddedPostgres(folder / "postgres")
    async with AsyncExitStack() as opened:
        await opened.enter_async_context(broker)
        await opened.enter_async_context(postgres)
        embedder = MiniLMEmbedder()
        await embedder.start()
        opened.push_async_callback(embedder.close)
        url = await opened.enter_async_context(serve(OpenAIServer(ScriptedEngine([]), embedder)))
        told = {**settings_of(folder, broker, postgres, url), **settings}
        known = {name: text for name, text in told.items() if name != LEDGER}
        parts = await opened.enter_async_context(open_parts(Settings.from_env(known), "headstart-faults"))
        stack = FaultStack(folder, broker, postgres, told, parts)
        stack.key = await parts.store.create_key("acme", "ada", "faults", ("chat",), KEY_TIME_MS)
        stack.add("skills", "tests.faults.skill_service")
        for number in (1, 2):
            for stage in ("turns", "generation", "memory"):
                stack.add(f"{stage} {number}", "workers", stage)
            port = free_port()
            stack.addresses[f"gateway {number}"] = f"127.0.0.1:{port}"
            stack.add(f"gateway {number}", "gateway", HEADSTART_PORT=str(port))
        try:
            for process in stack.processes.values():
                process.start()
            await asyncio.gather(*(process.ready() for process in stack.processes.values()))
            yield stack
        except BaseException as error:
            error.add_note(stack.logs())
            raise
        finally:
            await asyncio.gather(*(process.stop() for process in stack.processes.values()))
