"""`python -m workers STAGE`: one stage of the journey as a process, until SIGTERM or Ctrl-C; then it drains.

A second signal ends it without waiting. Each stage is imported only when it is asked for, so that a turns worker loads
no model library.
"""

from __future__ import annotations

import asyncio
import importlib
import logging
import os
import signal
import sys
from collections.abc import Awaitable, Callable

from streams.errors import HeadstartError
from streams.settings import Settings

STAGES = {
    "turns": "workers.planning.owner",
    "generation": "workers.generation.worker",
    "memory": "workers.remembering.worker",
}


def main(arguments: list[str]) -> int:
    """Exit status: 0 after a drain, 1 for a failure, 2 for a wrong call."""
    if len(arguments) != 1 or arguments[0] not in STAGES:
        print(f"usage: python -m workers {'|'.join(STAGES)}", file=sys.stderr)
        return 2
    try:
        settings = Settings.from_env(os.environ)
        logging.basicConfig(
            level=settings.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s", force=True
        )
        asyncio.run(_until_signal(importlib.import_module(STAGES[arguments[0]]).run, settings))
    except HeadstartError as error:
        print(f"{arguments[0]}: {error.code}: {error}", file=sys.stderr)
        return 1
    return 0


async def _until_signal(run: Callable[[Settings], Awaitable[None]], settings: Settings) -> None:
    """Runs the stage; the first signal cancels it, which makes it drain, the second cancels the drain."""
    task = asyncio.ensure_future(run(settings))
    stopping = False

    def stop() -> None:
        nonlocal stopping
        stopping = True
        task.cancel()

    loop = asyncio.get_running_loop()
    for wanted in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(wanted, stop)
    try:
        await task
    except asyncio.CancelledError:
        if not stopping:
            raise


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
