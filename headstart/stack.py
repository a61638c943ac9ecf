"""One installation on one machine: what `headstart up` and `headstart demo` start and stop.

One process runs the gateway and all workers, which serves a laptop best: one embedding model, one connection to the
broker. With `processes` each stage runs as its own process instead, with the commands that compose.yaml runs. The
broker, Postgres and the demo skills are processes of their own either way. Whatever a HEADSTART_* variable says is
elsewhere is used from there and not started. Parts that do not need each other start side by side.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import secrets
import shlex
import sys
import time
import warnings
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Final, TypeVar

from gateway.server import Gateway
from headstart.replay.access import DEBUG_SCOPE
from memory.embedded import EmbeddedPostgres
from memory.keys import CHAT_SCOPE
from memory.opening import Parts, open_parts
from streams.child import Child, start_child
from streams.collector import keep_what_is_loaded
from streams.embedded import Broker, choose_broker, free_port
from streams.errors import HeadstartError, Misconfigured, OurError, PeerTimeout
from streams.file_limit import raise_file_limit
from streams.listening import listen
from streams.models import load_models
from streams.process import READY
from streams.settings import Settings
from workers.generation.model_cache import ModelUnavailableError, Progress, ensure_model
from workers.generation.worker import generation_worker
from workers.planning.worker import TurnsWorker
from workers.remembering.worker import MemoryWorker, reading_model

START_TIMEOUT_S: Final = 240.0  # vLLM needs up to 40 s to load on two cores; four processes at once need more
STOP_GRACE_S: Final = 30.0  # a stage drains for up to 20 seconds
LOOK_EVERY_S: Final = 0.5
STAGES: Final = ("turns", "generation", "memory")
TENANT, USER = "local", "you"
Say = Callable[[str], None]
T = TypeVar("T")

# vLLM spawns processes that import this module again, and writes about what it can do without before it sets its own
# log level. What it says on loading is for those who build it.
logging.getLogger("vllm").setLevel(logging.ERROR)
warnings.filterwarnings("ignore", category=FutureWarning, module="vllm")


class Stack:
    """A running installation. url: of the gateway. key: an API key for it. parts: open in this process, whichever
    processes the stages run in. started_s: how long the start took."""

    parts: Parts

    def __init__(self, settings: Settings, say: Say) -> None:
        self.settings, self.say = settings, say
        self.url = self.key = ""
        self.started_s = 0.0
        self.children: list[Child] = []
        self._checks: list[Callable[[], None]] = []
        self.waits: dict[str, Callable[[], Coroutine[Any, Any, None]]] = {}

    async def during(self, work: Coroutine[Any, Any, T]) -> T:
        """Does some work while everything runs. Raises a HeadstartError that names the part when one of them ends
        before the work does; the work is then cancelled."""
        working = asyncio.ensure_future(work)
        ends = {asyncio.ensure_future(wait()): name for name, wait in self.waits.items()}
        looking = asyncio.ensure_future(self._look())
        waits: list[asyncio.Future[Any]] = [working, looking, *ends]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            if not working.done():
                if looking.done():
                    await looking
                for ended, name in ends.items():
                    if ended.done():
                        raise _ended(name, ended.exception())
            return await working
        finally:
            for wait in waits:
                wait.cancel()
            await asyncio.gather(*waits, return_exceptions=True)

    async def _look(self) -> None:
        """Raises as soon as a process that should run has ended."""
        while True:
            for check in self._checks:
                check()
            await asyncio.sleep(LOOK_EVERY_S)

    def watch(self, check: Callable[[], None]) -> None:
        """From now on `during` calls this every half second; it raises when its part has ended."""
        self._checks.append(check)

    @contextmanager
    def step(self, what: str, hint: str = "") -> Iterator[None]:
        """Says that a part starts, and how long it took once it has."""
        began = time.monotonic()
        self.say(f"  {what}{f' ({hint})' if hint else ''} …")
        yield
        self.say(f"  {what}: ready after {time.monotonic() - began:.1f} s")

    @asynccontextmanager
    async def child(self, name: str, *command: str) -> AsyncIterator[None]:
        """`python -m COMMAND` as a process of this installation, entered when it is ready."""
        log_path = self.settings.data / "logs" / f"{name.replace(' ', '-')}.log"
        environment = {**os.environ, **self.settings.environment()}
        child = start_child(name, [sys.executable, "-m", *command], environment=environment, log_path=log_path)
        self.children.append(child)
        try:
            with self.step(name):
                await until_ready(child)
            self.watch(child.check)
            yield
        finally:
            await child.stop(STOP_GRACE_S)

    @asynccontextmanager
    async def worker(self, name: str, worker: MemoryWorker | TurnsWorker) -> AsyncIterator[None]:
        """A worker in this process."""
        try:
            with self.step(name):
                await worker.start()
            self.waits[name] = worker.failed
            yield
        finally:
            await worker.stop()

    @asynccontextmanager
    async def generation(self) -> AsyncIterator[None]:
        """The generation worker in this process."""
        name = "generation worker"
        own = any(spec.engine == "vllm" for spec in load_models(self.settings).values())
        async with AsyncExitStack() as opened:
            with self.step(name, "loads the model, 20 to 60 s on two cores" if own else ""):
                worker = await opened.enter_async_context(generation_worker(self.settings, self.parts.bus))
            self.waits[name] = worker.failed
            yield


def _ended(name: str, error: BaseException | None) -> HeadstartError:
    if isinstance(error, HeadstartError):
        return OurError(f"the {name} ended: {error.message}", code=error.code, hint=error.hint)
    if error is not None:
        logging.getLogger("headstart").error("the %s ended", name, exc_info=error)
    return OurError(f"the {name} ended{f': {error!r}' if error else ''}", code="part_ended")


@asynccontextmanager
async def running(settings: Settings, *, processes: bool = False, say: Say = lambda _: None) -> AsyncIterator[Stack]:
    """Starts everything, gives it, and stops everything, the newest first; also when the start fails half-way."""
    stack = Stack(settings, say)
    began = time.monotonic()
    raise_file_limit()
    if settings.port:
        listen(settings.host, settings.port).close()  # whoever has the port, it is better known now than in a minute
    async with AsyncExitStack() as opened:
        opened.enter_context(_alone_in(settings.data))
        await _foundations(stack, opened)
        await (_as_processes if processes else _in_process)(stack, opened)
        keep_what_is_loaded()
        stack.started_s = time.monotonic() - began
        yield stack


@contextmanager
def _alone_in(data: Path) -> Iterator[None]:
    """Holds the data folder. Raises Misconfigured when another installation runs in it."""
    data.mkdir(parents=True, exist_ok=True)
    with (data / "lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise Misconfigured(
                f"another installation runs in {data}", hint="stop it, or give this one a folder with --data"
            ) from None
        yield


async def _side_by_side(opened: AsyncExitStack, *contexts: AbstractAsyncContextManager[T]) -> list[T]:
    """Enters them at once; they are left one after the other, the last one first. When one fails, those that were
    entered are left with `opened`, the others are cancelled, and its error is raised."""
    tasks = [asyncio.ensure_future(_enter(context)) for context in contexts]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for context, task in zip(contexts, tasks, strict=True):
            if not task.cancelled() and task.exception() is None:
                opened.push_async_exit(context)
    failed = [task for task in tasks if not task.cancelled() and task.exception() is not None]
    return [task.result() for task in failed or tasks]


async def _enter(context: AbstractAsyncContextManager[T]) -> T:
    return await context.__aenter__()


async def _foundations(stack: Stack, opened: AsyncExitStack) -> None:
    """Keys and secrets of this machine, the broker, Postgres, the model's files."""
    settings = stack.settings
    if settings.signing_key is None:
        settings = settings.but(signing_key=_secret(settings.data / "signing-key"))
    if "demo_port" not in settings.given:
        settings = settings.but(demo_port=free_port())  # so that two installations on one machine do not meet
    stack.settings = settings.but(allow_private_skill_hosts=True)
    changes = await _side_by_side(opened, _broker(stack), _postgres(stack), _model_files(stack))
    for change in changes:
        stack.settings = change(stack.settings)


