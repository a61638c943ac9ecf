"""`headstart shadow run | report`: a candidate on live turns, beside them, and what it does otherwise."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Annotated

import typer

from headstart.diff_commands import runs_of
from headstart.replay.changing import Change
from headstart.replay.diff import Diff, diff
from headstart.replay.diff_html import render_html
from headstart.replay.diff_text import render_text
from headstart.replay.live import LiveReplay
from headstart.replay.recorder import read_topic
from headstart.replay.recording import Head, Recording
from headstart.replay.shadow import Shadow
from headstart.replay.sources import moment_ms
from headstart.replay.steps import TurnSteps
from headstart.replay_commands import read_model, read_prompt
from memory.opening import open_bus
from streams.bus import Bus
from streams.errors import InvalidInput, NotFound
from streams.kafka_bus import KafkaBus
from streams.settings import Settings
from streams.topology import EVENTS
from workers.generation.models import load_models

SAY_EVERY_S = 10.0
shadow = typer.Typer(no_args_is_help=True, help="A candidate on live turns, into topics of its own.")


def register(app: typer.Typer) -> None:
    app.add_typer(shadow, name="shadow")


@shadow.command()
def run(
    name: Annotated[str, typer.Argument(help="of the candidate: its group is shadow-NAME, its namespace NAME")],
    prompt: Annotated[list[str] | None, typer.Option(help="ID=FILE, such as recruiter/answer=new.jinja")] = None,
    model: Annotated[list[str] | None, typer.Option(help="NAME for every step, or answer=NAME")] = None,
    at_once: Annotated[int, typer.Option(min=1, help="turns side by side")] = 1,
    niceness: Annotated[int, typer.Option("--nice", min=0, max=19, help="how far it stands back for CPU")] = 19,
) -> None:
    """Runs a candidate on every live turn that ends from now on, until Ctrl-C. Live turns never wait for it."""
    _checked(name)
    os.nice(niceness)
    change = Change(prompts=dict(map(read_prompt, prompt or [])), models=dict(map(read_model, model or [])))
    asyncio.run(_run(Settings.from_env(os.environ), name, change, at_once))


@shadow.command()
def report(
    name: Annotated[str, typer.Argument(help="of the candidate")],
    since: Annotated[str, typer.Option(help="turns from then on: 90s, 10m, 2h, 1d ago, or a date and time")] = "1h",
    html: Annotated[Path | None, typer.Option(help="write the comparison as a page, too")] = None,
) -> None:
    """Compares the live turns with what the candidate made of them; exit status 1 when something differs."""
    _checked(name)
    found = asyncio.run(_report(Settings.from_env(os.environ), name, moment_ms(since)))
    if html is not None:
        html.write_text(render_html(found))
    sys.stdout.write(render_text(found))
    if not found.same:
        sys.exit(1)


def _checked(name: str) -> None:
    if not name.replace("-", "").isalnum():
        raise InvalidInput("a candidate's name is made of letters, digits and -", code="invalid_namespace")


async def _run(settings: Settings, name: str, change: Change, at_once: int) -> None:
    async with AsyncExitStack() as stack:
        bus = await stack.enter_async_context(open_bus(settings, "headstart-shadow"))
        into = KafkaBus.from_settings(settings, namespace=name, client="headstart-shadow")
        await into.start()
        stack.push_async_callback(into.stop)
        models = await load_models(settings)
        stack.push_async_callback(models.close)
        await models.start()
        running = Shadow(
            bus, into, name,
            lambda setups, manifests: LiveReplay(models, setups, manifests, change=change, mode="live"),
            at_once=at_once,
        )  # fmt: skip
        task = asyncio.create_task(running.run())
        for end in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(end, task.cancel)
        saying = asyncio.create_task(_say(running))
        try:
            await task
        except asyncio.CancelledError:
            sys.stdout.write(f"{_told(running)}\n")
        finally:
            saying.cancel()


async def _say(running: Shadow) -> None:
    while True:
        await asyncio.sleep(SAY_EVERY_S)
        sys.stdout.write(f"{_told(running)}\n")
        sys.stdout.flush()


def _told(running: Shadow) -> str:
    return f"{running.done} run, {running.failed} failed, {running.skipped} left out, {running.lag} waiting"


async def _report(settings: Settings, name: str, since_ms: int) -> Diff:
    async with open_bus(settings, "headstart-shadow") as bus:
        into = KafkaBus.from_settings(settings, namespace=name, client="headstart-shadow")
        await into.start()
        try:
            return await compared(bus, into, name, since_ms)
        finally:
            await into.stop()


async def compared(bus: Bus, into: Bus, name: str, since_ms: int) -> Diff:
    """The live turns since then that the candidate ran, compared. Raises NotFound when it ran none."""
    shadowed = await _runs(into, since_ms)
    if not shadowed:
        raise NotFound(f"the candidate {name} ran no turn in this while", hint="`headstart shadow run` runs it")
    live = {turn: steps for turn, steps in (await _runs(bus, since_ms)).items() if turn in shadowed}
    return diff("live", live, name, {turn: steps for turn, steps in shadowed.items() if turn in live})


async def _runs(bus: Bus, since_ms: int) -> dict[str, TurnSteps]:
    records = await read_topic(bus, EVENTS.name, range(bus.partitions), since_ms)
    return runs_of(Recording(Head(), records))
