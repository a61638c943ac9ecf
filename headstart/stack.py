"""`headstart up`: everything on one machine, started in order, shown as it starts, stopped in order.

One process runs the gateway and all workers, which serves a laptop best: one embedding model, one connection to the
broker. `--processes` runs each stage as its own process instead, with the commands that compose.yaml runs. The broker,
Postgres and the demo skills are processes of their own either way. Whatever a HEADSTART_* variable says is elsewhere
is used from there and not started.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import shlex
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console

from gateway.server import Gateway
from memory.embedded import EmbeddedPostgres
from memory.opening import Parts, open_parts
from streams.child import Child, start_child
from streams.embedded import Broker, choose_broker, free_port
from streams.errors import PeerTimeout
from streams.models import load_models
from streams.process import READY, configure_logging, new_event_loop
from streams.settings import Settings
from workers.generation.model_cache import ensure_model
from workers.generation.worker import generation_worker
from workers.planning.worker import TurnsWorker
from workers.remembering.worker import MemoryWorker

START_TIMEOUT_S: Final = 240.0  # vLLM needs up to 40 s to load on two cores; four processes at once need more
STAGES: Final = ("turns", "generation", "memory")
TENANT, USER = "local", "you"
Say = Callable[[str], None]


class Stack:
    """A running installation. url: of the gateway. key: an API key for it. parts: open in this process, whichever
    processes the stages run in. started_s: how long the start took."""

    parts: Parts

    def __init__(self, settings: Settings, say: Say) -> None:
        self.settings, self._say = settings, say
        self.url = self.key = ""
        self.started_s = 0.0
        self.children: list[Child] = []

    @asynccontextmanager
    async def _step(self, what: str) -> AsyncIterator[None]:
        began = time.monotonic()
        self._say(f"  {what} …")
        yield
        self._say(f"  {what}: ready after {time.monotonic() - began:.1f} s")


@asynccontextmanager
async def running(settings: Settings, *, processes: bool = False, say: Say = lambda _: None) -> AsyncIterator[Stack]:
    """Starts everything, gives it, and stops everything, the newest first; also when the start fails half-way."""
    stack = Stack(settings, say)
    began = time.monotonic()
    async with AsyncExitStack() as opened:
        await _foundations(stack, opened)
        if processes:
            await _as_processes(stack, opened)
        else:
            await _in_process(stack, opened)
        await _demo_skills(stack, opened)
        stack.started_s = time.monotonic() - began
        yield stack


async def _foundations(stack: Stack, opened: AsyncExitStack) -> None:
    """Keys and secrets of this machine, the broker, Postgres, the model's files."""
    settings = stack.settings
    settings.data.mkdir(parents=True, exist_ok=True)
    if settings.signing_key is None:
        settings = settings.but(signing_key=_secret(settings.data / "signing-key"))
    if settings.kafka is None:
        choice = await asyncio.to_thread(choose_broker, settings.kafka_home, os.environ)
        stack._say(f"  {choice.sentence}")
        async with stack._step("broker"):
            broker: Broker = choice.create(settings.data)
            await opened.enter_async_context(broker)
        settings = settings.on_broker(
            broker.bootstrap, fetch_max_wait_ms=broker.fetch_max_wait_ms, idempotent=broker.idempotent
        )
    if settings.postgres is None:
        async with stack._step("Postgres"):
            postgres = await opened.enter_async_context(EmbeddedPostgres(settings.data / "postgres"))
        settings = settings.but(postgres=postgres.dsn)
    if "demo_port" not in settings.given:
        settings = settings.but(demo_port=free_port())  # so that two installations on one machine do not meet
    stack.settings = settings.but(allow_private_skill_hosts=True)
    if any(spec.engine == "vllm" and spec.model is None for spec in load_models(settings).values()):
        async with stack._step("model files"):
            await ensure_model(settings.cache)


async def _in_process(stack: Stack, opened: AsyncExitStack) -> None:
    async with stack._step("embeddings, database schema, topics"):
        parts = stack.parts = await opened.enter_async_context(open_parts(stack.settings, "headstart-up"))
    async with stack._step("memory worker"):
        memory = MemoryWorker(parts.bus, parts.store, parts.embedder)
        await memory.start()
        opened.push_async_callback(memory.stop)
    async with stack._step("generation worker (loads the model)"):
        await opened.enter_async_context(generation_worker(stack.settings, parts.bus))
    async with stack._step("turns worker"):
        turns = TurnsWorker(parts.bus, parts.store, parts.embedder, stack.settings)
        await turns.start()
        opened.push_async_callback(turns.stop)
    async with stack._step("gateway"):
        gateway = Gateway(stack.settings, parts.bus, parts.store)
        await gateway.start()
        opened.push_async_callback(gateway.stop)
    stack.url = f"http://{stack.settings.host}:{gateway.port}"
    stack.key = await _key(parts, stack.settings.data)


