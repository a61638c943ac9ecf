"""Rolling summaries: what stays, what goes, and the budget."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from memory.selection import tokens_of
from streams.events.recalling import HistoryMessage
from workers.remembering import summarising
from workers.remembering.summarising import EVERY_TURNS, KEPT_TURNS, SUMMARY_TOKENS


def talk(*said: str) -> list[HistoryMessage]:
    return [HistoryMessage(role="user", text=text, turn=f"t{number}") for number, text in enumerate(said)]


def test_turns_are_folded_in_groups_and_the_newest_stay() -> None:
    assert summarising.turns_to_fold(KEPT_TURNS + EVERY_TURNS - 1) == 0
    assert summarising.turns_to_fold(KEPT_TURNS + EVERY_TURNS) == EVERY_TURNS
    assert summarising.turns_to_fold(200) == 200 - KEPT_TURNS


def test_a_fact_outlives_any_number_of_questions() -> None:
    summary = summarising.summary_by_rule("", talk("My dog is called Rex.", "How are you?"))
    for number in range(50):
        questions = talk(*(f"What about the rather long question number {number} of {each}?" for each in range(8)))
        summary = summarising.summary_by_rule(summary, questions)
    assert "user: My dog is called Rex." in summary.splitlines()
    assert "How are you?" not in summary


def test_what_was_said_twice_stands_once_and_tools_are_left_out() -> None:
    messages = [*talk("I live in Bern.", "I live in Bern."), HistoryMessage(role="tool", text="search() → []")]
    assert summarising.summary_by_rule("", messages) == "user: I live in Bern."


@given(st.text(max_size=2_000), st.lists(st.text(max_size=800), max_size=12))
def test_a_summary_never_exceeds_its_budget(before: str, said: list[str]) -> None:
    summary = summarising.summary_by_rule(before, talk(*said))
    assert sum(tokens_of(line) for line in summary.splitlines()) <= SUMMARY_TOKENS * 2
    assert len(summary) <= SUMMARY_TOKENS * 4


def test_a_models_summary_is_cut_at_a_sentence_and_refused_when_it_says_nothing() -> None:
    long = "Ada lives in Bern and looks for a flat near the river. " * 40
    kept = summarising.believed(long)
    assert kept.endswith("river.")
    assert tokens_of(kept) <= SUMMARY_TOKENS
    assert summarising.believed("  ok  ") == ""
    assert summarising.believed("") == ""


def test_the_model_is_given_the_summary_and_the_new_turns_within_bounds() -> None:
    given_text = summarising.material("user: I live in Bern.", talk("x" * 9_000, *("more" for _ in range(900))))
    assert given_text.startswith("Summary so far:\nuser: I live in Bern.")
    assert len(given_text) < 5_000
    messages, sampling = summarising.question(given_text)
    assert messages[-1].content == given_text
    assert sampling.json_schema is None
