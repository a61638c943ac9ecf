"""Each repair by its name: what it mends, that it is told, and that strict mode refuses the same text."""

from __future__ import annotations

import random
from typing import Any

import pytest

from workers.toolcalls import CallClosed, CallVoided, ParseError, Parser, Repaired, merge
from workers.toolcalls.facts import Fact
from workers.toolcalls.repair import near_name

SKILLS = {"search_people": ["title", "location", "limit"], "send_mail": ["to", "body"]}


def read(text: str, *, reason: str = "stop", seed: int | None = None, **options: Any) -> list[Fact]:
    parser = Parser(options.pop("dialect", "json_list"), skills=SKILLS, **options)
    facts: list[Fact] = []
    seeded, rest = random.Random(seed), text
    while rest:
        size = len(rest) if seed is None else seeded.randint(1, 5)
        facts += parser.feed(rest[:size])
        rest = rest[size:]
    return merge(facts + parser.finish(reason))


def plan(arguments: str, name: str = '"search_people"') -> str:
    return f'[{{"name": {name}, "arguments": {arguments}}}]'


# The rule, the plan, the arguments that are meant.
MENDED = [
    ("trailing_comma", plan('{"title": "x",}'), {"title": "x"}),
    ("trailing_comma", plan('{"location": ["x", "y",]}'), {"location": ["x", "y"]}),
    ("trailing_comma", '[{"name": "search_people", "arguments": {}},]', {}),
    ("missing_comma", plan('{"title": "x" "limit": 3}'), {"title": "x", "limit": 3}),
    ("missing_comma", plan('{"location": ["x" "y"]}'), {"location": ["x", "y"]}),
    ("wrong_bracket", plan('{"location": ["x"}, "limit": 2}'), {"location": ["x"], "limit": 2}),
    (
        "single_quotes",
        "[{'name': 'search_people', 'arguments': {'title': 'it\\'s a dev\\'s job'}}]",
        {"title": "it's a dev's job"},
    ),
    ("single_quotes", plan("{'title': 'the dev's job'}"), {"title": "the dev's job"}),
    ("single_quotes", plan("{\"location\": ['a', {'b': 'c'}]}"), {"location": ["a", {"b": "c"}]}),
    ("unquoted_key", plan('{title: "x", limit: 3}'), {"title": "x", "limit": 3}),
    ("unquoted_value", plan('{"title": data engineer, "limit": 3}'), {"title": "data engineer", "limit": 3}),
    ("python_literal", plan('{"title": None, "limit": True}'), {"title": None, "limit": True}),
    ("python_literal", plan('{"location": [True, None]}'), {"location": [True, None]}),
    ("not_a_number", plan('{"limit": NaN, "title": -Infinity}'), {"limit": None, "title": None}),
    ("control_character", plan('{"title": "two\nlines"}'), {"title": "two\nlines"}),
    ("invalid_escape", plan('{"title": "C:\\dir \\\'x\\\'"}'), {"title": "C:\\dir 'x'"}),
    ("lone_surrogate", plan('{"title": "\\ud83d!"}'), {"title": "\ufffd!"}),
    ("duplicate_key", plan('{"limit": 1, "limit": 2}'), {"limit": 2}),
    ("comment", plan('{"location": [1, /* two */ 3] }'), {"location": [1, 3]}),
    ("parameter_name", plan('{"Title": "x", "locaton": "y"}'), {"title": "x", "location": "y"}),
    ("skill_name", plan('{"title": "x"}', '"search-people"'), {"title": "x"}),
    ("skill_name", plan('{"title": "x"}', '"searchPeople"'), {"title": "x"}),
    ("arguments_as_string", plan('"{\\"title\\": \\"x\\", \\"limit\\": 2}"'), {"title": "x", "limit": 2}),
    ("no_arguments", '[{"name": "search_people"}]', {}),
    ("no_arguments", plan("null"), {}),
    ("fenced_block", "```json\n" + plan('{"title": "x"}') + "\n```", {"title": "x"}),
    ("fenced_block", "Here is the plan:\n```\n" + plan('{"title": "x"}') + "\n```\n", {"title": "x"}),
    ("missing_close", plan('{"title": "x", "limit": 12}')[:-3], {"title": "x", "limit": 12}),
    ("missing_close", plan('{"title": "half a wor')[:-2], {"title": "half a wor"}),
    (
        "missing_close",
        plan('{"title": "x", "location": {"a": [1, {"b": "c')[:-2],
        {"title": "x", "location": {"a": [1, {"b": "c"}]}},
    ),
    ("missing_close", plan('{"title": "x", "lim')[:-2], {"title": "x"}),
    ("missing_close", plan('{"title": "x", "limit":')[:-2], {"title": "x"}),
]
# Rules of which strict mode takes the text as it stands (the standard allows it).
ALLOWED = {"lone_surrogate", "duplicate_key", "parameter_name", "skill_name"}


