"""Plans as plain JSON lists: what is told, and that no cut of the text changes it."""

from __future__ import annotations

from workers.toolcalls import ArgumentClosed, CallClosed, CallVoided, Parser, Repaired, merge
from workers.toolcalls.facts import Fact

PLAN = '[{"name": "search_people", "arguments": {"title": "data engineer", "limit": 12}}]'


def read(text: str, *, cut: int | None = None, reason: str = "stop") -> list[Fact]:
    parser = Parser("json_list")
    facts: list[Fact] = []
    for chunk in [text] if cut is None else [text[:cut], text[cut:]]:
        facts += parser.feed(chunk)
    return merge(facts + parser.finish(reason))


def test_arguments_close_one_by_one_and_then_their_call() -> None:
    facts = read(PLAN)
    closed = [fact for fact in facts if isinstance(fact, ArgumentClosed)]
    assert [(fact.path, fact.value) for fact in closed] == [(("title",), "data engineer"), (("limit",), 12)]
    assert facts[-1] == CallClosed(
        0, "search_people", {"title": "data engineer", "limit": 12}, '{"title":"data engineer","limit":12}'
    )


def test_every_cut_tells_the_same() -> None:
    whole = read(PLAN)
    for cut in range(len(PLAN) + 1):
        assert read(PLAN, cut=cut) == whole


def test_a_number_closes_by_what_follows_it() -> None:
    parser = Parser("json_list")
    facts = parser.feed('[{"name": "f", "arguments": {"limit": 1')
    assert not [fact for fact in facts if isinstance(fact, ArgumentClosed)]
    assert not [fact for fact in parser.feed("2") if isinstance(fact, ArgumentClosed)]
    assert parser.feed(",")[-1] == ArgumentClosed(0, ("limit",), 12)


def test_a_missing_close_is_mended_only_where_the_model_stopped_by_itself() -> None:
    cut_off = PLAN[:-7]
    facts = read(cut_off)
    assert Repaired(0, "missing_close", len(cut_off)) in facts
    assert isinstance(facts[-1], CallClosed)
    assert read(cut_off, reason="length")[-1] == CallVoided(0, "cut_off")
