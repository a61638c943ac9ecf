"""The YAML reader: agrees with PyYAML on what both read alike, whatever the style and the cut; scalars, paths, limits,
and when a value counts as closed."""

from __future__ import annotations

import random
import re
from collections.abc import Hashable
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from workers.toolcalls import ArgumentClosed, ArgumentsDelta, Limits, ParseError, Repaired, StringPart, merge
from workers.toolcalls.facts import Fact
from workers.toolcalls.push_yaml import PushYaml


def read(text: str, *, seed: int | None = None, **options: Any) -> list[Fact]:
    parser = PushYaml(**options)
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


def value_of(text: str, **options: Any) -> Any:
    """The document's value; raises ValueError where it was refused. Every way of reading it must tell the same."""
    facts = read(text, **options)
    for seed in range(3):
        assert merge(read(text, seed=seed, **options)) == merge(facts)
    for fact in facts:
        if isinstance(fact, ParseError):
            raise ValueError(f"{fact.code} at {fact.position}: {fact.message}")
    return next(fact.value for fact in facts if isinstance(fact, ArgumentClosed) and not fact.path)


class Emitter(yaml.SafeDumper):
    """Writes as PyYAML does, without aliases."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


class Core(yaml.SafeLoader):
    """PyYAML with the scalars of this reader: YAML 1.2's words, JSON's numbers, all else text."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """Keys are text as written."""
        return {key.value: self.construct_object(value, deep=True) for key, value in node.value}


Core.yaml_implicit_resolvers = {}


for tag, pattern, first in (
    ("null", r"^(?:~|null|Null|NULL|)$", ["~", "n", "N", ""]),
    ("bool", r"^(?:true|True|TRUE|false|False|FALSE)$", list("tTfF")),
    ("int", r"^-?(?:0|[1-9][0-9]*)$", list("-0123456789")),
    ("float", r"^-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?$", list("-0123456789")),
):
    Core.add_implicit_resolver(f"tag:yaml.org,2002:{tag}", re.compile(pattern), first)


# Printable characters that no YAML reader treats as a line end of its own.
CHARACTERS = st.characters(codec="utf-8", exclude_categories=["Cc", "Cs", "Zl", "Zp"], exclude_characters="\x85\ufeff")
TEXTS = st.one_of(
    st.text(CHARACTERS, max_size=12),
    st.text(st.sampled_from("ab \n:#-'\"{}[],&*!|>%@`?\\yn01.~é😀“”"), max_size=16),
    st.sampled_from(
        ["yes", "null", "~", "012", "1:30", "2024-01-31", "0x1f", "1_000", "- a", "a: b", "a #b", "", "on"]
    ),
)
KEYS = st.one_of(st.from_regex(r"[a-z_]{1,8}", fullmatch=True), st.text(CHARACTERS, min_size=1, max_size=6))
DOCUMENTS = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), TEXTS),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(KEYS, inner, max_size=4)),
    max_leaves=14,
)


@settings(max_examples=400, deadline=None)
@given(
    document=DOCUMENTS,
    flow=st.sampled_from([None, False, True]),
    style=st.sampled_from([None, '"', "'", "|", ">"]),
    width=st.sampled_from([20, 80, 10_000]),
    indent=st.sampled_from([2, 4]),
)
def test_documents_have_the_value_that_was_written(
    document: Any, flow: bool | None, style: str | None, width: int, indent: int
) -> None:
    text = yaml.dump(
        document,
        Dumper=Emitter,
        default_flow_style=flow,
        default_style=style,
        width=width,
        indent=indent,
        allow_unicode=True,
        sort_keys=False,
    )
    if "!!" in text or "? " in text:
        return  # tags and complex keys are outside the subset
    expected = yaml.load(text, Loader=Core)
    assert value_of(text) == expected
    assert value_of(text, mode="repair") == expected
    facts = read(text, mode="repair")
    assert [fact for fact in facts if isinstance(fact, Repaired)] == []


@pytest.mark.parametrize(
    ("scalar", "value"),
    [
        ("yes", "yes"),
        ("No", "No"),
        ("on", "on"),
        ("~", None),
        ("", None),
        ("Null", None),
        ("TRUE", True),
        ("3", 3),
        ("-0.5", -0.5),
        ("1e3", 1000.0),
        ("012", "012"),
        ("+47", "+47"),
        ("0x1f", "0x1f"),
        ("0o17", "0o17"),
        ("1_000", "1_000"),
        ("12:30", "12:30"),
        ("2024-01-31", "2024-01-31"),
        (".5", ".5"),
        ("1.", "1."),
        ("None", "None"),
        ("a b  c", "a b  c"),
        ("a#b", "a#b"),
        ("a # b", "a"),
        ("http://x/y?z=1", "http://x/y?z=1"),
        ("12345678901234567890123", 12345678901234567890123),
        ("'it''s'", "it's"),
        ('"\\u00e9\\x41\\n"', "éA\n"),
        ('"\\ud83d\\ude00"', "😀"),
        ("'3'", "3"),
        ("[a, 'b', 3]", ["a", "b", 3]),
        ("{a: 1, b: {c: }}", {"a": 1, "b": {"c": None}}),
        ("-a", "-a"),
        ("?x", "?x"),
        ("a: b", ValueError),
        ("*a", ValueError),
        ("@a", ValueError),
        (".inf", ValueError),
        ('"a" b', ValueError),
        ("[a", ValueError),
        ("- a", ValueError),
    ],
)
def test_what_a_scalar_means(scalar: str, value: Any) -> None:
    text = f"k: {scalar}\nz: 1\n"
    if value is ValueError:
        with pytest.raises(ValueError, match="invalid_yaml"):
            value_of(text)
    else:
        found = value_of(text)["k"]
        assert found == value
        assert type(found) is type(value)


@pytest.mark.parametrize(
    "text",
    [
        "a: |\n  x\n   y\n\n  z\n\nb: 1\n",
        "a: |-\n  x\n\n",
        "a: |+\n  x\n\n\nb: 1\n",
        "a: >\n  x\n  y\n\n  z\n    w\n  v\n",
        "a: >-\n\n  x\n  y\n",
        "a: |2\n    x\n  y\n",
        "a: |\n  x",
        "a: |",
        "a: |\nb: 1\n",
        "- |\n x\n-\n- - a\n  - b\n-\n  c: d\n",
        "a:\n- x\n- y\nb:\n  - z\n",
        "a: x\n  y\n\n  z\nb: 1\n",
        "# c\na: 1 # d\n\n  # e\nb: 2\n",
        "---\na: 1\n...\n",
        'a: "x\n  y\n\n  z\\\n  w"\nb: 1\n',
        "a: 'x\n  y'\n",
        "a: {b: 1,\n  c: [x,\n  y]}\nd: 2\n",
        "a:\n  b:\n    c:\n  d: 1\n",
        "\"a b\": 1\n'c': 2\nd e: 3\n",
        "- a: 1\n  b: 2\n- a: 3\n",
        "a:\r\n  b: x\r\n  c: y\r\n",
        "a: \n  b\n",
        'a:\n  "x"\n',
        "text\n",
        "- [a, {b: c}]\n- {}\n- []\n",
        "a: [x: 1, y]\n",
        "a: x:y\n",
        "a: 'b: c'\nd: \"e # f\"\n",
        "a: >\n  x\n\n\n   y\n  z\n",
        "a: |\n  # x\n  y\n",
    ],
)
def test_pyyaml_reads_the_same(text: str) -> None:
    assert value_of(text) == yaml.load(text, Loader=Core)
    assert not [fact for fact in read(text, mode="repair") if isinstance(fact, Repaired)]


def closed(facts: list[Fact]) -> list[tuple[Any, Any]]:
    return [(fact.path, fact.value) for fact in facts if isinstance(fact, ArgumentClosed)]


def test_a_plain_scalar_closes_with_the_head_of_the_next_line() -> None:
    parser = PushYaml()
    assert closed(parser.feed("limit: 1")) == []
    assert closed(parser.feed("2\n")) == []
    assert closed(parser.feed("   ")) == []
    assert closed(parser.feed("3\nc")) == [(("limit",), "12 3")]


def test_a_quoted_scalar_closes_with_its_line() -> None:
    parser = PushYaml()
    assert closed(parser.feed('city: "Os')) == []
    assert closed(parser.feed('lo"')) == []
    assert closed(parser.feed("\n")) == [(("city",), "Oslo")]


def test_literal_text_is_told_line_by_line() -> None:
    parser = PushYaml()
    parts = [
        "".join(fact.text for fact in parser.feed(line) if isinstance(fact, StringPart))
        for line in ("body: |\n", "  Dear all,\n", "\n", "  bye\n", "x: 1\n")
    ]
    assert parts == ["", "Dear all,", "", "\n\nbye", "\n"]


def test_a_text_cut_off_closes_nothing_that_was_open() -> None:
    parser = PushYaml(mode="repair")
    facts = parser.feed("a: 1\nb: half") + parser.finish("length")
    assert closed(facts) == [(("a",), 1)]
    assert [fact.code for fact in facts if isinstance(fact, ParseError)] == ["cut_off"]


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("a:\n  " + "- " * 70 + "x\n", "too_deep"),
        ("a: " + "[" * 70, "too_deep"),
        ("a: " + "x" * 2000 + "\n", "too_large"),
        ('a: "' + "x\n " * 1000 + '"\n', "too_large"),
        ("a: |\n" + "  x\n" * 1000, "too_large"),
        ("a:\n" + "  - x\n" * 1000, "too_large"),
        ("a: {" + "x: 1,\n" * 1000 + "}\n", "too_large"),
    ],
)
@pytest.mark.parametrize("seed", [None, 1])
def test_limits_are_errors(text: str, code: str, seed: int | None) -> None:
    facts = read(text, seed=seed, limits=Limits(depth=64, arguments_size=1000))
    assert [fact.code for fact in facts if isinstance(fact, ParseError)] == [code]


def test_the_told_json_is_the_value() -> None:
    facts = read("a: x\nb: |\n  é\nc:\n  - 1\n")
    told = "".join(fact.text for fact in facts if isinstance(fact, ArgumentsDelta))
    assert told == '{"a":"x","b":"é\\n","c":[1]}'