Change = Callable[[Settings], Settings]


@asynccontextmanager
async def _broker(stack: Stack) -> AsyncIterator[Change]:
    settings = stack.settings
    if settings.kafka is not None:
        yield lambda told: told
        return
    choice = await asyncio.to_thread(choose_broker, settings.kafka_home, os.environ)
    stack.say(f"  {choice.sentence}")
    broker: Broker = choice.create(settings.data)
    async with AsyncExitStack() as opened:
        with stack.step("broker"):
            await opened.enter_async_context(broker)
        stack.watch(broker.check)
        yield lambda told: told.on_broker(
            broker.bootstrap, fetch_max_wait_ms=broker.fetch_max_wait_ms, idempotent=broker.idempotent
        )


@asynccontextmanager
async def _postgres(stack: Stack) -> AsyncIterator[Change]:
    if stack.settings.postgres is not None:
        yield lambda told: told
        return
    postgres = EmbeddedPostgres(stack.settings.data / "postgres")
    async with AsyncExitStack() as opened:
        with stack.step("Postgres"):
            await opened.enter_async_context(postgres)
        stack.watch(postgres.check)
        yield lambda told: told.but(postgres=postgres.dsn)


@asynccontextmanager
async def _model_files(stack: Stack) -> AsyncIterator[Change]:
    """Converts the small model where it is wanted and was not converted yet."""

    def say(at: Progress) -> None:
        if at.fraction < 1:
            stack.say(f"  model files: {at.step} ({at.fraction:.0%} done)")

    if any(spec.engine == "vllm" and spec.model is None for spec in load_models(stack.settings).values()):
        with stack.step("model files"):
            try:
                await ensure_model(stack.settings.cache, say)
            except ModelUnavailableError as error:
                raise Misconfigured(str(error), hint="or set HEADSTART_MODEL_URL to a server") from error
    yield lambda told: told


