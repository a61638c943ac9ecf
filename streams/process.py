"""A stage as a process: settings from the environment, log lines on stderr, an orderly end on SIGTERM and Ctrl-C."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, NamedTuple

from streams.collector import keep_what_is_loaded
from streams.errors import HeadstartError, Misconfigured
from streams.file_limit import raise_file_limit
from streams.settings import Settings

READY = "is ready"  # how a log line ends once a process serves, and no other line; whoever started it waits for it


class Running(NamedTuple):
    """What a part gives while it runs. failed: returns or raises when the part can not go on; None: it never says."""

    name: str
    failed: Callable[[], Awaitable[None]] | None = None


Part = Callable[[Settings], AbstractAsyncContextManager[Running]]


def run_process(part: Part) -> int:
    """Runs a part until it is told to end and gives the exit status: 0 after SIGTERM or SIGINT, 2 when a setting is
    wrong, 1 when a peer it needs can not be reached. What it has to say goes to stderr."""
    try:
        settings = Settings.from_env(os.environ)
    except Misconfigured as error:
        sys.stderr.write(f"{error}\n")
        return 2
    configure_logging(settings.log_level)
    raise_file_limit()
    try:
        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            runner.run(_until_told(part, settings))
    except Misconfigured as error:
        sys.stderr.write(f"{error}\n")
        return 2
    except HeadstartError as error:
        sys.stderr.write(f"{error.code}: {error}\n")
        return 1
    return 0


def new_event_loop() -> asyncio.AbstractEventLoop:
    """uvloop where it is installed (Linux, macOS), else asyncio's own."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


def configure_logging(level: str) -> None:
    """One line per record on stderr: time, level, logger, message. Ids may stand in it, user text never does."""
    logging.basicConfig(
        level=level.upper(), stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s %(message)s", force=True
    )  # fmt: skip
    for noisy in ("aiokafka", "httpcore", "httpx", "httpx2", "asyncio"):
        logging.getLogger(noisy).setLevel(max(logging.WARNING, logging.getLogger().level))


async def _until_told(part: Part, settings: Settings) -> None:
    told = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told.set)
    log = logging.getLogger("headstart")
    async with part(settings) as running:
        keep_what_is_loaded()
        log.info("%s %s", running.name, READY)
        waits: list[asyncio.Future[Any]] = [asyncio.ensure_future(told.wait())]
        if running.failed is not None:
            waits.append(asyncio.ensure_future(running.failed()))
        done, pending = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for wait in pending:
            wait.cancel()
        log.info("%s ends", running.name)
        for wait in done:
            wait.result()
