"""What the parser is fuzzed with: nonsense of each dialect's own markers, and real traces with a few edits; and what
must hold for all of it.
"""

from __future__ import annotations

import json
import random
from functools import cache
from pathlib import Path

from tests.support.plan_mutations import corpus
from workers.toolcalls import (
    ArgumentClosed,
    ArgumentsDelta,
    CallClosed,
    CallOpened,
    CallVoided,
    Limits,
    Parser,
    Repaired,
    merge,
)
from workers.toolcalls.facts import Fact
from workers.toolcalls.parser import Mode
from workers.toolcalls.rules import RULES

TRACES = Path(__file__).resolve().parents[1] / "traces"
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
    "1e999",
    "'s",
    'the "big" one',
    '", "',
    "“a”",
    ",\n",
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
        "1. ",
        "2) name: f\n",
        "    n: 3,\n",
        "    k: “v”\n",
        "[a, b",
    ],
    "openai_deltas": [],
}


def read(dialect: str, chunks: list[str], mode: Mode, reason: str, prompt: str = "<think>") -> list[Fact]:
    skills = {"f": {"properties": {"k": {"type": "string"}, "n": {"type": "number"}}}}
    parser = Parser(
        dialect, mode=mode, skills=skills, prompt=prompt, limits=Limits(depth=8, calls=6, arguments_size=4000)
    )
    facts: list[Fact] = []
    for chunk in chunks:
        facts += parser.feed(chunk)
        parser.snapshot()
    return facts + parser.finish(reason)


def check(facts: list[Fact]) -> None:
    """What holds for every text: calls open in order and end once, the told JSON is the arguments."""
    assert {fact.rule for fact in facts if isinstance(fact, Repaired)} <= RULES.keys()
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


def check_text(dialect: str, text: str, mode: Mode, reason: str, seed: int, *, prompt: str = "") -> None:
    """Reads the text whole, one character at a time and in random chunks: it always says the same, and that holds.

    A `prompt` that ends in `<think>` has opened the reasoning already.
    """
    whole = read(dialect, [text], mode, reason, prompt)
    check(whole)
    expected = merge(whole)
    assert merge(read(dialect, list(text), mode, reason, prompt)) == expected, "one character at a time"
    seeded = random.Random(seed)
    for _ in range(4):
        cuts = sorted(seeded.sample(range(len(text)), min(len(text), seeded.randint(1, 8))))
        chunks = [text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]
        assert merge(read(dialect, chunks, mode, reason, prompt)) == expected, chunks


@cache
def whole_texts(dialect: str) -> list[str]:
    """Texts of this dialect that say something: its traces, and plans where it is one of theirs."""
    lines = (TRACES / f"{dialect}.jsonl").read_text(encoding="utf-8").splitlines()
    texts = [str(json.loads(line).get("text", "")) for line in lines]
    texts += [sample.text for sample in corpus(400, 7, broken=0.7) if sample.dialect == dialect]
    return [text for text in texts if 1 < len(text) <= 1500] or ["{}"]


def edited(dialect: str, seeded: random.Random) -> str:
    """One of those texts after a few edits: pieces dropped, doubled, moved, put in, the end cut off."""
    text = seeded.choice(whole_texts(dialect))
    pieces = MARKERS[dialect] * 3 + COMMON
    for _ in range(seeded.randint(1, 5)):
        start = seeded.randrange(len(text) + 1)
        end = min(len(text), start + seeded.choice((1, 1, 1, 2, 5, 30)))
        kind = seeded.randrange(6)
        if kind == 0:
            text = text[:start] + text[end:]
        elif kind == 1:
            text = text[:end] + text[start:]
        elif kind == 2:
            to = seeded.randrange(len(text) + 1)
            text = text[:to] + text[start:end] + text[to:]
        elif kind == 5 and seeded.random() < 0.3:
            text = text[:start]
        else:
            text = text[:start] + seeded.choice(pieces) + text[end if kind == 3 else start :]
    return text


def pieced(dialect: str, seeded: random.Random) -> str:
    """Nonsense made of the dialect's markers and pieces of JSON."""
    return "".join(seeded.choices(MARKERS[dialect] * 3 + COMMON, k=seeded.randint(0, 30)))
