"""`headstart demo`: the main job once, on real parts, shown as it happens.

Starts everything, asks a question that needs two skills, prints the answer as it streams and the turn's timeline; then
asks, in a new conversation, what only memory can know, and shows the remembered text in that turn's rendered prompt.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console

from headstart.client import Client
from headstart.client_readers import Frame
from headstart.client_streams import Turn
from headstart.stack import Stack, running
from headstart.timeline import render
from headstart.turn_facts import facts_of, of_type, until_remembered
from memory.opening import Parts
from streams import ids
from streams.errors import OurError
from streams.events.generating import ModelAsked
from streams.events.recalling import Recalled
from streams.process import configure_logging, new_event_loop
from streams.settings import Settings

FIRST: Final = "Find data engineers in Berlin and tell me the weather there."
SECOND: Final = "Which city did I ask about before?"
SHOWN: Final = frozenset({"headstart.route.decided", "headstart.tool.fired", "headstart.tool.answered"})


def register(app: typer.Typer) -> None:
    app.command("demo")(demo)


def demo(
    data: Annotated[Path | None, typer.Option(help="folder to keep; without it a temporary one is used")] = None,
    processes: Annotated[bool, typer.Option("--processes", help="each stage as its own process")] = False,
) -> None:
    """Starts everything, asks two questions, shows the answers, the timeline and what was remembered."""
    configure_logging("warning")
    with tempfile.TemporaryDirectory(prefix="headstart-demo-") as folder:
        settings = Settings.from_env(os.environ).but(data=(data or Path(folder)).resolve())
        if "port" not in settings.given:
            settings = settings.but(port=0)
        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            runner.run(_demo(settings, processes, Console(highlight=False, soft_wrap=True)))


async def _demo(settings: Settings, processes: bool, console: Console) -> None:
    console.print("[bold]Headstart starts[/bold]")
    async with running(settings, processes=processes, say=console.print) as stack:
        console.print(f"Ready after {stack.started_s:.1f} s\n")
        first_s, second_s = await stack.during(_two_turns(stack, console))
        console.print(f"\nStart {stack.started_s:.1f} s, first turn {first_s:.1f} s, second turn {second_s:.1f} s")


async def _two_turns(stack: Stack, console: Console) -> tuple[float, float]:
    """Both questions, with what memory gave to the second; gives how long each turn took, in seconds."""
    async with Client(stack.url, key=stack.key) as client:
        first, first_s = await _ask(client, FIRST, console)
        await until_remembered(stack.parts.store, first)
        second, second_s = await _ask(client, SECOND, console)
        await _show_memory(stack.parts, second, console)
    return first_s, second_s


async def _ask(client: Client, question: str, console: Console) -> tuple[str, float]:
    """Asks, prints what happens as it happens and the timeline; gives the turn's id and how long it took. Raises
    OurError when the turn did not complete."""
    began = time.monotonic()
    console.print(f"[bold]> {question}[/bold]")
    turn: Turn = await client.submit(question)
    frames: list[Frame] = []
    async for frame in turn:
        frames.append(frame)
        kind = frame["type"]
        if kind == "response.output_text.delta":
            console.print(frame["delta"], end="", markup=False, soft_wrap=True)
        elif kind in SHOWN:
            console.print(f"  [dim]{kind.removeprefix('headstart.')} {_brief(frame)}[/dim]", soft_wrap=True)
    took_s = time.monotonic() - began
    console.print("\n")
    console.print(render(frames), markup=False, soft_wrap=True)
    last = frames[-1]
    if last["type"] != "response.completed":
        raise OurError(f"the turn ended with {last['type']}", code="demo_failed")
    return ids.turn_of(last["response"]["id"]), took_s


def _brief(frame: Frame) -> str:
    names = ("agent", "by", "skill", "arguments_so_far", "fired_at_token", "took_ms")
    known = {name: frame[name] for name in names if name in frame}
    return " ".join(f"{key}={value}" for key, value in known.items())


async def _show_memory(parts: Parts, turn: str, console: Console) -> None:
    """What the second turn's prompt held of the first, read back from the log."""
    row = await until_remembered(parts.store, turn)
    facts = await facts_of(parts.bus, turn, row.offset)
    recalled = of_type(facts, Recalled)[-1]
    asked = [fact for fact in of_type(facts, ModelAsked) if fact.step == "answer"][-1]
    prompt = "\n".join(f"@{message.role}\n{message.content}" for message in asked.messages)
    remembered = [item.text for item in recalled.items if item.text in prompt]
    console.print("[bold]The second turn's rendered prompt[/bold], as the log has it:")
    for line in prompt.splitlines():
        mark = "→" if any(text in line for text in remembered) else " "
        console.print(f" {mark} {line}", markup=False, soft_wrap=True)
    if not remembered:
        raise OurError("nothing of the first turn was remembered", code="demo_failed")
