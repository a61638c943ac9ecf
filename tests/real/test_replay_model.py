"""Recorded turns run again with the real small model: pinned they come out as they were, with another prompt a person
can see what the prompt changed."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from headstart.diff_commands import diff_of
from headstart.live_replay import run_with
from headstart.replay.changing import Change
from headstart.replay.diff_html import render_html
from headstart.replay.diff_text import render_text
from headstart.replay.recording import Recording
from headstart.replay.steps import steps_of
from headstart.replay.stub import recorded_setups
from headstart.replay.turns import turn_logs
from streams.settings import Settings
from tests.support.recordings import recorded_traffic
from tests.support.traffic_cases import BY_NAME
from workers.generation.models import Models, load_models

RESULTS = Path(__file__).resolve().parent.parent.parent / "bench-results"
SHORT = """\
@system
Answer in exactly five words.
@user
{{ question }}
{% for result in results %}
{{ result.skill }}: {{ result.result }}
{% endfor %}
"""
pytestmark = [
    pytest.mark.vllm,
    pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="vllm is not installed (extra 'local')"),
]


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def model() -> AsyncIterator[Models]:
    models = await load_models(Settings.from_env({"HOME": os.environ["HOME"]}))
    try:
        await models.start()
        yield models
    finally:
        await models.close()


async def again(models: Models, recording: Recording, mode: str, change: Change | None = None) -> Recording:
    return await run_with(models, recording, recorded_setups(recording), change or Change(), mode, at_once=4)


@pytest.mark.asyncio(loop_scope="module")
async def test_the_small_model_pinned_and_with_another_prompt(
    model: Models, capsys: pytest.CaptureFixture[str]
) -> None:
    cases = (BY_NAME["two_calls"], BY_NAME["chat"])
    scripted = await asyncio.to_thread(recorded_traffic, 4, seed=9, cases=cases)  # a loop and a clock of its own
    recording = await again(model, scripted, "live")  # from here on everything is the small model's own
    assert all(turn.end is not None for turn in turn_logs(recording.events))
    capsys.readouterr()

    await again(model, recording, "pin")
    [(same, total)] = re.findall(r"^(\d+) of (\d+) tokens came out", capsys.readouterr().out, re.MULTILINE)
    assert int(total) > 20
    assert int(same) / int(total) > 0.5  # greedy: batches of another size may flip a token, and then the rest differs

    names = {"recruiter/answer": SHORT, "companion/answer": SHORT}
    changed = await again(model, recording, "live", Change(prompts=names))
    found = diff_of("as it was", recording, "five words", changed)
    assert found.changed == len(found.turns)
    whats = {change.what for turn in found.turns for change in turn.changes}
    assert {"answer: prompt", "answer: rendered messages"} <= whats
    text = render_text(found)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "replay-small-model.html").write_text(render_html(found))
    with capsys.disabled():
        answers = [(steps_of(turn).agent, steps_of(turn).answer[:60]) for turn in turn_logs(changed.events)]
        print(f"\npinned: {same} of {total} tokens identical; with another prompt: {answers}")
    assert "You are Headstart" in text
    assert "Answer in exactly five words" in text
