"""Ranking of memories, with scores worked out by hand where they are asserted."""

from __future__ import annotations

import msgspec
import pytest

from memory.recall import ALIKE, DAY_MS, HALF_LIFE_MS, LOWEST_SCORE, OLD, QUESTION, UNRELATED, rank
from memory.rows import Candidate

NOW_MS = 1_000 * DAY_MS
BUDGET = 1_000


def candidate(name: str, text: str, similarity: float | None = 0.5, **more: object) -> Candidate:
    made = Candidate(id=name, layer="conversation", text=text, at_ms=NOW_MS, similarity=similarity, speaker="user")
    return msgspec.structs.replace(made, **more)


def names(candidates: list[Candidate], query: str = "zebra", budget: int = BUDGET) -> list[str]:
    return [item.id for item in rank(candidates, query, NOW_MS, budget)]


def test_a_memory_alike_in_meaning_and_words_has_the_whole_score() -> None:
    [item] = rank([candidate("m", "a zebra", ALIKE, turn="turn_1", layer="fact")], "zebra", NOW_MS, BUDGET)
    assert item.score == pytest.approx(1.0)
    assert (item.id, item.layer, item.text, item.source_turn, item.at_ms) == ("m", "fact", "a zebra", "turn_1", NOW_MS)
    assert item.why == f"meaning {ALIKE:.2f}, words 1.00, with context 1.00, 0.0 days old"


def test_meaning_and_words_each_find() -> None:
    found = names([
        candidate("meaning", "a striped horse", 0.7), candidate("words", "the zebra sleeps", None),
        candidate("both", "zebra herd", 0.7), candidate("neither", "tea time", UNRELATED),
    ])  # fmt: skip
    assert found[0] == "both"
    assert set(found[1:]) == {"meaning", "words"}


def test_a_rare_word_counts_more_than_one_that_all_hold() -> None:
    found = names(
        [
            candidate("rare", "city Zurich", 0.3),
            candidate("common", "city lights", 0.3),
            candidate("x", "city map", 0.3),
        ],
        "which city, Zurich?",
    )
    assert found[0] == "rare"


def test_what_was_said_before_finds_a_memory_too() -> None:
    found = names(
        [candidate("asked", "For three years now", 0.3, context="user: since when do you ride?"),
         candidate("other", "For two weeks only", 0.3, context="user: is it open?")],
        "How long have I been riding",
    )  # fmt: skip
    assert found[0] == "asked"


def test_the_forms_of_a_word_are_one() -> None:
    assert names([candidate("m", "I lived with two dogs", None)], "living with a dog") == ["m"]


@pytest.mark.parametrize("age_ms", [0, HALF_LIFE_MS, 20 * HALF_LIFE_MS])
def test_freshness_halves_its_part_each_half_life(age_ms: int) -> None:
    [item] = rank([candidate("m", "zebra", ALIKE, at_ms=NOW_MS - age_ms)], "zebra", NOW_MS, BUDGET)
    assert item.score == pytest.approx(OLD + (1 - OLD) * 0.5 ** (age_ms / HALF_LIFE_MS), abs=1e-4)


def test_what_is_no_longer_or_not_yet_valid_is_left_out() -> None:
    found = names([
        candidate("holds", "zebra one", valid_to_ms=NOW_MS + 1), candidate("ended", "zebra two", valid_to_ms=NOW_MS),
        candidate("replaced", "zebra three", superseded_by="holds"),
        candidate("future", "zebra four", valid_from_ms=NOW_MS + 1),
    ])  # fmt: skip
    assert found == ["holds"]


def test_a_question_once_asked_stands_behind_its_answer() -> None:
    items = rank(
        [
            candidate("asked", "What do you think my zebra is called?", 0.79),
            candidate("told", "My zebra is called Kim", 0.7),
        ],
        "What is my zebra called?", NOW_MS, BUDGET,
    )  # fmt: skip
    assert [item.id for item in items] == ["told", "asked"]
    assert "a question" in items[1].why
    assert QUESTION < 1
    [mixed] = rank([candidate("m", "My zebra is Kim. And yours?")], "zebra", NOW_MS, BUDGET)
    assert "a question" not in mixed.why


def test_confidence_and_speaker_show() -> None:
    items = rank(
        [candidate("sure", "zebra a", ALIKE), candidate("unsure", "zebra b", ALIKE, confidence=0.5, speaker="billing")],
        "zebra", NOW_MS, BUDGET,
    )  # fmt: skip
    assert [item.id for item in items] == ["sure", "unsure"]
    assert items[1].text == "billing: zebra b"
    assert "confidence 0.50" in items[1].why
    assert items[1].score == pytest.approx(items[0].score / 2, abs=1e-3)


def test_what_says_nothing_to_the_question_is_not_recalled() -> None:
    unrelated = candidate("m", "tea", UNRELATED + (ALIKE - UNRELATED) * (LOWEST_SCORE * 0.9) * 3)
    assert names([unrelated]) == []
    assert names([]) == []
    assert names([candidate("m", "", -1.0)], query="") == []


def test_the_order_given_does_not_matter() -> None:
    many = [candidate(f"m{n}", f"zebra number {n * 7 % 5}", 0.2 + n % 3 / 10) for n in range(20)]
    assert names(many) == names(many[::-1])