@pytest.mark.parametrize(
    ("rule", "text", "arguments"), MENDED, ids=[f"{rule}-{n}" for n, (rule, _, _) in enumerate(MENDED)]
)
def test_a_rule_mends_and_is_told(rule: str, text: str, arguments: dict[str, Any]) -> None:
    facts = read(text)
    assert rule in {fact.rule for fact in facts if isinstance(fact, Repaired)}
    closed = [fact for fact in facts if isinstance(fact, CallClosed)]
    assert [(fact.name, fact.arguments) for fact in closed] == [("search_people", arguments)]
    assert not [fact for fact in facts if isinstance(fact, ParseError | CallVoided)]
    for seed in range(40):
        assert read(text, seed=seed) == facts


@pytest.mark.parametrize(
    ("rule", "text", "arguments"), MENDED, ids=[f"{rule}-{n}" for n, (rule, _, _) in enumerate(MENDED)]
)
def test_strict_mode_mends_nothing(rule: str, text: str, arguments: dict[str, Any]) -> None:
    facts = read(text, mode="strict")
    assert not [fact for fact in facts if isinstance(fact, Repaired)]
    if rule not in ALLOWED:
        assert [fact for fact in facts if isinstance(fact, ParseError | CallVoided)]
    for seed in range(10):
        assert read(text, mode="strict", seed=seed) == facts


@pytest.mark.parametrize("reason", ["length", "abort", "content_filter", "error"])
@pytest.mark.parametrize("text", [text for rule, text, _ in MENDED if rule == "missing_close"])
def test_a_plan_that_was_cut_off_is_not_mended(reason: str, text: str) -> None:
    facts = read(text, reason=reason)
    assert facts[-1] == CallVoided(0, "cut_off")
    assert "missing_close" not in {fact.rule for fact in facts if isinstance(fact, Repaired)}


def test_a_repair_is_told_once_and_where_it_was() -> None:
    text = plan('{"title": "x",}')
    assert [fact for fact in read(text) if isinstance(fact, Repaired)] == [
        Repaired(0, "trailing_comma", text.index("}"))
    ]


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("search_people", "search_people"),
        ("SearchPeople", "search_people"),
        ("search.people", "search_people"),
        ("serch_people", "search_people"),
        ("search_peoples", "search_people"),
        ("weather", None),
        ("search", None),
        ("", None),
    ],
)
def test_a_slip_has_one_reading_or_none(name: str, meant: str | None) -> None:
    assert near_name(name, ["search_people", "send_mail"]) == meant


def test_names_that_differ_only_in_spelling_have_no_one_reading() -> None:
    assert near_name("sendmail", ["send_mail", "send-mail"]) is None


def test_words_around_a_plan_stay_words() -> None:
    facts = read("I will search.\n" + plan('{"title": "x"}') + "\nDone.")
    assert [type(fact).__name__ for fact in facts].count("Text") == 2
    assert [fact.name for fact in facts if isinstance(fact, CallClosed)] == ["search_people"]
