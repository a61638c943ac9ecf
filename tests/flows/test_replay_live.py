"""Turns run again with a model: nothing changed, another prompt, another model; what differs is shown, and nothing
has an effect. The model is scripted, so that what differs is known."""

from __future__ import annotations

import asyncio
import os
import re
from pathlib import Path
from typing import Any

import pytest

from headstart.diff_commands import diff_of
from headstart.live_replay import run_with
from headstart.replay.changing import Change
from headstart.replay.diff import Diff
from headstart.replay.diff_html import render_html
from headstart.replay.diff_text import render_text
from headstart.replay.recorder import Selection, choose
from headstart.replay.recording import Recording
from headstart.replay.steps import TurnSteps, steps_of
from headstart.replay.stub import recorded_setups
from headstart.replay.turns import turn_logs
from streams.codec import decode
from streams.errors import NotFound
from streams.events.calling import CallFailed, CallFired
from streams.events.turn import TurnAccepted
from streams.models import ModelSpec
from tests.support.recordings import recorded_traffic
from tests.support.traffic import PacedSkills
from tests.support.traffic_cases import BY_NAME, MESSAGE, PEOPLE, WEATHER, plan, script
from workers.generation.engine import EngineRequest
from workers.generation.models import Models
from workers.generation.scripted_engine import ScriptedEngine

GOLDEN = Path(__file__).resolve().parent.parent / "golden"
NAMES = ("two_calls", "one_call", "chained", "chat", "approval", "failing_skill")
BETTER = """\
@system
You speak like a pirate. Say what the results say.
@user
{{ question }}
{% for result in results %}
{{ result.skill }}: {{ result.result }}
{% endfor %}
"""


@pytest.fixture(scope="module")
def recording() -> Recording:
    return recorded_traffic(24, seed=3, cases=tuple(BY_NAME[name] for name in NAMES))


def models(say: Any = script, **more: Any) -> Models:
    """Two scripted models, at no pace."""
    specs = {
        "default": ModelSpec(engine="scripted", model="unused", structured=False),
        "large": ModelSpec(engine="scripted", model="unused", structured=False, output_usd_per_million_tokens=2.0),
    }
    return Models({name: ScriptedEngine(more.get(name, say)) for name in specs}, specs)


async def again(recording: Recording, served: Models, change: Change, **more: Any) -> Recording:
    await served.start()
    try:
        return await run_with(served, recording, recorded_setups(recording), change, more.pop("mode", "live"), **more)
    finally:
        await served.close()


def run(recording: Recording, served: Models, change: Change | None = None, **more: Any) -> Recording:
    return asyncio.run(again(recording, served, change or Change(), **more))


def steps(recording: Recording) -> list[TurnSteps]:
    return [steps_of(turn) for turn in turn_logs(recording.events)]


def pirate(request: EngineRequest) -> str:
    if request.step == "answer" and "pirate" in request.messages[0].content:
        return "Arr, Anna be a nurse in Rome, and the sun be out there today."
    return script(request)


def eager(request: EngineRequest) -> str:
    """Another model: it asks for the weather of another city, sends a message, and answers in two lines."""
    if request.step == "plan" and "two_calls" in str(request.messages):
        return plan(PEOPLE, ("get_weather", {"city": "Bern"}), MESSAGE)
    return script(request) if request.step == "plan" else "Anna is a nurse.\nShe lives in Rome."


def test_pinned_everything_comes_out_identical(recording: Recording, capsys: pytest.CaptureFixture[str]) -> None:
    result = run(recording, models(), mode="pin", at_once=8)
    said = capsys.readouterr().out
    [(same, total)] = re.findall(r"^(\d+) of (\d+) tokens came out identical$", said, re.MULTILINE)
    assert int(same) == int(total) > 500
    found = diff_of("a", recording, "b", result)
    assert [turn.changes for turn in found.turns if not turn.same] == []
    assert result.head.shadow == {"mode": "pin"}


def test_pinned_on_another_model_says_how_much_is_the_same(
    recording: Recording, capsys: pytest.CaptureFixture[str]
) -> None:
    run(recording, models(eager), mode="pin", at_once=8)
    [(same, total)] = re.findall(r"^(\d+) of (\d+) tokens came out", capsys.readouterr().out, re.MULTILINE)
    assert 0 < int(same) < int(total)


