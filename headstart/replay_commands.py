"""`headstart record` and `headstart replay`: turns taken from the log into a file, and run again."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Annotated, Any, Final

import orjson
import typer

from headstart.replay.compare import Difference, compare
from headstart.replay.files import write_recording
from headstart.replay.recorder import Selection
from headstart.replay.recording import Recording
from headstart.replay.redaction import redact
from headstart.replay.result import result_recording
from headstart.replay.sources import LOG, open_source, selection
from headstart.replay.stub import Pace, recorded_setups, replay_stub
from headstart.replay.turns import ConversationLog, conversations
from streams.errors import InvalidInput, NotFound
from streams.models import ModelSpec, load_models
from streams.settings import Settings
from workers.agents.catalog import load_all
from workers.planning.machine import Setup

Since = Annotated[str, typer.Option(help="turns from then on: 90s, 10m, 2h, 1d ago, or 2026-02-03T14:00")]
Until = Annotated[str, typer.Option(help="and before then")]
Conversations = Annotated[list[str] | None, typer.Option("--conversation", help="only this one; may be repeated")]
Turns = Annotated[list[str] | None, typer.Option("--turn", help="only this turn; may be repeated")]
TenantOption = Annotated[str, typer.Option(help="only of this tenant")]
UserOption = Annotated[str, typer.Option(help="only of this user")]
SHOWN: Final = 20  # differences that are printed whole


def register(app: typer.Typer) -> None:
    app.command("record")(record)
    app.command("replay")(replay)


def record(
    file: Annotated[Path, typer.Argument(help="the recording to write; compressed when its name ends in .gz")],
    source: Annotated[str, typer.Option(help="the log, or a recording to be cut")] = LOG,
    since: Since = "",
    until: Until = "",
    conversation: Conversations = None,
    turn: Turns = None,
    tenant: TenantOption = "",
    user: UserOption = "",
    masked: Annotated[bool, typer.Option("--redact", help="mask personal data, so that it can be passed on")] = False,
    mask: Annotated[
        list[str] | None, typer.Option(help="with --redact: a word to be masked too, such as a name")
    ] = None,
) -> None:
    """Takes turns from the log into one file, with every prompt, manifest and schema that they name."""
    chosen = selection(
        since=since, until=until, conversations=conversation, turns=turn, tenant=tenant, user=user
    )  # fmt: skip
    settings = Settings.from_env(os.environ)
    recording = asyncio.run(open_source(source, chosen, settings))
    if recording.head.turns == 0 and not any(True for _ in recording.events):
        raise NotFound("no turn is in this span", hint="widen --since, or see `headstart tail --since 1d`")
    if masked or mask:
        recording = redact(recording, mask or ())
    size_bytes = write_recording(recording, file)
    sys.stdout.write(
        f"{recording.head.turns} turns, {len(recording.records):,} records, {size_bytes:,} bytes: {file}\n"
    )
    if recording.head.missing:
        sys.stderr.write(f"no longer on their topics: {', '.join(recording.head.missing)}\n")


def replay(
    source: Annotated[str, typer.Argument(help="a recording, `log`, or the id of a conversation or a turn")],
    since: Since = "",
    until: Until = "",
    conversation: Conversations = None,
    turn: Turns = None,
    setup: Annotated[
        str, typer.Option(help="recorded, or here: the agents and models of this installation")
    ] = "recorded",
    speed: Annotated[str, typer.Option(help="max, recorded, or a factor such as 10")] = "max",
    out: Annotated[Path | None, typer.Option(help="write what came of it as a recording, for `headstart diff`")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="say what would run, and run nothing")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="one JSON object per difference")] = False,
) -> None:
    """Runs turns again on their recorded inputs and says whether the same came of them; exit status 1 when not."""
    settings = Settings.from_env(os.environ)
    chosen = selection(since=since, until=until, conversations=conversation, turns=turn)
    differs = asyncio.run(_replay(settings, source, chosen, setup, speed, out, dry_run, as_json))
    if differs:
        sys.exit(1)


async def _replay(
    settings: Settings, source: str, chosen: Selection, setup: str, speed: str, out: Path | None, dry_run: bool,
    as_json: bool,
) -> bool:  # fmt: skip
    recording = await open_source(source, chosen, settings)
    logs = {name: log for name, log in conversations(recording.events, recording.commands).items() if log.turns}
    if not logs:
        raise NotFound("there is no turn to replay")
    if dry_run:
        sys.stdout.write(describe(recording, logs))
        return False
    setups = recorded_setups(recording, here(settings) if setup == "here" else None)
    began = time.perf_counter()
    replayed = await replay_stub(recording, setups, pace_of(speed, recording))
    took_s = time.perf_counter() - began
    differences = compare(logs, replayed, redacted=recording.head.redacted)
    if out is not None:
        _ = write_recording(result_recording(recording, replayed, {"mode": "stub"}, time.time_ns() // 1_000_000), out)
    show(differences, sum(len(log.turns) for log in logs.values()), span_s(recording), took_s, as_json)
    return bool(differences)


def show(differences: list[Difference], turns: int, recorded_s: float, took_s: float, as_json: bool) -> None:
    """What came of a stub replay."""
    if as_json:
        for one in differences:
            sys.stdout.write(orjson.dumps({name: getattr(one, name) for name in one.__struct_fields__}).decode() + "\n")
        return
    for one in differences[:SHOWN]:
        sys.stdout.write(f"{one.text()}\n")
    if len(differences) > SHOWN:
        sys.stdout.write(f"… and {len(differences) - SHOWN} more\n")
    same = turns - len({one.turn for one in differences})
    speed = f"{recorded_s / took_s:,.0f} times the recorded speed" if took_s > 0 else "at once"
    sys.stdout.write(f"{same} of {turns} turns came out the same; {recorded_s:,.1f} s in {took_s:.2f} s, {speed}\n")


def describe(recording: Recording, logs: dict[str, ConversationLog]) -> str:
    """What a replay would run."""
    lines = []
    for name, log in logs.items():
        owners = [f"{segment.writer} with setup {segment.setup or '?'}" for segment in log.segments]
        lines.append(f"{name}: {len(log.turns)} turns, owned by {', then '.join(owners)}")
        for turn in log.turns.values():
            inputs = sum(entry.count for fact in turn.facts for entry in fact.taken)
            end = turn.end.TYPE.split(".")[2] if turn.end is not None else "running"
            lines.append(f"  {turn.turn}  {len(turn.facts)} facts, {inputs} inputs, {end}")
    missing = f"; missing: {', '.join(recording.head.missing)}" if recording.head.missing else ""
    lines.append(f"nothing was run, nothing was written{missing}")
    return "\n".join(lines) + "\n"


def here(settings: Settings) -> Setup:
    """The agents of this build and the models of this installation."""
    models: dict[str, ModelSpec] = load_models(settings)
    return Setup(agents=load_all(), models=models, router_model="router" if "router" in models else "")


def span_s(recording: Recording) -> float:
    """How long the recorded turns took, from the first fact to the last."""
    times = [record.timestamp_ms for record in recording.events]
    return (max(times) - min(times)) / 1000 if times else 0.0


def pace_of(speed: str, recording: Recording) -> Pace | None:
    """How a replay waits. Raises InvalidInput for what is no speed."""
    if speed == "max":
        return None
    try:
        factor = 1.0 if speed == "recorded" else float(speed.removesuffix("x").removeprefix("×"))
    except ValueError:
        factor = 0.0
    if factor <= 0:
        raise InvalidInput(f"{speed!r} is no speed", hint="max, recorded, or a factor such as 10")
    first_ms = min((record.timestamp_ms for record in recording.events), default=0)
    return paced(first_ms, factor, asyncio.sleep, time.monotonic)


def paced(
    first_ms: float, factor: float, sleep: Callable[[float], Coroutine[Any, Any, None]], now_s: Callable[[], float]
) -> Pace:
    """Waits until a moment of the recording is due, `factor` times as fast as it was."""
    began_s = now_s()

    async def until(at_ms: float) -> None:
        due_s = began_s + (at_ms - first_ms) / 1000 / factor
        if (left_s := due_s - now_s()) > 0:
            await sleep(left_s)

    return until
