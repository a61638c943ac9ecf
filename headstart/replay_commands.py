"""`headstart record` and `headstart replay`: turns taken from the log into a file, and run again."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from pathlib import Path
from typing import Annotated, Final

import msgspec
import orjson
import typer

from headstart.live_replay import publish_into, run_live
from headstart.replay.changing import Change
from headstart.replay.compare import Difference, compare
from headstart.replay.files import write_recording
from headstart.replay.pacing import pace_of, span_s
from headstart.replay.recording import Recording
from headstart.replay.redaction import redact
from headstart.replay.result import result_recording
from headstart.replay.sources import LOG, open_source, selection
from headstart.replay.stub import Setups, recorded_setups, replay_stub
from headstart.replay.turns import ConversationLog, conversations
from streams.errors import InvalidInput, NotFound
from streams.models import load_models
from streams.settings import Settings
from workers.agents.catalog import load_all
from workers.agents.folders import roots
from workers.planning.machine import Setup

Since = Annotated[str, typer.Option(help="turns from then on: 90s, 10m, 2h, 1d ago, or 2026-02-03T14:00")]
Until = Annotated[str, typer.Option(help="and before then")]
Conversations = Annotated[list[str] | None, typer.Option("--conversation", help="only this one; may be repeated")]
Turns = Annotated[list[str] | None, typer.Option("--turn", help="only this turn; may be repeated")]
TenantOption = Annotated[str, typer.Option(help="only of this tenant")]
UserOption = Annotated[str, typer.Option(help="only of this user")]
SHOWN: Final = 20  # differences that are printed whole
MODES: Final = ("stub", "pin", "live")


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
    recording = asyncio.run(open_source(source, chosen, settings, "record"))
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
    mode: Annotated[
        str, typer.Option(help="stub: recorded inputs, must come out the same; pin, live: a model")
    ] = "stub",
    since: Since = "",
    until: Until = "",
    conversation: Conversations = None,
    turn: Turns = None,
    prompt: Annotated[list[str] | None, typer.Option(help="live: ID=FILE, such as recruiter/answer=new.jinja")] = None,
    model: Annotated[list[str] | None, typer.Option(help="live: NAME for every step, or answer=NAME")] = None,
    skills: Annotated[
        str, typer.Option(help="pin, live: record, or live to ask `pure` skills not recorded")
    ] = "record",
    at_once: Annotated[int, typer.Option(min=1, help="pin, live: turns side by side")] = 1,
    setup: Annotated[str, typer.Option(help="recorded, or here: agents and models of this build")] = "recorded",
    speed: Annotated[str, typer.Option(help="max, recorded, or a factor such as 10")] = "max",
    out: Annotated[Path | None, typer.Option(help="write what came of it as a recording, for `headstart diff`")] = None,
    into: Annotated[str, typer.Option(help="publish it on topics of this namespace, such as shadow, too")] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="say what would run, and run nothing")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="stub: one JSON object per difference")] = False,
) -> None:
    """Runs turns again. stub: on their recorded inputs, and exit status 1 unless the same came of them. pin: with the
    model, nothing changed. live: with the model, and another prompt or model. Never on production's topics."""
    settings = Settings.from_env(os.environ)
    chosen = selection(since=since, until=until, conversations=conversation, turns=turn)
    if mode not in MODES:
        raise InvalidInput(f"there is no mode {mode!r}", hint=f"one of {', '.join(MODES)}")
    if mode != "live" and (prompt or model):
        raise InvalidInput("only mode live changes a prompt or a model", hint="add --mode live")
    change = Change(prompts=dict(read_prompt(text) for text in prompt or []), models=dict(map(read_model, model or [])))
    recording = asyncio.run(open_source(source, chosen, settings, "replay"))
    logs = {name: log for name, log in conversations(recording.events, recording.commands).items() if log.turns}
    if not logs:
        raise NotFound("there is no turn to replay")
    if dry_run:
        sys.stdout.write(describe(recording, logs, mode, change))
        return
    setups = setups_for(setup, recording, settings)
    if mode == "stub":
        result, differs = asyncio.run(_stub(recording, logs, setups, speed, as_json))
    else:
        result = asyncio.run(run_live(settings, recording, setups, change, mode, skills, at_once, speed))
        differs = False
    if out is not None:
        _ = write_recording(result, out)
    if into:
        asyncio.run(publish_into(settings, into, result))
    if differs:
        sys.exit(1)


async def _stub(
    recording: Recording, logs: dict[str, ConversationLog], setups: Setups, speed: str, as_json: bool
) -> tuple[Recording, bool]:
    began = time.perf_counter()
    replayed = await replay_stub(recording, setups, pace_of(speed, recording))
    took_s = time.perf_counter() - began
    differences = compare(logs, replayed, redacted=recording.head.redacted)
    show(differences, sum(len(log.turns) for log in logs.values()), span_s(recording), took_s, as_json)
    return result_recording(recording, replayed, {"mode": "stub"}, time.time_ns() // 1_000_000), bool(differences)


def read_prompt(text: str) -> tuple[str, str]:
    """ID=FILE as a prompt's id and its text. Raises InvalidInput."""
    name, _, file = text.partition("=")
    try:
        return name, Path(file).read_text()
    except OSError as error:
        raise InvalidInput(f"{file!r} can not be read: {error.strerror}", hint="--prompt ID=FILE") from error


def read_model(text: str) -> tuple[str, str]:
    """STEP=NAME, or NAME for every step."""
    step, equals, name = text.partition("=")
    return (step, name) if equals else ("", text)


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


def describe(recording: Recording, logs: dict[str, ConversationLog], mode: str, change: Change) -> str:
    """What a replay would run."""
    told = "".join(f", {name} {value}" for name, value in change.words().items())
    lines = [f"mode {mode}{told}"]
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


def setups_for(kind: str, recording: Recording, settings: Settings) -> Setups:
    """recorded: as the turns were set up. here: with the agents of this build, and the models as recorded; those of
    this installation where they were not."""
    if kind not in ("recorded", "here"):
        raise InvalidInput(f"{kind!r} is no setup", hint="recorded, or here for the agents of this build")
    if kind == "recorded":
        return recorded_setups(recording)
    agents, models = load_all(roots(settings)), load_models(settings)
    built = Setup(agents=agents, models=models, router_model="router" if "router" in models else "")
    recorded = recorded_setups(recording, built)
    return lambda name: msgspec.structs.replace(recorded(name), agents=agents)
