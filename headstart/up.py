"""`headstart up`: everything on one machine, shown as it starts, stopped in order by Ctrl-C."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import sys
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console

from headstart.stack import running, write_environment
from streams.child import end_all
from streams.errors import HeadstartError
from streams.process import configure_logging, new_event_loop
from streams.settings import Settings

SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)
STOP_AFTER_DEATH_S: Final = 20.0  # the others may need what has died in order to end well


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
        status = runner.run(_up(settings, processes, Console(highlight=False, soft_wrap=True)))
    if status:
        raise typer.Exit(status)


class _Told:
    """Ctrl-C: while it starts it ends the start, later the run; a second one ends everything at once."""

    def __init__(self, console: Console) -> None:
        self.stopping = False
        self._console = console
        self._main = asyncio.current_task()

    def tell(self) -> None:
        if self.stopping:
            _end_at_once(130)
        self.stopping = True
        self._console.print("Headstart stops (Ctrl-C again: at once)")
        assert self._main is not None
        self._main.cancel()


async def _up(settings: Settings, processes: bool, console: Console) -> int:
    """Gives the exit status. Raises HeadstartError when it can not start."""
    told = _Told(console)
    loop = asyncio.get_running_loop()
    for number in SIGNALS:
        loop.add_signal_handler(number, told.tell)
    ready = False
    console.print("Headstart starts")
    try:
        async with running(settings, processes=processes, say=console.print) as stack:
            ready = True
            console.print(f"Ready after {stack.started_s:.1f} s")
            console.print(f"  chat page   {stack.url}/?key={stack.key}")
            console.print(f"  terminal    headstart chat --url {stack.url} --key {stack.key}")
            console.print(f"  elsewhere   . {write_environment(stack)}   (then every headstart command finds it)")
            console.print(f"  data        {settings.data}   (Ctrl-C stops everything)")
            try:
                await stack.during(asyncio.Event().wait())
            except HeadstartError as error:
                sys.stderr.write(f"headstart: {error}\n")
                loop.call_later(STOP_AFTER_DEATH_S, _end_at_once, 1)
                return 1
    except asyncio.CancelledError:
        if not told.stopping:
            raise
    console.print("Headstart has stopped")
    if not ready:
        _end_at_once(0)  # all that runs has ended; a model that is still being loaded could only be waited for
    return 0


def _end_at_once(status: int) -> None:
    """Ends this process now, and every process that it or a library has started."""
    end_all(grace_s=0.0)
    for process in multiprocessing.active_children():
        process.kill()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
