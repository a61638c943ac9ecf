"""The gate from tokens to deltas, against a plain reading of the whole text: every cut, every place to resume."""

from __future__ import annotations

import itertools
import random

import pytest

from workers.generation.engine import EngineDelta
from workers.generation.text_gate import TextGate


def cut(text: str, places: list[int]) -> list[str]:
    """The text in pieces, cut at sorted places; equal places give empty pieces."""
    bounds = [0, *places, len(text)]
    return [text[start:end] for start, end in itertools.pairwise(bounds)]


def run(gate: TextGate, pieces: list[str], first_id: int = 0) -> list[EngineDelta]:
    """Push pieces, whose ids count up, and take after each; then finish."""
    deltas = []
    for number, piece in enumerate(pieces, start=first_id):
        stopped = gate.push(number, piece)
        delta = gate.take()
        if delta is not None:
            deltas.append(delta)
        if stopped:
            break
    last = gate.finish()
    return [*deltas, last] if last is not None else deltas


def expected(text: str, stop: list[str]) -> str:
    """The text up to the stop string that is complete first; the longer one, of two that end together."""
    for end in range(len(text) + 1):
        begins = [end - len(word) for word in stop if text[:end].endswith(word)]
        if begins:
            return text[: min(begins)]
    return text


TEXTS = ["one STOP two", "no match here", "STOP", "SSTOP", "aSTOSTOPb", "ab", "xxEND", "the enEND of ENDS"]
STOPS: list[list[str]] = [[], ["STOP"], ["STOP", "TOP"], ["END", "ENDS"], ["S"], ["never"]]


@pytest.mark.parametrize("stop", STOPS, ids=str)
@pytest.mark.parametrize("text", TEXTS)
def test_every_two_cuts_give_the_same_text(text: str, stop: list[str]) -> None:
    for first in range(len(text) + 1):
        for second in range(first, len(text) + 1):
            deltas = run(TextGate(stop), cut(text, [first, second]))
            assert "".join(delta.text for delta in deltas) == expected(text, stop)


@pytest.mark.parametrize("stop", STOPS, ids=str)
@pytest.mark.parametrize("text", TEXTS)
def test_delivered_ids_say_the_delivered_text(text: str, stop: list[str]) -> None:
    """At every delta boundary but the last, where a stop string may begin inside a token."""
    pieces = list(text)
    deltas = run(TextGate(stop), pieces)
    said, position = "", 0
    for delta in deltas:
        assert delta.index == position
        said += delta.text
        position += len(delta.ids)
        assert [piece for number in delta.ids for piece in pieces[number]] == list(delta.text)
    assert said == expected(text, stop)


@pytest.mark.parametrize("stop", STOPS, ids=str)
@pytest.mark.parametrize("text", TEXTS)
def test_a_successor_goes_on_from_any_delta(text: str, stop: list[str]) -> None:
    """With the text as it stands in the log and the pieces that follow the logged ids."""
    generator = random.Random(text)
    for _ in range(20):
        pieces = cut(text, sorted(generator.choices(range(len(text) + 1), k=4)))
        deltas = run(TextGate(stop), pieces)
        for count in range(len(deltas) + 1):
            said = "".join(delta.text for delta in deltas[:count])
            logged = sum(len(delta.ids) for delta in deltas[:count])
            unsaid = "".join(pieces[:logged])[len(said) :]
            gate = TextGate(stop, first_index=logged, said=said, unsaid=unsaid)
            after = [] if gate.stopped else run(gate, pieces[logged:], logged)
            if gate.stopped and not after:
                last = gate.finish()
                after = [last] if last is not None else []
            assert said + "".join(delta.text for delta in after) == expected(text, stop)


def test_text_that_cannot_begin_a_stop_string_leaves_at_once() -> None:
    gate = TextGate(["STOP"])
    gate.push(1, "one S")
    assert gate.take() is None
    gate.push(2, "ix T")
    assert gate.take() == EngineDelta("one Six T", [1, 2], 0)


def test_an_open_character_waits_for_its_last_token() -> None:
    gate = TextGate()
    gate.push(1, "a")
    gate.push(2, "")
    assert gate.take() == EngineDelta("a", [1], 0)
    assert gate.take() is None
    gate.push(3, "")
    assert gate.take() is None
    gate.push(4, "🌪")
    assert gate.take() == EngineDelta("🌪", [2, 3, 4], 1)


def test_a_character_left_open_at_the_end_keeps_its_ids() -> None:
    gate = TextGate()
    gate.push(1, "")
    assert gate.take() is None
    assert gate.finish() == EngineDelta("", [1], 0)


def test_a_stop_string_inside_a_token_keeps_what_stands_before_it() -> None:
    gate = TextGate([" two"])
    gate.push(1, "one")
    gate.push(2, "! tw")
    assert gate.take() == EngineDelta("one", [1], 0)
    assert gate.push(3, "o three")
    assert gate.take() == EngineDelta("!", [2], 1)
    assert gate.finish() is None


def test_a_stop_string_that_began_in_the_log_ends_the_answer_with_nothing_more() -> None:
    gate = TextGate(["STOP"], first_index=3, said="what ST")
    assert gate.push(3, "OP now")
    assert gate.take() is None
    assert gate.finish() is None
