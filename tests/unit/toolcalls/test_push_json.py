"""The JSON reader: strict mode agrees with Python's `json`; paths, limits, and values that are not closed yet."""

from __future__ import annotations

import json
import math
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workers.toolcalls import ArgumentClosed, ArgumentsDelta, Limits, ParseError, PushJson, StringPart, merge
from workers.toolcalls.facts import Fact


def read(text: str, *, seed: int | None = None, **options: Any) -> list[Fact]:
    parser = PushJson(**options)
    facts: list[Fact] = []
    if seed is None:
        facts += parser.feed(text)
    else:
        rest, seeded = text, random.Random(seed)
        while rest:
            size = seeded.randint(1, 7)
            facts += parser.feed(rest[:size])
            rest = rest[size:]
    return facts + parser.finish()


def value_of(facts: list[Fact]) -> Any:
    """The document's value; raises ValueError where it was refused."""
    if any(isinstance(fact, ParseError) for fact in facts):
        raise ValueError(next(fact.message for fact in facts if isinstance(fact, ParseError)))
    return next(fact.value for fact in facts if isinstance(fact, ArgumentClosed) and not fact.path)


def python_value(text: str) -> Any:
    def refuse(name: str) -> Any:
        raise ValueError(name)

    return json.loads(text, parse_constant=refuse)


def same(left: Any, right: Any) -> bool:
    """Equal in value and type, all the way down."""
    if type(left) is not type(right):
        return False
    if isinstance(left, dict):
        return list(left) == list(right) and all(same(left[key], right[key]) for key in left)
    if isinstance(left, list):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, float):
        return left == right and math.copysign(1, left) == math.copysign(1, right)
    return bool(left == right)


NUMBERS = st.one_of(
    st.integers(),
    st.integers(min_value=-(10**60), max_value=10**60),
    st.floats(allow_nan=False, allow_infinity=False),
)
DOCUMENTS = st.recursive(
    st.one_of(st.none(), st.booleans(), NUMBERS, st.text()),
    lambda inner: st.one_of(st.lists(inner, max_size=5), st.dictionaries(st.text(), inner, max_size=5)),
    max_leaves=20,
)
# Pieces out of which texts are made that are nearly JSON.
WORDS = (
    'true false null NaN Infinity -Infinity "a" "k": \\u \\ud83d \\ude00 \\n \\x é 01 1. -0 1e5 1E+5 0.1e-2 1e400 😀'
)
PIECES = st.sampled_from([*'{}[],:"\\ \n\t-+.eE019abtfn/', "\x00", "\x7f", "\u2028", "'", *WORDS.split()])


@settings(max_examples=300, deadline=None)
@given(document=DOCUMENTS, ascii_only=st.booleans(), indent=st.sampled_from([None, 0, 2]), depth=st.integers(0, 4))
def test_documents_have_the_value_that_python_reads(
    document: Any, ascii_only: bool, indent: int | None, depth: int
) -> None:
    text = json.dumps(document, ensure_ascii=ascii_only, indent=indent)
    expected = python_value(text)
    whole = read(text, depth=depth)
    assert same(value_of(whole), expected)
    assert merge(read(text, depth=depth, seed=len(text))) == merge(whole)
    told = "".join(fact.text for fact in whole if isinstance(fact, ArgumentsDelta))
    assert same(python_value(told), expected)
    # What is JSON is never mended, with any space in it and however it is cut.
    assert read(text, depth=depth, mode="repair") == whole
    assert merge(read(text, depth=depth, mode="repair", seed=len(text))) == merge(whole)


@settings(max_examples=1500, deadline=None)
@given(pieces=st.lists(PIECES, max_size=12), depth=st.integers(0, 3), partial=st.booleans())
def test_strict_mode_accepts_what_python_accepts(pieces: list[str], depth: int, partial: bool) -> None:
    text = "".join(pieces)
    try:
        expected = python_value(text)
    except ValueError:
        with pytest.raises((ValueError, StopIteration)):
            value_of(read(text, depth=depth, partial=partial))
        with pytest.raises((ValueError, StopIteration)):
            value_of(read(text, depth=depth, partial=partial, seed=1))
    else:
        assert same(value_of(read(text, depth=depth, partial=partial)), expected)
        assert same(value_of(read(text, depth=depth, partial=partial, seed=1)), expected)


