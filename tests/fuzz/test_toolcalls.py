"""Nonsense made of each dialect's own markers and of pieces of JSON: nothing crashes, and no cut changes what is told.

`FUZZ_EXAMPLES` sets how many texts each dialect reads (default 60).
"""

from __future__ import annotations

import json
import os
import random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from workers.toolcalls import (
    ArgumentClosed,
    ArgumentsDelta,
    CallClosed,
    CallOpened,
    CallVoided,
    Limits,
    Parser,
    dialects,
    merge,
)
from workers.toolcalls.facts import Fact

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "60"))
COMMON = [
    *"{}[]()<>,:=\"'\\ \n/`a1-.;é😀",
    '"name"',
    '"arguments"',
    '"parameters"',
    '"calls"',
    ": ",
    '"f"',
    '"k": ',
    "true",
    "None",
    "12",
    "-3.5e2",
    '"text"',
    '{"name": "f", "arguments": {"k": "v"}}',
    '[{"name": "f", "arguments": {}}]',
    '{"k": [1, {"z": "}"}]}',
    "words",
    "\\u00e9",
    "\\ud83d",
    "NaN",
    "'s",
    "```json",
    "\x00",
]
MARKERS = {
    "hermes": ["<tool_call>", "</tool_call>", "<think>", "</think>", "<tool", "_call>"],
    "qwen3_xml": [
        "<tool_call>",
        "</tool_call>",
        "<function=f>",
        "</function>",
        "<parameter=k>",
        "</parameter>",
        "\n",
        "<think>",
        "</think>",
        "\n</parameter>\n",
        "<function=",
        "<parameter=",
    ],
    "glm": [
        "<tool_call>f",
        "</tool_call>",
        "<arg_key>k</arg_key>",
        "<arg_value>",
        "</arg_value>",
        "<arg_key>",
        "<think>",
        "</think>",
    ],
    "deepseek": [
        "<｜tool▁calls▁begin｜>",
        "<｜tool▁calls▁end｜>",
        "<｜tool▁call▁begin｜>",
        "<｜tool▁call▁end｜>",
        "<｜tool▁sep｜>",
        "function",
        "\n```json\n",
        "\n```",
        "<｜DSML｜tool_calls>",
        '<｜DSML｜invoke name="f">',
        '<｜DSML｜parameter name="k" string="true">',
        "</｜DSML｜parameter>",
        "</｜DSML｜invoke>",
        "</｜DSML｜tool_calls>",
        "/>",
        'string="false"',
    ],
    "gpt_oss": [
        "<|start|>",
        "assistant",
        "<|channel|>",
        "analysis",
        "commentary",
        "final",
        "<|message|>",
        "<|end|>",
        "<|call|>",
        "<|return|>",
        " to=functions.f",
        " to=python",
        "<|constrain|>json",
    ],
    "kimi": [
        "<|tool_calls_section_begin|>",
        "<|tool_calls_section_end|>",
        "<|tool_call_begin|>",
        "<|tool_call_end|>",
        "<|tool_call_argument_begin|>",
        "functions.f:0",
        "<think>",
        "</think>",
    ],
    "kimi_k3": [
        "<|open|>",
        "<|close|>",
        "<|sep|>",
        "think",
        "response",
        "tools",
        'call tool="f" index="1"',
        "call",
        "argument",
        'argument key="k" type="string"',
        'argument key="n" type="number"',
        "<|close|>argument<|sep|>",
        "<|close|>call<|sep|>",
    ],
    "mistral": ["[TOOL_CALLS]", "[ARGS]", "[CALL_ID]", "f", "[THINK]", "[/THINK]", "</s>", "<think>", "</think>"],
    "gemma": ["<|tool_call>", "<tool_call|>", "call:f", '<|"|>', "k:", "<|channel>thought\n", "<channel|>", "call:"],
    "llama": [
        "<|python_tag|>",
        "<|python_start|>",
        "<|python_end|>",
        "[f(",
        "k=",
        ")]",
        "f(k='v')",
        "; ",
        "'''",
        "(1, 2)",
    ],
    "json_list": ["[", "]", "{", "}", '"function": ', '"calls": ['],
    "yaml_plan": [
        "- name: f\n",
        "  arguments:\n",
        "    k: ",
        "    n: 3\n",
        "\n",
        "\n  ",
        "\n    ",
        "- ",
        "|\n      ",
        ">-\n      ",
        "# note\n",
        "```yaml\n",
        "```",
        "calls:\n",
        "---\n",
        "\t",
        "'it''s'",
        '"two\n      lines"',
        "{a: 1, b: [c]}",
        "k: v\n",
        "yes",
    ],
    "openai_deltas": [],
}


def read(dialect: str, chunks: list[str], mode: Any, reason: str) -> list[Fact]:
    skills = {"f": {"properties": {"k": {"type": "string"}, "n": {"type": "number"}}}}
    parser = Parser(
        dialect, mode=mode, skills=skills, prompt="<think>", limits=Limits(depth=8, calls=6, arguments_size=4000)
    )
    facts: list[Fact] = []
    for chunk in chunks:
        facts += parser.feed(chunk)
        parser.snapshot()
    return facts + parser.finish(reason)


def check(facts: list[Fact]) -> None:
    """What holds for every text: calls open in order and end once, the told JSON is the arguments."""
    opened = [fact.call for fact in facts if isinstance(fact, CallOpened)]
    assert opened == list(range(len(opened)))
    assert sorted(fact.call for fact in facts if isinstance(fact, CallClosed | CallVoided)) == opened
    for fact in facts:
        if isinstance(fact, CallClosed):
            told = "".join(part.text for part in facts if isinstance(part, ArgumentsDelta) and part.call == fact.call)
            assert told == fact.arguments_json
            assert json.loads(told) == fact.arguments
            last = {
                part.path[0]: part.value
                for part in facts
                if isinstance(part, ArgumentClosed) and part.call == fact.call
            }
            assert last == fact.arguments


@pytest.mark.parametrize("dialect", dialects.names())
def test_nothing_crashes_and_no_cut_matters(dialect: str) -> None:
    pieces = st.lists(st.sampled_from(MARKERS[dialect] * 3 + COMMON), max_size=30)

    @settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
    @given(
        pieces=pieces,
        mode=st.sampled_from(["strict", "repair"]),
        reason=st.sampled_from(["stop", "length"]),
        seed=st.integers(0, 1000),
    )
    def run(pieces: list[str], mode: str, reason: str, seed: int) -> None:
        text = "".join(pieces)
        whole = read(dialect, [text], mode, reason)
        check(whole)
        expected = merge(whole)
        assert merge(read(dialect, list(text), mode, reason)) == expected
        seeded = random.Random(seed)
        for _ in range(4):
            cuts = sorted(seeded.sample(range(len(text)), min(len(text), seeded.randint(1, 8))))
            chunks = [text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]
            assert merge(read(dialect, chunks, mode, reason)) == expected

    run()
