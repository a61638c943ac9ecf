"""Every trace of every dialect: read right when whole, and read the same however it is cut."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from workers.toolcalls import (
    ArgumentClosed,
    ArgumentsDelta,
    CallClosed,
    CallOpened,
    CallVoided,
    ParseError,
    Parser,
    Reasoning,
    Text,
    dialects,
    merge,
)
from workers.toolcalls.facts import Fact

TRACES = Path(__file__).parents[2] / "traces"
RANDOM_CUTS = 200
TYPES = {
    "search": {"query": "string", "limit": "integer", "filters": "object", "tags": "array", "exact": "boolean"},
    "weather": {"city": "string", "unit": "string"},
    "measure": {"x": "number", "y": "number", "big": "integer", "on": "boolean", "off": "boolean"},
    "now": {},
    "write": {"path": "string", "content": "string"},
}
SKILLS = {
    name: {"type": "object", "properties": {key: {"type": kind} for key, kind in parameters.items()}}
    for name, parameters in TYPES.items()
}


def load(dialect: str) -> list[dict[str, Any]]:
    lines = (TRACES / f"{dialect}.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


ALL = [(dialect, trace) for dialect in dialects.names() for trace in load(dialect)]
IDS = [f"{dialect}-{trace['name']}" for dialect, trace in ALL]


def read(dialect: str, chunks: Iterable[str | bytes], reason: str, **options: Any) -> list[Fact]:
    parser = Parser(dialect, skills=SKILLS, **options)
    facts: list[Fact] = []
    for chunk in chunks:
        facts += parser.feed(chunk)
    return facts + parser.finish(reason)


def read_deltas(deltas: Iterable[dict[str, Any]], reason: str) -> list[Fact]:
    parser = Parser("openai_deltas", skills=SKILLS)
    facts: list[Fact] = []
    for delta in deltas:
        facts += parser.feed_delta(delta)
    return facts + parser.finish(reason)


def recut(deltas: list[dict[str, Any]], size: int) -> list[dict[str, Any]]:
    """The same deltas with their arguments in fragments of `size` characters."""
    found = []
    for delta in deltas:
        calls = delta.get("tool_calls") or []
        arguments = calls[0]["function"]["arguments"] if calls else ""
        if not arguments:
            found.append(delta)
            continue
        for start in range(0, len(arguments), size):
            function = {**calls[0]["function"], "arguments": arguments[start : start + size]}
            found.append({"tool_calls": [{**calls[0], "function": function}]})
    return found


def test_each_dialect_has_twelve_traces() -> None:
    assert {dialect: len(load(dialect)) for dialect in dialects.names() if len(load(dialect)) < 12} == {}


@pytest.mark.parametrize(("dialect", "trace"), ALL, ids=IDS)
def test_a_trace_is_read_as_it_was_meant(dialect: str, trace: dict[str, Any]) -> None:
    if "deltas" in trace:
        facts = read_deltas(trace["deltas"], trace["reason"])
    else:
        facts = read(dialect, [trace["text"]], trace["reason"], mode="strict")
    closed = [fact for fact in facts if isinstance(fact, CallClosed)]
    assert [[fact.name, fact.arguments] for fact in closed] == trace["calls"]
    assert "".join(fact.text for fact in facts if isinstance(fact, Text)) == trace["words"]
    assert "".join(fact.text for fact in facts if isinstance(fact, Reasoning)) == trace["reasoning"]
    assert any(isinstance(fact, ParseError) for fact in facts) == trace["errors"]
    # Every call that was opened ends exactly once.
    opened = [fact.call for fact in facts if isinstance(fact, CallOpened)]
    assert sorted(fact.call for fact in facts if isinstance(fact, CallClosed | CallVoided)) == opened
    for fact in closed:
        told = "".join(part.text for part in facts if isinstance(part, ArgumentsDelta) and part.call == fact.call)
        assert told == fact.arguments_json
        assert json.loads(told) == fact.arguments
        arguments = {
            part.path[0]: part.value for part in facts if isinstance(part, ArgumentClosed) and part.call == fact.call
        }
        assert arguments == fact.arguments


@pytest.mark.parametrize(("dialect", "trace"), ALL, ids=IDS)
def test_no_cut_changes_what_is_read(dialect: str, trace: dict[str, Any]) -> None:
    reason = trace["reason"]
    if "deltas" in trace:
        whole = merge(read_deltas(trace["deltas"], reason))
        for size in range(1, 40):
            assert merge(read_deltas(recut(trace["deltas"], size), reason)) == whole
        return
    text = trace["text"]
    whole = merge(read(dialect, [text], reason))
    assert merge(read(dialect, text, reason)) == whole, "one character at a time"
    for cut in range(1, len(text)):
        assert merge(read(dialect, [text[:cut], text[cut:]], reason)) == whole, f"cut at {cut}"
    seeded = random.Random(text)
    for _ in range(RANDOM_CUTS):
        cuts = sorted(seeded.sample(range(1, len(text)), min(len(text) - 1, seeded.randint(2, 24))))
        chunks = [text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]
        assert merge(read(dialect, chunks, reason)) == whole, chunks


@pytest.mark.parametrize(("dialect", "trace"), ALL, ids=IDS)
def test_bytes_may_be_cut_inside_a_character(dialect: str, trace: dict[str, Any]) -> None:
    if "deltas" in trace:
        return
    data = trace["text"].encode()
    whole = merge(read(dialect, [trace["text"]], trace["reason"]))
    assert merge(read(dialect, [data[at : at + 1] for at in range(len(data))], trace["reason"])) == whole


@pytest.mark.parametrize(("dialect", "trace"), ALL, ids=IDS)
def test_a_text_that_is_cut_off_tells_only_what_was_closed(dialect: str, trace: dict[str, Any]) -> None:
    if "deltas" in trace:
        return
    text = trace["text"]
    whole = read(dialect, [text], trace["reason"])
    values = {(fact.call, fact.path, json.dumps(fact.value)) for fact in whole if isinstance(fact, ArgumentClosed)}
    for end in range(0, len(text), 3):
        facts = read(dialect, [text[:end]], "length")
        for fact in facts:
            if isinstance(fact, ArgumentClosed):
                assert (fact.call, fact.path, json.dumps(fact.value)) in values, text[:end]
