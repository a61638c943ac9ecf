"""`headstart suite add | run`: turns kept as a regression suite."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from headstart.live_replay import run_live
from headstart.replay import suite as suites
from headstart.replay.changing import Change
from headstart.replay.compare import compare
from headstart.replay.sources import open_source, selection
from headstart.replay.stub import replay_stub
from headstart.replay.suite import Case, Expected
from headstart.replay.turns import conversations
from headstart.replay_commands import Turns, setups_for
from streams.errors import InvalidInput, NotFound
from streams.settings import Settings

suite = typer.Typer(no_args_is_help=True, help="Turns kept as a regression suite.")


def register(app: typer.Typer) -> None:
    app.add_typer(suite, name="suite")


@suite.command()
def add(
    folder: Annotated[Path, typer.Argument(help="the suite's folder")],
    name: Annotated[str, typer.Argument(help="what the case is called")],
    source: Annotated[str, typer.Argument(help="a recording of the turns as they should be, or an id in the log")],
    turn: Turns = None,
    note: Annotated[str, typer.Option(help="why it is kept, for people")] = "",
    says: Annotated[list[str] | None, typer.Option(help="a live answer must say this; may be repeated")] = None,
    lacks: Annotated[list[str] | None, typer.Option(help="a live answer must not say this")] = None,
    calls: Annotated[list[str] | None, typer.Option(help="a live plan must call this skill")] = None,
) -> None:
    """Adds a case to a suite, or writes it anew."""
    recording = asyncio.run(open_source(source, selection(turns=turn), Settings.from_env(os.environ), "suite"))
    if recording.head.turns == 0:
        raise NotFound("there is no turn to keep")
    expected = Expected(note=note, says=tuple(says or ()), lacks=tuple(lacks or ()), calls=tuple(calls or ()))
    suites.add(folder, name, recording, expected)
    sys.stdout.write(f"{name}: {recording.head.turns} turns in {folder}\n")


@suite.command()
def run(
    folder: Annotated[Path, typer.Argument(help="the suite's folder")],
    mode: Annotated[str, typer.Option(help="stub: decides what it decided; live: a model says what it must")] = "stub",
    setup: Annotated[str, typer.Option(help="stub: here, the agents of this build; or recorded")] = "here",
    only: Annotated[str, typer.Option(help="only the case of this name")] = "",
) -> None:
    """Runs every case; exit status 1 when one is not as it should be."""
    settings = Settings.from_env(os.environ)
    if mode not in ("stub", "live"):
        raise InvalidInput(f"a suite has no mode {mode!r}", hint="stub or live")
    failed = total = 0
    for case in suites.cases(folder):
        if only and case.name != only:
            continue
        problems = asyncio.run(_stub(case, settings, setup) if mode == "stub" else _live(case, settings))
        total, failed = total + 1, failed + bool(problems)
        sys.stdout.write(f"{'FAILED' if problems else 'ok':<7} {case.name}  {case.expected.note}\n")
        sys.stdout.writelines(f"  {line}\n" for problem in problems for line in problem.splitlines())
    sys.stdout.write(f"{total - failed} of {total} cases are as they should be\n")
    if failed:
        sys.exit(1)


async def _stub(case: Case, settings: Settings, setup: str) -> list[str]:
    recording = case.recording
    replayed = await replay_stub(recording, setups_for(setup, recording, settings))
    logs = conversations(recording.events, recording.commands)
    return [one.text() for one in compare(logs, replayed, redacted=recording.head.redacted)]


async def _live(case: Case, settings: Settings) -> list[str]:
    result = await run_live(
        settings, case.recording, setups_for("here", case.recording, settings), Change(), "live", "record", 1, "max"
    )
    return suites.unmet(case, result)
