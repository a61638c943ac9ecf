"""The parser's own promises: snapshots, limits, special tokens, the dialect of a model, and that it stands alone."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import tracemalloc
from typing import Any

import pytest

from workers.toolcalls import (
    ArgumentClosed,
    CallClosed,
    CallOpened,
    CallSnapshot,
    CallVoided,
    Limits,
    ParseError,
    Parser,
    Reasoning,
    StringPart,
    Text,
    dialects,
    merge,
)
from workers.toolcalls.facts import Fact
from workers.toolcalls.parser import Mode

PLAN = '[{"name": "write", "arguments": {"path": "a.md", "text": "one \\"two\\" three", "n": 7}}]'

GLM = "<arg_key>{}</arg_key><arg_value>{}</arg_value>"


def read(dialect: str, text: str, **options: Any) -> list[Fact]:
    parser = Parser(dialect, **options)
    return merge(parser.feed(text) + parser.finish())


def test_a_snapshot_shows_what_is_there_so_far() -> None:
    parser = Parser("json_list")
    assert parser.snapshot() == []
    parser.feed(PLAN[: PLAN.index('"two') + 2])
    parser.feed("w")
    assert parser.snapshot() == [CallSnapshot("write", {"path": "a.md", "text": 'one "tw'}, False)]
    parser.feed(PLAN[PLAN.index("two") + 2 :])
    assert parser.snapshot() == [CallSnapshot("write", {"path": "a.md", "text": 'one "two" three', "n": 7}, True)]


@pytest.mark.parametrize("partial", [True, False])
def test_without_partial_facts_the_others_are_the_same(partial: bool) -> None:
    facts = [fact for fact in read("json_list", PLAN, partial=partial) if isinstance(fact, ArgumentClosed | CallClosed)]
    assert [fact.path for fact in facts if isinstance(fact, ArgumentClosed)] == [("path",), ("text",), ("n",)]
    assert facts[-1] == read("json_list", PLAN)[-1]


@pytest.mark.parametrize("dialect", ["json_list", "hermes", "glm"])
def test_without_string_parts_the_others_are_the_same(dialect: str) -> None:
    text = {
        "json_list": PLAN,
        "hermes": f"<tool_call>{PLAN[1:-1]}</tool_call>",
        "glm": "<tool_call>f<arg_key>a</arg_key><arg_value>long text</arg_value></tool_call>",
    }[dialect]
    skills = {"f": {"properties": {"a": {"type": "string"}}}}
    found = []
    for string_parts in (True, False):
        parser = Parser(dialect, skills=skills, string_parts=string_parts)
        facts = [fact for character in text for fact in parser.feed(character)] + parser.finish()
        assert any(isinstance(fact, StringPart) for fact in facts) == string_parts
        found.append(merge(fact for fact in facts if not isinstance(fact, StringPart)))
    assert found[0] == found[1]


def test_an_argument_closes_with_the_character_that_closes_it() -> None:
    """Neither late nor early: at each of these characters, and at no other, one argument closes."""
    closers = {'"a.md"': 5, 'three"': 5, "7}": 1}
    due = {PLAN.index(text) + offset for text, offset in closers.items()}
    parser = Parser("json_list")
    closed = set()
    for at, character in enumerate(PLAN):
        if any(isinstance(fact, ArgumentClosed) for fact in parser.feed(character)):
            closed.add(at)
    assert closed == due


@pytest.mark.parametrize("reason", ["stop", "length"])
def test_a_number_at_the_end_of_a_broken_plan_is_not_closed_in_strict_mode(reason: str) -> None:
    parser = Parser("json_list", mode="strict")
    facts = parser.feed('[{"name": "f", "arguments": {"limit": 12') + parser.finish(reason)
    assert not [fact for fact in facts if isinstance(fact, ArgumentClosed)]
    assert facts[-1] == CallVoided(0, "cut_off")


def test_limits_void_the_call_with_an_error() -> None:
    plan = "[" + ", ".join(['{"name": "f", "arguments": {}}'] * 3) + "]"
    facts = read("json_list", plan, limits=Limits(calls=2))
    assert [fact.code for fact in facts if isinstance(fact, ParseError)] == ["too_many_calls"]
    assert len([fact for fact in facts if isinstance(fact, CallClosed)]) == 2
    facts = read("json_list", PLAN, limits=Limits(arguments_size=20))
    assert [fact.code for fact in facts if isinstance(fact, ParseError)] == ["too_large"]
    assert facts[-1] == CallVoided(0, "too_large")
    facts = read("hermes", '<tool_call>{"name": "' + "n" * 300 + '", "arguments": {}}</tool_call>')
    assert [fact.code for fact in facts if isinstance(fact, ParseError)] == ["name_too_long"]


def test_one_broken_call_leaves_the_others_alone() -> None:
    good = '<tool_call>{"name": "f", "arguments": {"a": 1}}</tool_call>'
    facts = read("hermes", good + '<tool_call>{"name": "g", "arguments": {"a": [1}]</tool_call>' + good, mode="strict")
    assert [type(fact).__name__ for fact in facts if isinstance(fact, CallClosed | CallVoided)] == [
        "CallClosed",
        "CallVoided",
        "CallClosed",
    ]


def test_special_tokens_that_the_text_leaves_out_are_put_back() -> None:
    parser = Parser("mistral", special_tokens={5: "[TOOL_CALLS]", 32: "[ARGS]"})
    facts = parser.feed("Hello", [900]) + parser.feed("", [5]) + parser.feed("now", [901])
    facts += parser.feed("{}", [32, 902]) + parser.finish()
    assert [type(fact) for fact in merge(facts) if isinstance(fact, Text | CallOpened | CallClosed)] == [
        Text,
        CallOpened,
        CallClosed,
    ]
    # Where the text has them, they are not put in twice.
    parser = Parser("mistral", special_tokens={5: "[TOOL_CALLS]", 32: "[ARGS]"})
    facts = parser.feed("[TOOL_CALLS]", [5]) + parser.feed("now[ARGS]{}", [901, 32, 902]) + parser.finish()
    assert [fact.name for fact in facts if isinstance(fact, CallClosed)] == ["now"]


def test_the_prompt_tells_whether_reasoning_is_open() -> None:
    assert read("hermes", "I think</think>Hi", prompt="<think>\n") == [Reasoning("I think"), Text("Hi")]
    assert read("hermes", "Hi", prompt="<think>\n\n</think>\n\n") == [Text("Hi")]


def test_a_marker_is_held_back_only_while_it_may_become_one() -> None:
    parser = Parser("hermes")
    assert parser.feed("a <tool_") == [Text("a")]
    assert merge(parser.feed("b")) == [Text(" <tool_b")]
    assert merge(parser.feed(" < c")) == [Text(" < c")]


def test_schemas_give_bare_values_their_types() -> None:
    schema = {
        "properties": {
            "zip": {"type": "string"},
            "count": {"type": "integer"},
            "ratio": {"anyOf": [{"type": "number"}, {"type": "null"}]},
            "on": {"enum": [True, False]},
            "items": {"items": {"type": "string"}},
            "label": {"type": ["string", "null"]},
        }
    }
    values = {
        "zip": "02139",
        "count": "3",
        "ratio": "null",
        "on": "True",
        "items": '["a"]',
        "label": "7",
        "other": "[1]",
    }
    text = "".join(f"<arg_key>{key}</arg_key><arg_value>{value}</arg_value>" for key, value in values.items())
    facts = read("glm", f"<tool_call>f{text}</tool_call>", skills={"f": schema})
    assert next(fact.arguments for fact in facts if isinstance(fact, CallClosed)) == {
        "zip": "02139",
        "count": 3,
        "ratio": None,
        "on": True,
        "items": ["a"],
        "label": "7",
        "other": [1],
    }


@pytest.mark.parametrize(
    ("model", "dialect"),
    [
        ("NousResearch/Hermes-3-Llama-3.1-8B", "hermes"),
        ("Qwen/Qwen2.5-7B-Instruct", "hermes"),
        ("Qwen/Qwen3-4B-Thinking-2507", "hermes"),
        ("Qwen/Qwen3-Coder-30B-A3B-Instruct", "qwen3_xml"),
        ("Qwen/Qwen3.6-35B-A3B", "qwen3_xml"),
        ("meta-llama/Llama-3.3-70B-Instruct", "llama"),
        ("mistralai/Devstral-Small-2507", "mistral"),
        ("deepseek-ai/DeepSeek-V3.1", "deepseek"),
        ("zai-org/GLM-4.7", "glm"),
        ("openai/gpt-oss-20b", "gpt_oss"),
        ("moonshotai/Kimi-K2.6", "kimi"),
        ("moonshotai/Kimi-K3", "kimi_k3"),
        ("google/gemma-4-31B-it", "gemma"),
        ("gpt-5-mini", "openai_deltas"),
        ("someone/unheard-of", "json_list"),
    ],
)
def test_a_models_name_tells_its_dialect(model: str, dialect: str) -> None:
    assert dialects.for_model(model).name == dialect


def test_wrong_use_is_refused() -> None:
    with pytest.raises(KeyError, match="json_list"):
        Parser("klingon")
    with pytest.raises(TypeError, match="deltas"):
        Parser("hermes").feed_delta({"content": "x"})


@pytest.mark.parametrize("mode", ["strict", "repair"])
@pytest.mark.parametrize(
    ("dialect", "text"),
    [
        ("hermes", '<tool_call>{"name": "f", "arguments": {"a": -1e999, "b": [1, 1e999 ]}}</tool_call>'),
        ("llama", "[f(a=-1e999, b=[1, 1e999])]"),
        ("gemma", "<|tool_call>call:f{a:-1e999,b:[1,1e999]}<tool_call|>"),
        ("yaml_plan", "- name: f\n  arguments:\n    a: -1e999\n    b: [1, 1e999]\n"),
        (
            "qwen3_xml",
            "<function=f>\n<parameter=a>\n-1e999\n</parameter>\n<parameter=b>\n[1, 1e999]\n</parameter>\n</function>",
        ),
        ("glm", f"<tool_call>f{GLM.format('a', '-1e999')}{GLM.format('b', '[1,1e999]')}</tool_call>"),
    ],
)
def test_numbers_beyond_a_double_are_infinite_and_have_json(dialect: str, text: str, mode: Mode) -> None:
    parser = Parser(dialect, mode=mode)
    closed = [fact for fact in parser.feed(text) + parser.finish() if isinstance(fact, CallClosed)]
    assert [fact.arguments for fact in closed] == [{"a": -math.inf, "b": [1, math.inf]}]
    assert json.loads(closed[0].arguments_json) == closed[0].arguments
    assert "Infinity" not in closed[0].arguments_json


def test_any_number_of_calls_may_come_at_once() -> None:
    count = 5000
    text = "[" + ", ".join(['{"name": "f", "arguments": {"k": [1]}}'] * count) + "]"
    parser = Parser("json_list", limits=Limits(calls=count))
    closed = [fact.arguments for fact in parser.feed(text) + parser.finish() if isinstance(fact, CallClosed)]
    assert closed == [{"k": [1]}] * count


def test_finish_is_final() -> None:
    parser = Parser("json_list")
    parser.feed(PLAN[:-3])
    assert isinstance(parser.finish()[-1], CallClosed)
    assert parser.finish() == []
    assert parser.feed("more") == []


def test_memory_stays_with_the_value_that_is_read() -> None:
    """A long value in small pieces: no copy of the whole per piece."""
    parser = Parser("json_list", partial=False)
    parser.feed('[{"name": "write", "arguments": {"text": "')
    tracemalloc.start()
    for _ in range(50_000):
        parser.feed("abcd")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 5_000_000


def test_the_package_stands_alone() -> None:
    code = (
        "import sys, workers.toolcalls as t; t.Parser('hermes');"
        "print([m for m in ('asyncio', 'vllm', 'aiokafka', 'pydantic', 'streams', 'socket') if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