@pytest.mark.parametrize("wrap", ["{}", "[{}]", '{{"a":{}}}', '{{"a":[[{}]]}}'])
@pytest.mark.parametrize("digits", [18, 19, 20, 4300, 4301])
def test_integers_are_exact_up_to_pythons_own_limit(wrap: str, digits: int) -> None:
    text = wrap.format("7" * digits)
    if digits > 4300:
        with pytest.raises(ValueError, match="limit"):
            python_value(text)
        assert [fact.code for fact in read(text) if isinstance(fact, ParseError)] in (
            ["number_too_long"],
            ["invalid_json"],
        )
    else:
        assert same(value_of(read(text, seed=3)), python_value(text))


@pytest.mark.parametrize("text", ['"\\ud800"', '["\\udc00x"]', '{"a":"\\ud83dx"}', '"\ud800"', '{"\\ud800":1}'])
def test_lone_surrogates_are_kept_in_strict_mode_and_replaced_in_repair_mode(text: str) -> None:
    assert same(value_of(read(text, seed=2)), python_value(text))
    told = "".join(fact.text for fact in read(text) if isinstance(fact, ArgumentsDelta))
    assert told.encode()
    assert "\N{REPLACEMENT CHARACTER}" in json.dumps(value_of(read(text, mode="repair")), ensure_ascii=False)


def test_of_a_key_written_twice_the_later_value_counts() -> None:
    facts = read('{"a": 1, "a": 2}')
    assert [(fact.path, fact.value) for fact in facts if isinstance(fact, ArgumentClosed)] == [
        (("a",), 1),
        (("a",), 2),
        ((), {"a": 2}),
    ]


def test_values_down_to_the_depth_close_with_their_paths() -> None:
    facts = read('{"a": [1, {"b": "x"}], "c": {}}', depth=3)
    assert [(fact.path, fact.value) for fact in facts if isinstance(fact, ArgumentClosed)] == [
        (("a", 0), 1),
        (("a", 1, "b"), "x"),
        (("a", 1), {"b": "x"}),
        (("a",), [1, {"b": "x"}]),
        (("c",), {}),
        ((), {"a": [1, {"b": "x"}], "c": {}}),
    ]


def test_a_string_is_told_as_it_comes_and_never_half_a_character() -> None:
    parser = PushJson()
    parts: list[str] = []
    for character in '{"a": "x\\ud83d\\ude00\\n\\u00e9"}':
        parts += [fact.text for fact in parser.feed(character) if isinstance(fact, StringPart)]
    assert parts == ["x", "😀", "\n", "é"]


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("[" * 70, "too_deep"),
        ('{"a":' * 70, "too_deep"),
        ('{"a": "' + "x" * 2000 + '"}', "too_large"),
        ('{"a": ["' + "x" * 2000 + '"]}', "too_large"),
        ("1" * 2000, "too_large"),
        ("[" + " " * 2000, "too_large"),
        ('{"' + "x" * 2000 + '":1}', "too_large"),
    ],
)
@pytest.mark.parametrize("seed", [None, 1])
@pytest.mark.parametrize("partial", [True, False])
def test_limits_are_errors(text: str, code: str, seed: int | None, partial: bool) -> None:
    facts = read(text, seed=seed, partial=partial, depth=100, limits=Limits(depth=64, arguments_size=1000))
    assert [fact.code for fact in facts if isinstance(fact, ParseError)] == [code]


def test_the_position_of_an_error_is_where_the_text_breaks() -> None:
    text = '{"a": 1, "b": tru}'
    errors = [fact for fact in read(text, seed=1) if isinstance(fact, ParseError)]
    assert [(fact.position, fact.code) for fact in errors] == [(14, "invalid_value")]
