"""A whole installation for a test: a broker, Postgres, and every stage as processes of its own, started as people do.

The model is a scripted one inside the generation workers and the skills are the demo service's. The embedding model is
the real one, loaded once, in the test's own process: the stages ask it over HTTP, as any OpenAI-compatible server.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
from openai import AsyncOpenAI

from headstart.stack import until_ready
from memory.embed import Embedder, MiniLMEmbedder
from memory.embedded import EmbeddedPostgres
from memory.opening import Parts, open_parts
from streams.child import Child, start_child
from streams.codec import decode
from streams.embedded import Broker, free_port
from streams.events.registering import WorkerAlive
from streams.settings import Settings
from streams.topology import WORKERS
from tests.support.openai_server import OpenAIServer, serve
from workers.generation.scripted_engine import Rule, ScriptedEngine

PARTITIONS = 4
STAGES = ("turns", "generation", "memory")
KEY_TIME_MS = 1_763_700_000_000


@asynccontextmanager
async def foundations(folder: Path, broker: Broker, embedder: Embedder) -> AsyncIterator[dict[str, str]]:
    """Starts the broker, Postgres and a server for the embedder; gives the variables that lead a stage to them. The
    server answers chat completions too, with nothing: it is there to be reached."""
    async with (
        broker,
        EmbeddedPostgres(folder / "postgres") as postgres,
        serve(OpenAIServer(ScriptedEngine([]), embedder)) as url,
    ):
        await embedder.start()
        try:
            yield {
                "HEADSTART_KAFKA": broker.bootstrap,
                "HEADSTART_FETCH_MAX_WAIT_MS": str(broker.fetch_max_wait_ms),
                "HEADSTART_IDEMPOTENT": str(broker.idempotent).lower(),
                "HEADSTART_PARTITIONS": str(PARTITIONS),
                "HEADSTART_POSTGRES": postgres.dsn,
                "HEADSTART_EMBEDDINGS_URL": url,
                "HEADSTART_EMBEDDINGS_MODEL": embedder.name,
                "HEADSTART_DATA": str(folder / "data"),
                "HEADSTART_CACHE": str(folder / "cache"),
            }
        finally:
            await embedder.close()


def scripted_models(folder: Path, rules: Sequence[Rule], tokens_per_second: float | None = None) -> Path:
    """A file for HEADSTART_MODELS whose only model says what the rules say."""
    script = folder / "rules.json"
    script.write_bytes(msgspec.json.encode(rules))
    pace = "" if tokens_per_second is None else f"tokens_per_second = {tokens_per_second}\n"
    models = folder / "models.toml"
    models.write_text(f'[models.default]\nengine = "scripted"\nmodel = "{script}"\n{pace}')
    return models


def without_settings(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment of a process that was told nothing."""
    return {name: text for name, text in environ.items() if not name.startswith("HEADSTART_") and name != "KAFKA_HOME"}


@dataclass
class Installation:
    """What runs. gateways: their host:port. key: of user ada of tenant acme. parts: open in the test's process.
    children: every stage's process by its name, "turns 1" … in the order they were started."""

    environment: dict[str, str]
    folder: Path
    parts: Parts
    key: str = ""
    gateways: list[str] = field(default_factory=list)
    children: dict[str, Child] = field(default_factory=dict)

    def start(self, name: str, *command: str, **settings: str) -> Child:
        """Starts one more process of this installation; it ends with it. settings: further variables for it."""
        child = start_child(
            name, [sys.executable, "-m", *command], log_path=self.folder / "logs" / f"{name}.log",
            environment={**self.environment, **settings},
        )  # fmt: skip
        self.children[name] = child
        return child

    def start_gateway(self, name: str) -> Child:
        port = free_port()
        self.gateways.append(f"127.0.0.1:{port}")
        return self.start(name, "gateway", HEADSTART_PORT=str(port))

    def client(self, number: int = 0, key: str = "") -> Any:
        """The stock client on one of the gateways. Any: its overloads tell streams apart by literals."""
        address = f"{self.gateways[number % len(self.gateways)]}/v1"
        return AsyncOpenAI(
            api_key=key or self.key, base_url=f"http://{address}", websocket_base_url=f"ws://{address}", max_retries=0
        )

    async def until_shared(self, of_each: int) -> None:
        """Waits until `of_each` workers of each stage say that they hold partitions, and together all of them."""
        held: dict[str, dict[str, tuple[int, ...]]] = {stage: {} for stage in STAGES}
        reader = await self.parts.bus.reader(WORKERS.name, {0: "latest"})
        try:
            while any(
                sum(map(bool, shares.values())) < of_each
                or sorted(partition for share in shares.values() for partition in share) != list(range(PARTITIONS))
                for shares in held.values()
            ):
                for record in await reader.batch():
                    event = decode(record)
                    if isinstance(event, WorkerAlive) and event.stage in held:
                        held[event.stage][event.worker] = event.partitions
        finally:
            await reader.close()

    def said(self) -> str:
        """The end of every process's log, for the report of a test that failed."""
        return "\n".join(f"--- {name}\n{child.log_tail()}" for name, child in self.children.items())

    async def stop(self) -> dict[str, int]:
        """Tells all processes to end and gives their exit statuses."""
        statuses = await asyncio.gather(*(child.stop(grace_s=30) for child in self.children.values()))
        return dict(zip(self.children, statuses, strict=True))


@asynccontextmanager
async def installation(
    folder: Path,
    broker: Broker,
    rules: Sequence[Rule],
    *,
    of_each: int = 1,
    tokens_per_second: float | None = None,
    settings: Mapping[str, str] | None = None,
) -> AsyncIterator[Installation]:
    """`of_each` gateways, turns, generation and memory workers and one demo service, ready; all ended at the end.
    settings: further variables for all of them.

    What is raised while it runs carries the end of every log. A process that does not end in order fails the test.
    """
    async with AsyncExitStack() as opened:
        told = await opened.enter_async_context(foundations(folder, broker, MiniLMEmbedder()))
        told |= {
            "HEADSTART_MODELS": str(scripted_models(folder, rules, tokens_per_second)),
            "HEADSTART_SIGNING_KEY": "ab" * 32,
            "HEADSTART_ALLOW_PRIVATE_SKILL_HOSTS": "true",
            "HEADSTART_DEMO_PORT": "0",
            "HEADSTART_REPLICATION": "1",
            **(settings or {}),
        }
        parts = await opened.enter_async_context(open_parts(Settings.from_env(told), "headstart-test"))
        stack = Installation({**without_settings(os.environ), **told}, folder, parts)
        stack.key = await parts.store.create_key("acme", "ada", "test", ("chat",), KEY_TIME_MS)
        try:
            stack.start("demo skills", "headstart.demo_service")
            for number in range(1, of_each + 1):
                for stage in STAGES:
                    stack.start(f"{stage} {number}", "workers", stage)
                stack.start_gateway(f"gateway {number}")
            await asyncio.gather(*(until_ready(child) for child in stack.children.values()))
            yield stack
            statuses = await stack.stop()
            assert set(statuses.values()) == {0}, statuses
        except BaseException as error:
            error.add_note(stack.said())
            raise
        finally:
            for child in stack.children.values():
                child.kill()
            await stack.stop()
