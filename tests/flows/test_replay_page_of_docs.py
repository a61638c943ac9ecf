"""docs/replay.md is true: each of its commands is run, in its order, on a real broker and then on files alone."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import orjson

from headstart.replay.files import write_recording
from headstart.replay.recording import Recording
from headstart.replay.turns import turn_logs
from streams.bus import Bus
from streams.embedded import EmbeddedBroker
from streams.kafka_bus import KafkaBus
from streams.topology import by_name
from tests.support.buses import PARTITIONS
from tests.support.recordings import recorded_traffic
from tests.support.traffic_cases import BY_NAME, WHOLE

ROOT = Path(__file__).resolve().parent.parent.parent
PAGE = (ROOT / "docs" / "replay.md").read_text()
COMMANDS = [line.strip() for line in PAGE.splitlines() if line.startswith("    headstart ")]
PROMPT = """\
@system
Name everybody who was found, and say it in a friendly way.
@user
{{ question }}
{% for result in results %}
{{ result.skill }}: {{ result.result }}
{% endfor %}
"""
MODELS = """\
[models.default]
engine = "scripted"
model = "{rules}"
structured = false
"""


def test_every_command_of_the_page_is_run(tmp_path: Path) -> None:
    assert len(COMMANDS) >= 15
    recording = recorded_traffic(8, seed=11, cases=(BY_NAME["two_calls"], BY_NAME["chat"]))
    turn = next(log.turn for log in turn_logs(recording.events) if "two_calls" in log.accepted.question)
    user = next(log.accepted.user for log in turn_logs(recording.events) if log.turn == turn)
    environment = _prepared(tmp_path)
    said = asyncio.run(_walk(recording, turn, user, tmp_path, environment))
    assert turn in said["headstart find log --since 1d --user ada --text nurses"]
    assert "@system" in said["headstart turn"]
    assert "1 of 1 turns came out the same" in said["headstart replay complaint.jsonl.gz"]
    assert "tokens came out identical" in said["headstart replay complaint.jsonl.gz --mode pin"]
    assert "recruiter/answer@" in said["headstart diff complaint.jsonl.gz fixed.jsonl.gz --html fix.html"]
    assert "1 of 1 cases are as they should be" in said["headstart suite run suite --mode live"]
    audited = [orjson.loads(line) for line in (tmp_path / "data" / "audit.jsonl").read_bytes().splitlines()]
    assert [line["command"] for line in audited] == ["find", "turn", "timeline", "record", "tail", "record", "audit"]
    on_the_bus = said["headstart audit --since 1d"]
    assert all(command in on_the_bus for command in ("find", "turn", "timeline", "record", "tail", "audit"))
    assert turn in on_the_bus
    assert "turn.accepted" in said["headstart tail --namespace again --since 1h"]
    assert (tmp_path / "fix.html").read_text().startswith("<!doctype html>")


def _prepared(folder: Path) -> dict[str, str]:
    """A scripted model that answers better with the better prompt, the better prompt, and a build that has it."""
    rules = [
        {"step": "plan", "when": {"anywhere": "[case two_calls]"}, "say": WHOLE},
        {"step": "plan", "say": "[]"},
        {"step": "answer", "when": {"anywhere": "in a friendly way"}, "say": "I found Anna for you!"},
        {"say": "There are nurses."},
    ]
    (folder / "rules.json").write_bytes(orjson.dumps(rules))
    (folder / "models.toml").write_text(MODELS.format(rules=folder / "rules.json"))
    (folder / "answer.jinja").write_text(PROMPT)
    for name in ("streams", "memory", "workers", "gateway", "headstart"):
        shutil.copytree(ROOT / name, folder / "fixed" / name, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "fixed" / "workers" / "agents" / "recruiter" / "answer.jinja").write_text(PROMPT)
    return {
        "PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "HOME": str(folder), "COLUMNS": "200",
        "HEADSTART_MODELS": str(folder / "models.toml"), "HEADSTART_DATA": str(folder / "data"),
    }  # fmt: skip


async def _walk(
    recording: Recording, turn: str, user: str, folder: Path, environment: dict[str, str]
) -> dict[str, str]:  # fmt: skip
    """Runs the page's commands; gives what each printed."""
    said: dict[str, str] = {}
    async with EmbeddedBroker(folder) as broker:
        bus = KafkaBus(broker.bootstrap, partitions=PARTITIONS, replication=1, idempotent=False, fetch_max_wait_ms=5)
        await bus.start()
        try:
            await _publish(bus, recording)
        finally:
            await bus.stop()
        kafka = {
            "HEADSTART_KAFKA": broker.bootstrap, "HEADSTART_FETCH_MAX_WAIT_MS": "5", "HEADSTART_IDEMPOTENT": "false",
            "HEADSTART_PARTITIONS": str(PARTITIONS), "HEADSTART_REPLICATION": "1",
        }  # fmt: skip
        for line in COMMANDS:
            told = re.sub(r"turn_[0-9a-f]{36}", turn, line).replace("--user ada", f"--user {user}")
            variables = environment | (kafka if _reads_the_log(told) else {})
            if told.startswith("headstart suite"):
                variables |= {"PYTHONPATH": str(folder / "fixed")}
            done = await asyncio.to_thread(_run, told, folder, variables)
            differs = told.startswith("headstart diff")
            assert done.returncode == differs, f"{told}\n{done.stdout}{done.stderr}"
            said[line.replace(line[line.find("turn_") :], "").strip() if "turn_" in line else line] = done.stdout
    return said


