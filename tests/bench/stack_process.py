"""An installation in a process tree of its own: `python -m tests.bench.stack_process FILE KEYS one|separate`.

Writes where it is and KEYS API keys to FILE as JSON once everything serves, and runs until SIGTERM. The measuring
process stays free of embedding models and event loops that are not its own.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from pathlib import Path

import msgspec

from headstart.stack import running
from streams.process import configure_logging, new_event_loop
from streams.settings import Settings


class Whereabouts(msgspec.Struct, frozen=True):
    """url: of the gateway. environment: what makes another process use the same parts. processes: name by pid."""

    url: str
    keys: list[str]
    environment: dict[str, str]
    processes: dict[int, str]
    started_s: float


async def serve(file: Path, keys: int, processes: bool) -> None:
    told = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, told.set)
    async with running(Settings.from_env(os.environ), processes=processes) as stack:
        at_ms = int(time.time() * 1000)
        made = [
            await stack.parts.store.create_key("bench", f"user-{number}", "bench", (), at_ms) for number in range(keys)
        ]
        names = {child.pid: child.name for child in stack.children}
        own = "starter" if processes else "gateway and workers"
        found = Whereabouts(stack.url, made, stack.settings.environment(), {os.getpid(): own, **names}, stack.started_s)
        draft = file.with_suffix(".draft")
        draft.write_bytes(msgspec.json.encode(found))
        draft.rename(file)
        while not told.is_set():
            for child in stack.children:
                child.check()
            try:
                async with asyncio.timeout(1):
                    await told.wait()
            except TimeoutError:
                continue


if __name__ == "__main__":
    configure_logging("warning")
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(serve(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3] == "separate"))
