"""What fits into the prompt."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memory.selection import Scored, content_words, select, stem, tokens_of


def test_the_best_come_first_until_the_budget_is_spent() -> None:
    items = [Scored("low", "alpha beta", 0.2), Scored("high", "gamma delta", 0.9), Scored("mid", "eta theta", 0.5)]
    each = tokens_of("alpha beta")
    assert select(items, 3 * each) == ["high", "mid", "low"]
    assert select(items, 3 * each - 2) == ["high", "mid"]
    assert select(items, 0) == []


def test_one_that_does_not_fit_gives_way_to_a_shorter_one() -> None:
    items = [Scored("long", "word " * 100, 0.9), Scored("short", "brief", 0.2)]
    assert select(items, tokens_of("brief")) == ["short"]


def test_a_repetition_is_left_out_and_a_near_one_goes_behind() -> None:
    items = [
        Scored("first", "Ada lives in Bern", 0.9), Scored("again", "in Bern lives Ada", 0.8),
        Scored("near", "Ada lives in Basel", 0.6), Scored("other", "the cat is red", 0.5),
    ]  # fmt: skip
    assert select(items, 1_000) == ["first", "other", "near"]


@pytest.mark.parametrize("forms", [
    ("dog", "dogs"), ("live", "lives", "lived", "living"), ("story", "stories"), ("name", "names", "named", "naming"),
    ("walk", "walked", "walking", "walks"),
])  # fmt: skip
def test_stem_maps_a_words_forms_to_one(forms: tuple[str, ...]) -> None:
    assert len({stem(form) for form in forms}) == 1


def test_content_words_leave_out_what_carries_no_meaning() -> None:
    assert content_words("What is the name of my Dogs?") == {"nam", "dog"}


@given(st.lists(st.tuples(st.text(max_size=40), st.floats(0, 1)), max_size=30), st.integers(-5, 200))
def test_the_budget_is_never_exceeded_and_nothing_comes_twice(rows: list[tuple[str, float]], budget: int) -> None:
    items = [Scored(str(number), text, score) for number, (text, score) in enumerate(rows)]
    chosen = select(items, budget)
    assert len(set(chosen)) == len(chosen)
    assert sum(tokens_of(items[int(name)].text) for name in chosen) <= max(0, budget)
