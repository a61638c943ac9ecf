"""Each repair by its name: what it mends, that it is told, and that strict mode refuses the same text."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.repair_cases import CASES, Case, plan, read
from workers.toolcalls import CallClosed, CallVoided, ParseError, Repaired
from workers.toolcalls.repair import near_name
from workers.toolcalls.rules import RULES

DOCS = Path(__file__).parents[3] / "docs" / "toolcalls.md"
IDS = [f"{case.dialect}-{case.rule}-{number}" for number, case in enumerate(CASES)]


def test_every_rule_has_a_case_and_stands_in_the_docs() -> None:
    assert RULES.keys() - {case.rule for case in CASES} == set()
    assert {case.rule for case in CASES} - RULES.keys() == set()
    docs = DOCS.read_text(encoding="utf-8")
    assert [rule for rule, mends in RULES.items() if f"| `{rule}` | {mends} |" not in docs] == []


@pytest.mark.parametrize("case", CASES, ids=IDS)
def test_a_rule_mends_and_is_told(case: Case) -> None:
    facts = read(case.text, case.dialect)
    told = {fact.rule for fact in facts if isinstance(fact, Repaired)}
    assert case.rule in told
    assert told <= RULES.keys()
    closed = [fact for fact in facts if isinstance(fact, CallClosed)]
    assert [(fact.name, fact.arguments) for fact in closed] == case.calls
    assert not [fact for fact in facts if isinstance(fact, ParseError | CallVoided)]
    for seed in range(40):
        assert read(case.text, case.dialect, seed=seed) == facts


@pytest.mark.parametrize("case", CASES, ids=IDS)
def test_strict_mode_mends_nothing(case: Case) -> None:
    facts = read(case.text, case.dialect, mode="strict")
    told = {fact.rule for fact in facts if isinstance(fact, Repaired)}
    assert told == ({case.rule} if case.both else set())
    closed = [fact for fact in facts if isinstance(fact, CallClosed)]
    if case.both:
        assert [(fact.name, fact.arguments) for fact in closed] == case.calls
    elif not case.allowed:
        refused = [fact for fact in facts if isinstance(fact, ParseError | CallVoided)]
        assert refused or not closed
    for seed in range(10):
        assert read(case.text, case.dialect, mode="strict", seed=seed) == facts


@pytest.mark.parametrize("reason", ["length", "abort", "content_filter", "error"])
@pytest.mark.parametrize(
    "case", [case for case in CASES if case.rule == "missing_close"], ids=lambda case: case.dialect
)
def test_a_plan_that_was_cut_off_is_not_mended(reason: str, case: Case) -> None:
    facts = read(case.text, case.dialect, reason=reason)
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
