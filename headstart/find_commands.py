"""`headstart find` and `headstart timeline`: turns that fit a description, and one turn on its time axis."""

from __future__ import annotations

import asyncio
import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import orjson
import typer

from gateway import axis_drawing
from gateway.axis import Axis, axis_of
from gateway.deliveries import acknowledgements
from headstart.replay.finding import Wanted, slow
from headstart.replay.finding import find as matching
from headstart.replay.sources import LOG, is_log, open_source, selection, turn_id
from headstart.replay.steps import TurnSteps
from headstart.replay.turns import TurnLog, turn_logs
from headstart.replay_commands import Since, Until
from memory.opening import open_bus
from streams.errors import NotFound
from streams.settings import Settings


def register(app: typer.Typer) -> None:
    app.command("find")(find)
    app.command("timeline")(timeline)


def timeline(
    turn: Annotated[str, typer.Argument(help="a turn id (turn_…) or a response id (resp_…)")],
    source: Annotated[str, typer.Option("--from", help="a recording or an archive instead of the log")] = "",
    svg: Annotated[Path | None, typer.Option(help="write a picture")] = None,
    perfetto: Annotated[Path | None, typer.Option(help="write a trace for ui.perfetto.dev")] = None,
) -> None:
    """A turn on one time axis: route, recall, models, each call from opening to answer, what ran beside what."""
    axis = asyncio.run(_axis(Settings.from_env(os.environ), turn_id(turn), source))
    sys.stdout.write(axis_drawing.text(axis))
    if svg is not None:
        svg.write_text(axis_drawing.svg(axis))
    if perfetto is not None:
        perfetto.write_text(axis_drawing.perfetto(axis))


async def _axis(settings: Settings, name: str, source: str) -> Axis:
    """The turn's axis; with what clients acknowledged, which stands beside the log, where it is read from there."""
    recording = await open_source(source or name, selection(turns=[name]), settings, "timeline")
    found = next((log for log in turn_logs(recording.events) if log.turn == name), None)
    if found is None:
        raise NotFound(f"{name} is not there", hint="it may be older than the log's retention")
    if source and not is_log(source):
        return axis_of(found.facts)
    async with open_bus(settings, "headstart-timeline") as bus:
        return axis_of(found.facts, await acknowledgements(bus, found.accepted))


def find(
    source: Annotated[str, typer.Argument(help="`log`, a recording, or a conversation's id")] = LOG,
    since: Since = "",
    until: Until = "",
    user: Annotated[str, typer.Option(help="whose turn")] = "",
    tenant: Annotated[str, typer.Option(help="of this tenant")] = "",
    skill: Annotated[str, typer.Option(help="it was called: name, or name@version")] = "",
    error: Annotated[str, typer.Option(help="a code with which the turn or a call failed")] = "",
    text: Annotated[str, typer.Option(help="stands in the question, the answer, an argument or a result")] = "",
    prompt: Annotated[str, typer.Option(help="it was rendered: id, or id@version")] = "",
    agent: Annotated[str, typer.Option(help="the agent that took it")] = "",
    status: Annotated[str, typer.Option(help="how it ended: completed, failed, deadline, …")] = "",
    slow_step: Annotated[str, typer.Option("--slow", help="STEP=MS: route, plan, answer, a skill, or turn")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="one JSON object a turn")] = False,
) -> None:
    """Finds turns, oldest first; exit status 1 when there are none. In the log the last day, unless --since says."""
    if source == LOG and not since:
        since = "1d"
    chosen = selection(since=since, until=until, tenant=tenant, user=user)
    wanted = Wanted(
        user=user, tenant=tenant, skill=skill, error=error, text=text, prompt=prompt, agent=agent, status=status,
        slow=slow(slow_step) if slow_step else None,
    )  # fmt: skip
    recording = asyncio.run(open_source(source, chosen, Settings.from_env(os.environ), "find"))
    found = 0
    for turn, steps in matching(turn_logs(recording.events), wanted):
        found += 1
        sys.stdout.write((as_json_line if as_json else as_line)(turn, steps) + "\n")
    if not found:
        sys.stderr.write("no turn fits\n")
        sys.exit(1)


def as_line(turn: TurnLog, steps: TurnSteps) -> str:
    """A turn in a line: when, which, how it ended, who took it, what was asked."""
    at = datetime.fromtimestamp(turn.accepted.at_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")
    end = f"{steps.status} {steps.reason}".strip()
    question = " ".join(steps.question.split())[:80]
    return f"{at}  {turn.turn}  {end:<20} {steps.agent or '–':<12} {steps.took_ms:>8,.0f} ms  {question}"


def as_json_line(turn: TurnLog, steps: TurnSteps) -> str:
    return orjson.dumps(
        {
            "turn": turn.turn, "conversation": steps.conversation, "at_ms": turn.accepted.at_ms, "status": steps.status,
            "reason": steps.reason, "agent": steps.agent, "took_ms": steps.took_ms, "tokens": steps.tokens,
            "skills": [call.skill for call in steps.calls], "question": steps.question,
        }
    ).decode()  # fmt: skip
