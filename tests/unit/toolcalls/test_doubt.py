"""Where a text has two readings: what a repair waits for, what it takes back, and what it leaves alone."""

from __future__ import annotations

import pytest

from tests.support.repair_cases import SKILLS, plan, read, yaml
from workers.toolcalls import ArgumentClosed, ArgumentsDelta, CallClosed, CallVoided, Parser, Repaired, StringPart
from workers.toolcalls.facts import Fact
from workers.toolcalls.json_parts import REREADS_MAX


def closed(facts: list[Fact]) -> list[tuple[object, object]]:
    return [(fact.path[0], fact.value) for fact in facts if isinstance(fact, ArgumentClosed)]


def repairs(facts: list[Fact]) -> list[str]:
    return [fact.rule for fact in facts if isinstance(fact, Repaired)]


def test_a_string_closes_with_its_quote_and_once_more_if_that_was_text() -> None:
    parser = Parser("json_list", skills=SKILLS)
    parser.feed('[{"name": "search_people", "arguments": {"title": "the ')
    assert closed(parser.feed('"')) == [("title", "the ")]
    # `"big"` may still be the next key, before which a quote and a comma are missing.
    assert repairs(parser.feed('big"')) == []
    facts = parser.feed(" o")
    assert repairs(facts) == ["inner_quotes"]
    assert closed(facts) == []
    assert parser.snapshot()[0].arguments == {"title": 'the "big'}
    # From then on a quote ends the string only once what follows shows it.
    assert closed(parser.feed('ne"')) == closed(parser.feed(", ")) == []
    assert closed(parser.feed('"limit":')) == [("title", 'the "big" one')]


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 1000])
def test_a_well_formed_string_closes_once_with_its_quote(size: int) -> None:
    text = plan('{"title": "a \\"b\\" c", "location": "x" , "limit": 3, "open": true\n}')
    parser = Parser("json_list", skills=SKILLS)
    due = {"title": text.index('c"') + 1, "location": text.index('x"') + 1, "limit": text.index("3,") + 1}
    told: dict[object, int] = {}
    facts: list[Fact] = []
    for at in range(0, len(text), size):
        found = parser.feed(text[at : at + size])
        told |= {key: at // size for key, _ in closed(found)}
        facts += found
    assert closed(facts) == [("title", 'a "b" c'), ("location", "x"), ("limit", 3), ("open", True)]
    assert repairs(facts) == []
    assert {key: told[key] for key in due} == {key: place // size for key, place in due.items()}


def test_the_pieces_told_of_a_mended_string_are_its_json() -> None:
    facts = read(plan('{"title": "the "big" one", "limit": 3}'))
    told = "".join(fact.text for fact in facts if isinstance(fact, ArgumentsDelta))
    assert told == '{"title":"the \\"big\\" one","limit":3}'
    assert "".join(fact.text for fact in facts if isinstance(fact, StringPart)) == 'the "big" one'


@pytest.mark.parametrize(
    "arguments",
    [
        # A key may begin where the quote stands.
        '{"title": "x, "limit": 3}',
        '{"title": "say "note": it", "limit": 3}',
        '{"title": "x), "limit": 3}',
        # Nothing ends the string.
        '{"title": "the "big" one}',
        '{"title": "a "b" c',
        '{"title": "a "b',
        '{"location": ["a "b" c}',
    ],
)
def test_quotes_with_two_readings_void_the_call(arguments: str) -> None:
    text = plan(arguments)
    facts = read(text)
    assert [type(fact) for fact in facts if isinstance(fact, CallClosed | CallVoided)] == [CallVoided]
    for seed in range(20):
        assert read(text, seed=seed) == facts


def test_a_broken_string_costs_only_its_own_call() -> None:
    body = '<tool_call>{"name": "search_people", "arguments": {"title": "the "big" one}}</tool_call>'
    whole = '<tool_call>{"name": "search_people", "arguments": {"limit": 2}}</tool_call>'
    facts = read(whole + body + whole, "hermes")
    assert [fact.arguments for fact in facts if isinstance(fact, CallClosed)][:1] == [{"limit": 2}]
    assert [fact.call for fact in facts if isinstance(fact, CallVoided)] == [1]


def test_a_container_whose_end_an_odd_quote_hides_is_read_at_the_end() -> None:
    parser = Parser("json_list", skills=SKILLS)
    assert closed(parser.feed(plan('{"location": ["5" wide"], "limit": 3}'))) == []
    assert closed(parser.finish("stop")) == [("location", ['5" wide']), ("limit", 3)]


def test_only_so_many_hidden_ends_are_looked_for() -> None:
    calls = ", ".join(['{"name": "search_people", "arguments": {"location": ["5" wide"]}}'] * (REREADS_MAX + 4))
    facts = read(f"[{calls}]")
    found = [fact for fact in facts if isinstance(fact, CallClosed)]
    assert len(found) == REREADS_MAX
    assert all(fact.arguments == {"location": ['5" wide']} for fact in found)
    assert [type(fact) for fact in facts][-1] is CallVoided


@pytest.mark.parametrize(
    "lines",
    [
        # One text, or not all of them, in typographic quotes; two of them in one.
        ["title: “draft”"],
        ["title: “draft”", "limit: 3"],
        ["title: “draft”", "location: Oslo"],
        ["title: Oslo", "location: “draft”"],
        ["title: “draft”", 'location: "“draft”"'],
        ["title: “a” and “b”", "location: “c” and “d”"],
        # A comma at the end of text, and nothing that shows it to be a mark.
        ["title: Dear Anna,"],
        ["title: Dear Anna,", "location: Hello,"],
        ["title: Dear Anna,", "location: Hello,", "limit: 3"],
        ["title: Dear Anna", "location: Hello,"],
        # A comma that is none of the value, without one behind an earlier argument.
        ["location: 12", "title: 12 people,"],
    ],
)
def test_marks_that_may_be_text_are_text(lines: list[str]) -> None:
    text = yaml(*lines)
    facts, strict = read(text, "yaml_plan"), read(text, "yaml_plan", mode="strict")
    assert repairs(facts) == []
    assert sorted(map(str, closed(facts))) == sorted(map(str, closed(strict)))
    assert [fact.arguments for fact in facts if isinstance(fact, CallClosed)] == [
        fact.arguments for fact in strict if isinstance(fact, CallClosed)
    ]


def test_only_an_argument_with_a_mark_waits() -> None:
    parser = Parser("yaml_plan", skills=SKILLS)
    assert closed(parser.feed("- name: search_people\n  arguments:\n    title: Oslo,\n    l")) == []
    assert closed(parser.feed("ocation: Berlin\n    l")) == [("location", "Berlin")]
    assert closed(parser.feed("imit: 3\n- ")) == [("title", "Oslo,"), ("limit", 3)]


def test_a_mark_is_certain_with_the_first_value_that_shows_it() -> None:
    parser = Parser("yaml_plan", skills=SKILLS)
    assert closed(parser.feed("- name: search_people\n  arguments:\n    title: Oslo,\n    limit: 3,\n    l")) == [
        ("title", "Oslo"),
        ("limit", 3),
    ]
    assert closed(parser.feed("ocation: Berlin,\n- ")) == [("location", "Berlin")]


def test_a_list_that_is_not_closed_leaves_the_next_argument_alone() -> None:
    facts = read(yaml("location: [a, b", "limit: 3"), "yaml_plan")
    assert closed(facts) == [("location", ["a", "b"]), ("limit", 3)]