async def _in_process(stack: Stack, opened: AsyncExitStack) -> None:
    # Not beside vLLM: both import torch, and two threads that do so at once find it half imported.
    with stack.step("embeddings, database schema, topics"):
        parts = stack.parts = await opened.enter_async_context(open_parts(stack.settings, "headstart-up"))
    await _side_by_side(
        opened,
        stack.child("demo skills", "headstart.demo_service"),
        stack.worker(
            "memory worker", MemoryWorker(parts.bus, parts.store, parts.embedder, model=reading_model(stack.settings))
        ),
        stack.generation(),
        stack.worker("turns worker", TurnsWorker(parts.bus, parts.store, parts.embedder, stack.settings)),
    )
    gateway = Gateway(stack.settings, parts.bus, parts.store)
    await gateway.start()
    opened.push_async_callback(gateway.stop)
    stack.waits["gateway"] = gateway.failed
    stack.url = f"http://{_reachable(stack.settings.host)}:{gateway.port}"
    stack.key = await _key(parts, stack.settings.data)


async def _as_processes(stack: Stack, opened: AsyncExitStack) -> None:
    stack.settings = stack.settings.but(port=stack.settings.port or free_port())
    with stack.step("database schema, topics"):
        parts = stack.parts = await opened.enter_async_context(open_parts(stack.settings, "headstart-up", embeds=False))
    stack.key = await _key(parts, stack.settings.data)
    await _side_by_side(
        opened,
        stack.child("demo skills", "headstart.demo_service"),
        *(stack.child(f"{stage} worker", "workers", stage) for stage in STAGES),
        stack.child("gateway", "gateway"),
    )
    stack.url = f"http://{_reachable(stack.settings.host)}:{stack.settings.port}"


def _reachable(host: str) -> str:
    """Where a client of this machine finds what listens on `host`."""
    return {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, host)  # noqa: S104


async def until_ready(child: Child, timeout_s: float = START_TIMEOUT_S) -> None:
    """Waits until a stage's log says that it serves. Raises PeerUnavailable when it ended, PeerTimeout when it takes
    longer than `timeout_s`; both with the end of its log."""
    deadline = time.monotonic() + timeout_s
    while not any(line.endswith(f" {READY}") for line in child.log_tail().splitlines()):
        child.check()
        if time.monotonic() > deadline:
            raise PeerTimeout(f"{child.name} was not ready within {timeout_s:.0f} s", hint=child.log_tail() or None)
        await asyncio.sleep(0.1)


async def _key(parts: Parts, data: Path) -> str:
    """The API key of this machine's own user: made once, kept in the data folder, readable by its owner only."""
    file = data / "key"
    if file.exists() and await parts.store.verify_key(key := file.read_text().strip()):
        return key
    key = await parts.store.create_key(TENANT, USER, "headstart up", (CHAT_SCOPE, DEBUG_SCOPE), int(time.time() * 1000))
    _write_secret(file, key)
    return key


def write_environment(stack: Stack) -> Path:
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