def _reads_the_log(command: str) -> bool:
    """The command needs the broker; the others must do without."""
    reading = (
        "headstart find log",
        "headstart turn",
        "headstart timeline",
        "headstart record",
        "headstart tail",
        "headstart audit",
    )
    return "--into" in command or (
        command.startswith(reading) and "--from" not in command and "--source" not in command
    )


async def _publish(bus: Bus, recording: Recording) -> None:
    """The log as it would stand on the broker."""
    kept = []
    for record in recording.records:
        partition = 0 if by_name(record.topic).partitions == 1 else record.partition
        kept.append(await bus.post_raw(record.topic, partition, record.key, record.value, list(record.headers)))
    await asyncio.gather(*kept)


def _run(command: str, folder: Path, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-m", "headstart", *shlex.split(command)[1:]]
    return subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_a_suite_fails_where_the_fix_is_not(tmp_path: Path) -> None:
    """The build as it is has the old prompt: both ways of running the suite say so."""
    recording = recorded_traffic(2, seed=11, cases=(BY_NAME["two_calls"],))
    environment = _prepared(tmp_path)
    write_recording(recording, tmp_path / "day.jsonl.gz")
    change = "--prompt recruiter/answer=answer.jinja --out fixed.jsonl.gz"
    _said(f"headstart replay day.jsonl.gz --mode live {change}", tmp_path, environment, 0)
    _said(
        "headstart suite add suite all fixed.jsonl.gz --says Anna --lacks Otto --calls get_weather",
        tmp_path,
        environment,
        0,
    )
    stub = _said("headstart suite run suite", tmp_path, environment, 1)
    assert "model.asked" in stub
    assert "0 of 1 cases" in stub
    assert "does not say 'Anna'" in _said("headstart suite run suite --mode live", tmp_path, environment, 1)
    _said("headstart suite run suite --setup recorded", tmp_path, environment, 0)


def test_turns_are_found_by_what_is_wrong_with_them(tmp_path: Path) -> None:
    names = ("two_calls", "failing_skill", "deadline", "chat")
    cases = tuple(dataclasses.replace(BY_NAME[name], weight=1) for name in names)
    recording = recorded_traffic(32, seed=13, cases=cases)
    write_recording(recording, tmp_path / "day.jsonl.gz")
    environment = _prepared(tmp_path)
    turns = list(turn_logs(recording.events))

    def found(options: str, status: int = 0) -> set[str]:
        text = _said(f"headstart find day.jsonl.gz --json {options}", tmp_path, environment, status)
        return {orjson.loads(line)["turn"] for line in text.splitlines()}

    def asked(name: str) -> set[str]:
        return {log.turn for log in turns if f"[case {name}]" in log.accepted.question}

    assert found("--error skill_failed") == asked("failing_skill")
    assert found("--skill broken_search@1") == asked("failing_skill")
    assert found("--status deadline") == asked("deadline")
    assert found("--agent companion --text 'case chat'") == asked("chat")
    assert found("--prompt companion/answer") == asked("chat")
    assert found("--user nobody", 1) == set()
    assert found("--slow turn=1") == {log.turn for log in turns}
    assert found("--slow answer=99999", 1) == set()


def _said(command: str, folder: Path, environment: dict[str, str], status: int) -> str:
    done = _run(command, folder, environment)
    assert done.returncode == status, f"{command}\n{done.stdout}{done.stderr}"
    return done.stdout