def test_another_prompt_changes_the_prompt_and_the_answer_and_nothing_else(recording: Recording) -> None:
    change = Change(prompts={"recruiter/answer": BETTER})
    found = diff_of("a", recording, "b", run(recording, models(pirate), change, at_once=8))
    changed = [turn for turn in found.turns if not turn.same]
    assert changed
    assert {one.step for turn in changed for one in turn.changes} == {"prompt", "answer"}
    whats = {one.what for turn in changed for one in turn.changes}
    assert {"answer: prompt", "answer: rendered messages", "text"} <= whats
    recruited = {turn.turn for turn in steps(recording) if turn.agent == "recruiter" and turn.answer}
    assert {turn.turn for turn in changed} == recruited


def test_what_could_have_an_effect_is_never_sent(recording: Recording) -> None:
    skills = PacedSkills(1)
    result = run(recording, models(eager), executor=skills, at_once=8)
    facts = [fact.event for turn in turn_logs(result.events) for fact in turn.facts]
    fired = [event for event in facts if isinstance(event, CallFired)]
    assert "irreversible" in {event.effect for event in fired}  # approved then: its recorded outcome is taken
    assert skills.effects == {"pure"}
    assert 0 < skills.calls < len(fired)
    alone = run(recording, models(eager), at_once=8)
    failed = {event.code for turn in turn_logs(alone.events) for event in _failures(turn)}
    assert "not_recorded" in failed


def _failures(turn: Any) -> list[CallFailed]:
    return [fact.event for fact in turn.facts if isinstance(fact.event, CallFailed)]


def test_the_day_and_the_bucket_are_those_of_then(recording: Recording) -> None:
    result = run(recording, models(), at_once=8)
    before = {event.turn: event for event in map(decode, recording.events) if isinstance(event, TurnAccepted)}
    after = {event.turn: event for event in map(decode, result.events) if isinstance(event, TurnAccepted)}
    assert before.keys() == after.keys()
    for turn, event in after.items():
        assert event.bucket == before[turn].bucket
        assert 0 <= event.at_ms - before[turn].at_ms < 60_000


def test_a_result_can_be_run_again_exactly(recording: Recording) -> None:
    """What a live run wrote is a recording like any other: its own inputs bring its own facts."""
    from headstart.replay.compare import compare
    from headstart.replay.stub import replay_stub
    from headstart.replay.turns import conversations

    result = run(recording, models(eager), Change(models={"answer": "large"}), at_once=8)
    logs = conversations(result.events)
    found = [one for one in compare(logs, asyncio.run(replay_stub(result))) if "previous_" not in one.path]
    assert [one.text() for one in found] == []
    used = {step.model for turn in steps(result) for step in turn.models.values() if step.step == "answer"}
    assert used == {"large"}


def test_what_is_not_there_is_named(recording: Recording) -> None:
    with pytest.raises(NotFound, match="no agent has a prompt 'recruiter/reply'"):
        run(recording, models(), Change(prompts={"recruiter/reply": BETTER}))
    with pytest.raises(NotFound, match="there is no model 'huge' here"):
        run(recording, models(), Change(models={"": "huge"}))


# -- golden files ----------------------------------------------------------------------------------------------------


def small_diff(recording: Recording) -> Diff:
    """One turn of two kinds, with a model that does otherwise and a prompt that is another."""
    wanted: dict[str, str] = {}
    for turn in steps(recording):
        for name in ("two_calls", "chat"):
            if f"[case {name}]" in turn.question and turn.history == 0:
                wanted.setdefault(name, turn.turn)
    part = choose(recording, Selection(turns=frozenset(wanted.values())))
    change = Change(prompts={"recruiter/answer": BETTER}, models={"answer": "large"})
    return diff_of("before.jsonl.gz", part, "after.jsonl.gz", run(part, models(eager), change))


@pytest.mark.parametrize("kind", ["txt", "html"])
def test_the_comparison_is_the_one_that_was_agreed_on(recording: Recording, kind: str) -> None:
    """Ids and times are made anew each time, and tokens follow the agents' prompts; the rest is held to the files.
    HEADSTART_TEST_GOLDEN=write renews them."""
    found = small_diff(recording)
    text = render_text(found, figures=False) if kind == "txt" else render_html(found)
    text = re.sub(r"turn_[0-9a-f]{36}", "turn_…", text)
    text = re.sub(r"(<tr><th>[^<]*</th><td>)[^<]*(ms[^<]*</td>)", r"\1… \2", text)
    text = re.sub(r"… ms[^<]*</td>", "… ms</td>", text)
    text = re.sub(r"\d+ tokens", "… tokens", text)
    file = GOLDEN / f"diff.{kind}"
    if os.environ.get("HEADSTART_TEST_GOLDEN") == "write":
        file.write_text(text)
    assert text == file.read_text()
    assert WEATHER[1]["city"] in text
