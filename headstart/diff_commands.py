"""`headstart diff`: two runs of the same turns, compared step by step."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from headstart.replay.diff import Diff, diff
from headstart.replay.diff_html import render_html
from headstart.replay.diff_text import render_text
from headstart.replay.recorder import Selection
from headstart.replay.recording import Recording
from headstart.replay.sources import open_source, selection
from headstart.replay.steps import TurnSteps, steps_of
from headstart.replay.turns import turn_logs
from streams.settings import Settings


def register(app: typer.Typer) -> None:
    app.command("diff")(compare_runs)


def compare_runs(
    a: Annotated[str, typer.Argument(help="a recording, `log`, or the id of a conversation or a turn")],
    b: Annotated[str, typer.Argument(help="the other run, such as `headstart replay --out` wrote it")],
    html: Annotated[Path | None, typer.Option(help="write the comparison as a page, too")] = None,
    turn: Annotated[list[str] | None, typer.Option("--turn", help="only this turn; may be repeated")] = None,
    figures: Annotated[bool, typer.Option(help="show times, tokens and cost")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="the whole comparison as one JSON object")] = False,
) -> None:
    """Compares two runs: route, plan, arguments, results used, answer, times, tokens, cost. Exit status 1 when
    something else than times differs."""
    found = asyncio.run(_diff(Settings.from_env(os.environ), a, b, selection(turns=turn)))
    if html is not None:
        html.write_text(render_html(found))
    sys.stdout.write(msgspec.json.encode(found).decode() + "\n" if as_json else render_text(found, figures=figures))
    if not found.same:
        sys.exit(1)


async def _diff(settings: Settings, a: str, b: str, chosen: Selection) -> Diff:
    before = await open_source(a, chosen, settings, "diff")
    after = await open_source(b, chosen, settings, "diff")
    return diff_of(a, before, b, after)


def diff_of(a: str, before: Recording, b: str, after: Recording) -> Diff:
    """Two recordings compared."""
    return diff(name_of(a, before), runs_of(before), name_of(b, after), runs_of(after))


def runs_of(recording: Recording) -> dict[str, TurnSteps]:
    return {turn.turn: steps_of(turn) for turn in turn_logs(recording.events)}


def name_of(source: str, recording: Recording) -> str:
    """What a run is called: its file, and what was changed in it."""
    changed = ", ".join(f"{name} {value}" for name, value in sorted(recording.head.shadow.items()))
    return f"{Path(source).name}{f' ({changed})' if changed else ''}"
