"""The neutral conformance suite `canitoolcall`: nine families of models, judged by the suite's own eight checks.

Each recorded output is read as raw text (no token ids) in strict mode: whole, one character at a time, and cut in two
at every place. Calls count when they are closed. Equality is the suite's strict one: words and reasoning exactly,
arguments as JSON.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from functools import cache
from typing import Any

import pytest
from canitoolcall.checks import case_status, run_checks
from canitoolcall.fixtures import load_families, load_fixtures
from canitoolcall.results import Observation, ParsedToolCall, ParseResult

from workers.toolcalls import CallClosed, Parser, Reasoning, Text, dialects
from workers.toolcalls.facts import Fact

FAMILIES = {
    "deepseek": "deepseek",
    "gemma4": "gemma",
    "glm": "glm",
    "gpt-oss": "gpt_oss",
    "kimi": "kimi",
    "llama": "llama",
    "mistral": "mistral",
    "qwen3-hermes": "hermes",
    "qwen3-xml": "qwen3_xml",
}
# Published with the suite's version 0.1.1: strict passes of all fixtures.
PUBLISHED = {"vLLM": "268/469", "llama.cpp": "278/469", "SGLang": "189/469", "Ollama": "224/261"}
# Fixtures that contradict others of their own family or its published format; docs/toolcalls.md has the evidence.
CONTRADICTIONS = frozenset({"gemma4/vllm-text-before-call"})


_FAMILIES = load_families()
_FIXTURES = load_fixtures()


def _prompt(fixture: Any) -> str:
    if fixture.generation_prompt is not None:
        return str(fixture.generation_prompt)
    for model in _FAMILIES[fixture.family].reference_models:
        if model.repo == fixture.models[0]:
            return str(model.default_generation_prompt)
    return ""


def _result(facts: Iterable[Fact]) -> ParseResult:
    words, thoughts, calls = [], [], []
    for fact in facts:
        if isinstance(fact, Text):
            words.append(fact.text)
        elif isinstance(fact, Reasoning):
            thoughts.append(fact.text)
        elif isinstance(fact, CallClosed):
            calls.append(ParsedToolCall(fact.name, fact.arguments_json))
    return ParseResult("".join(words) or None, "".join(thoughts) or None, tuple(calls))


def _read(fixture: Any, chunks: Iterable[str], *, partial: bool = True) -> ParseResult:
    family = FAMILIES[fixture.family]
    name = "kimi_k3" if dialects.for_model(fixture.models[0]).name == "kimi_k3" else family
    skills = {}
    for tool in fixture.tools:
        function = tool.get("function", tool)
        skills[function["name"]] = function.get("parameters") or {}
    parser = Parser(name, mode="strict", skills=skills, prompt=_prompt(fixture), partial=partial)
    facts: list[Fact] = []
    for chunk in chunks:
        facts += parser.feed(chunk)
    facts += parser.finish("length" if "truncated" in fixture.tags else "stop")
    return _result(facts)


def _streams(text: str) -> Iterator[tuple[str, list[str]]]:
    yield "characters", list(text)
    for cut in range(1, len(text)):
        yield f"cut-{cut}", [text[:cut], text[cut:]]


@cache
def _status(number: int) -> tuple[str, str]:
    fixture = _FIXTURES[number]
    whole = _read(fixture, [fixture.raw_output])
    # Two-way cuts that read like the whole need no checks of their own.
    streams = {"characters": _read(fixture, list(fixture.raw_output))}
    for label, chunks in _streams(fixture.raw_output):
        result = _read(fixture, chunks, partial=False)
        if result != whole:
            streams[label] = result
    rows = run_checks(fixture, _FAMILIES[fixture.family], Observation(whole, streams))
    bad = [f"{row.check} ({row.strategy}): {row.detail}" for row in rows if row.status.value != "pass"]
    return case_status(rows).value if not bad else "fail", "; ".join(bad[:3])


@pytest.mark.parametrize("number", range(len(_FIXTURES)), ids=[fixture.id for fixture in _FIXTURES])
def test_every_check_passes_for_every_cut(number: int) -> None:
    fixture = _FIXTURES[number]
    status, detail = _status(number)
    if fixture.id in CONTRADICTIONS:
        assert status != "pass", "no contradiction any more: take it off the list"
        return
    assert status == "pass", detail


def test_the_table_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    passed: Counter[str] = Counter()
    total: Counter[str] = Counter()
    for number, fixture in enumerate(_FIXTURES):
        total[fixture.family] += 1
        passed[fixture.family] += _status(number)[0] == "pass"
    with capsys.disabled():
        print("\n| family | strict passes |\n|---|---|")
        for family in sorted(total):
            print(f"| {family} | {passed[family]}/{total[family]} |")
        print(f"| all | {passed.total()}/{total.total()} |")
        print("published: " + ", ".join(f"{engine} {figure}" for engine, figure in PUBLISHED.items()))
    assert total.total() == 469
    assert passed.total() == total.total() - len(CONTRADICTIONS)
