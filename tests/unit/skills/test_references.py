"""References between calls of one plan: what is one, what stays text, and what each failure is called."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.errors import InvalidInput
from workers.skills.references import GRAMMAR_PATTERN, PATTERN, Reference, find, resolve

RESULTS = {0: '{"items":[{"id":7,"first name":"Ada"}],"total":1}', 1: "42", 2: '{"text":"cut of'}


def test_find_names_where_each_reference_stands() -> None:
    arguments = {"a": "$1.items[0].id", "b": ["x", {"c": "$2"}], "d": 5}
    assert find(arguments, call=2) == (
        Reference(("a",), 0, ("items", 0, "id")),
        Reference(("b", 1, "c"), 1, ()),
    )
    assert [reference.text for reference in find(arguments, call=2)] == ["$1.items[0].id", "$2"]


@pytest.mark.parametrize(
    ("text", "call", "resolved"),
    [
        ("$1.items[0].id", 1, 7),
        ('$1.items[0]["first name"]', 1, "Ada"),
        ("$1.total", 5, 1),
        ("$2", 2, 42),
        ("$20", 0, "$20"),
        ("$1", 0, "$1"),
        ("$2", 1, "$2"),
        ("$$1", 5, "$1"),
        ("$$$", 5, "$$"),
        ("costs $1.total", 5, "costs $1.total"),
        ("$1.50", 5, "$1.50"),
        ("$1.items[0", 5, "$1.items[0"),
        ("$0.a", 5, "$0.a"),
        ("$", 5, "$"),
        ("", 5, ""),
    ],
)
def test_resolve(text: str, call: int, resolved: Any) -> None:
    assert resolve({"x": text, "y": [{"z": text}]}, RESULTS, call) == {"x": resolved, "y": [{"z": resolved}]}


def test_resolve_leaves_its_argument_alone() -> None:
    arguments = {"x": ["$1.total"]}
    assert resolve(arguments, RESULTS, 1) == {"x": [1]}
    assert arguments == {"x": ["$1.total"]}


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("$4.a", "reference_unanswered"),
        ("$3.text", "reference_unreadable"),
        ("$1.items[1].id", "reference_not_found"),
        ("$1.items.id", "reference_not_found"),
        ("$1.total.x", "reference_not_found"),
        ("$2.value", "reference_not_found"),
        ("$9.a", "reference_not_earlier"),
    ],
)
def test_each_failure_has_its_code_and_names_the_argument(text: str, code: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        resolve({"outer": {"inner": text}}, RESULTS, 8)
    assert (caught.value.code, caught.value.facts["argument"]) == (code, "outer.inner")


def test_find_refuses_a_reference_to_a_later_call() -> None:
    with pytest.raises(InvalidInput) as caught:
        find({"a": "$2.id"}, call=1)
    assert caught.value.code == "reference_not_earlier"


members = st.one_of(st.integers(0, 99), st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,8}", fullmatch=True))


@given(call=st.integers(0, 98), steps=st.lists(st.one_of(members, st.text(max_size=5)), max_size=4))
def test_text_and_find_are_inverse(call: int, steps: list[Any]) -> None:
    reference = Reference(("a",), call, tuple(steps))
    assert find({"a": reference.text}) == (reference,)
    assert re.fullmatch(PATTERN, reference.text)


@given(call=st.integers(0, 98), steps=st.lists(members, min_size=1, max_size=4))
def test_what_the_grammar_allows_is_a_reference(call: int, steps: list[Any]) -> None:
    text = Reference(("a",), call, tuple(steps)).text
    assert re.fullmatch(GRAMMAR_PATTERN, text)


@given(st.text())
def test_any_other_text_goes_through_or_is_named(text: str) -> None:
    arguments = {"a": text}
    if not text.startswith("$"):
        assert resolve(arguments, {}) == arguments