async def _as_processes(stack: Stack, opened: AsyncExitStack) -> None:
    environment = {**os.environ, **stack.settings.environment()}
    parts = stack.parts = await opened.enter_async_context(open_parts(stack.settings, "headstart-up"))
    stack.key = await _key(parts, stack.settings.data)
    python = sys.executable
    for stage in STAGES:
        child = start_child(
            f"{stage} worker", [python, "-m", "workers", stage], environment=environment,
            log_path=stack.settings.data / "logs" / f"{stage}.log",
        )  # fmt: skip
        stack.children.append(child)
        opened.push_async_callback(child.stop)
    gateway = start_child(
        "gateway", [python, "-m", "gateway"], environment=environment,
        log_path=stack.settings.data / "logs" / "gateway.log",
    )  # fmt: skip
    stack.children.append(gateway)
    opened.push_async_callback(gateway.stop)
    for child in stack.children:
        async with stack._step(child.name):
            await until_ready(child)
    stack.url = f"http://{stack.settings.host}:{stack.settings.port}"


async def until_ready(child: Child, timeout_s: float = START_TIMEOUT_S) -> None:
    """Waits until a stage's log says that it serves. Raises PeerUnavailable when it ended, PeerTimeout when it takes
    longer than `timeout_s`; both with the end of its log."""
    deadline = time.monotonic() + timeout_s
    while not any(line.endswith(f" {READY}") for line in child.log_tail().splitlines()):
        child.check()
        if time.monotonic() > deadline:
            raise PeerTimeout(f"{child.name} was not ready within {timeout_s:.0f} s", hint=child.log_tail() or None)
        await asyncio.sleep(0.1)


async def _demo_skills(stack: Stack, opened: AsyncExitStack) -> None:
    async with stack._step("demo skills"):
        child = start_child(
            "demo skills", [sys.executable, "-m", "headstart.demo_service"],
            environment={**os.environ, **stack.settings.environment()},
            log_path=stack.settings.data / "logs" / "demo-skills.log",
        )  # fmt: skip
        stack.children.append(child)
        opened.push_async_callback(child.stop)
        await until_ready(child)


async def _key(parts: Parts, data: Path) -> str:
    """The API key of this machine's own user: made once, kept in the data folder, readable by its owner only."""
    file = data / "key"
    if file.exists() and await parts.store.verify_key(key := file.read_text().strip()):
        return key
    key = await parts.store.create_key(TENANT, USER, "headstart up", (), int(time.time() * 1000))
    _write_secret(file, key)
    return key


def _write_environment(stack: Stack) -> Path:
    """A file that a shell can read (`. FILE`), so that the other commands find this installation."""
    given = {**stack.settings.environment(), "HEADSTART_URL": stack.url, "HEADSTART_KEY": stack.key}
    file = stack.settings.data / "env"
    _write_secret(file, "\n".join(f"export {name}={shlex.quote(value)}" for name, value in sorted(given.items())))
    return file


def _secret(file: Path) -> str:
    if not file.exists():
        _write_secret(file, secrets.token_hex(32))
    return file.read_text().strip()


def _write_secret(file: Path, text: str) -> None:
    with open(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as opened:
        opened.write(text + "\n")


def register(app: typer.Typer) -> None:
    app.command("up")(up)


def up(
    data: Annotated[Path | None, typer.Option(help="folder for Postgres, the log and keys; HEADSTART_DATA")] = None,
    port: Annotated[int | None, typer.Option(help="port of the gateway; HEADSTART_PORT")] = None,
    processes: Annotated[bool, typer.Option("--processes", help="each stage as its own process")] = False,
) -> None:
    """Starts broker, Postgres, gateway, workers and demo skills on this machine. Ctrl-C stops all of it."""
    settings = Settings.from_env(os.environ)
    if data is not None:
        settings = settings.but(data=data.resolve())
    if port is not None:
        settings = settings.but(port=port)
    configure_logging("warning" if "log_level" not in settings.given else settings.log_level)
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(_up(settings, processes, Console()))


async def _up(settings: Settings, processes: bool, console: Console) -> None:
    told = asyncio.Event()
    starting = asyncio.current_task()
    assert starting is not None

    def tell() -> None:
        if told.is_set():
            starting.cancel()
        told.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, tell)

    def say(line: str) -> None:
        console.print(line, highlight=False, soft_wrap=True)

    say("Headstart starts")
    async with running(settings, processes=processes, say=say) as stack:
        say(f"Ready after {stack.started_s:.1f} s")
        say(f"  chat page   {stack.url}/?key={stack.key}")
        say(f"  terminal    headstart chat --url {stack.url} --key {stack.key}")
        say(f"  elsewhere   . {_write_environment(stack)}   (then every headstart command finds it)")
        say(f"  data        {settings.data}   (Ctrl-C stops everything)")
        while not told.is_set():
            for child in stack.children:
                child.check()
            try:
                async with asyncio.timeout(1):
                    await told.wait()
            except TimeoutError:
                continue
        say("Headstart stops")


__all__ = ["Stack", "register", "running", "until_ready"]
