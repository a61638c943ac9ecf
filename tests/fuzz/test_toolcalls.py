"""Nothing crashes, and no cut changes what is told: nonsense made of each dialect's own markers, and edited traces.

`FUZZ_EXAMPLES` sets how many texts each dialect reads (default 60); `python -m tests.fuzz.minutes` goes on for minutes.
"""

from __future__ import annotations

import os
import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.material import COMMON, MARKERS, check_text, edited
from workers.toolcalls import dialects
from workers.toolcalls.parser import Mode

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "60"))
MODES: list[Mode] = ["strict", "repair"]
# Texts that were once read differently by cut, or not at all.
FOUND = [
    ("json_list", '{"name": "f", "arguments": {}"name": "f", "arguments": {}}'),
    ("json_list", '[{"name": "f", "arguments": {"k": trueue, "n": 1}}, {"name": "f", "arguments": {"k": falseNone}}]'),
    (
        "json_list",
        '[{"names": {"k": ["the "a" one", "67" wide", "b"], "n": 3}}, {"name": "f", "arguments"calls" {"k": "a"}}]',
    ),
    ("hermes", '<tool_call>{"name": "f", "arguments": {}, "arguments": {"k": "v"}}</tool_call>'),
    ("llama", '{"name": "f", "parameters": {"k": "v"}\'\'\'}'),
    ("llama", '<|python_tag|>{"name": "f", "parameters": {"k": "v}}}w.<|python_tag|>{"name": "f", "parameters": {}}'),
    (
        "gpt_oss",
        ' to=functions.f<|channel|>commentary <|message|>{"k": "v"<|return|>}<|end|><|start|>assistant to=functions.f',
    ),
    ("llama", "[f(n=-1e999)]"),
    ("yaml_plan", "- name: f\n  arguments:\n    k: '\n    n: 3\n"),
    ("yaml_plan", '1. \n    arguments:\n{"k": 1}-.\n: k: v\n'),
    ("yaml_plan", "* \nname: f\n"),
    ("yaml_plan", "\n" * 700 + "- name: f\n"),
]


@pytest.mark.parametrize("dialect", dialects.names())
def test_nothing_crashes_and_no_cut_matters(dialect: str) -> None:
    @settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
    @given(
        pieces=st.lists(st.sampled_from(MARKERS[dialect] * 3 + COMMON), max_size=30),
        mode=st.sampled_from(MODES),
        reason=st.sampled_from(["stop", "length"]),
        seed=st.integers(0, 1000),
    )
    def run(pieces: list[str], mode: Mode, reason: str, seed: int) -> None:
        check_text(dialect, "".join(pieces), mode, reason, seed, prompt="<think>" if seed % 3 else "")

    run()


@pytest.mark.parametrize(("dialect", "text"), FOUND)
@pytest.mark.parametrize("reason", ["stop", "length"])
@pytest.mark.parametrize("mode", MODES)
def test_what_was_found_stays_mended(dialect: str, text: str, mode: Mode, reason: str) -> None:
    for prompt in ("", "<think>"):
        check_text(dialect, text, mode, reason, 1, prompt=prompt)


@pytest.mark.parametrize("dialect", dialects.names())
def test_an_edited_trace_is_read_the_same_however_it_is_cut(dialect: str) -> None:
    seeded = random.Random(dialect)
    for number in range(EXAMPLES):
        text = edited(dialect, seeded)
        check_text(dialect, text, MODES[number % 4 > 0], "stop" if number % 3 else "length", number)
