"""What the benchmark of routing is measured with: enough of it, held out from whatever is learnt, and well-formed."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from tests.bench.routing.finding import with_examples
from tests.bench.routing.labelled import (
    DEVELOPMENT,
    HELD_OUT,
    NONE,
    Turn,
    larger_set,
    of_set,
    sample,
    shipped_set,
    turns,
)
from tests.bench.routing.ours import confused, figures
from tests.bench.routing.registered import DEVELOPMENT as SKILL_DEVELOPMENT
from tests.bench.routing.registered import QUESTIONS, manifests, questions
from workers.agents.catalog import OUT_OF_SCOPE
from workers.skills.discovery import texts_of
from workers.skills.manifest import validate


def folded(text: str) -> str:
    return "".join(letter for letter in text.casefold() if letter.isalnum())


def test_there_are_enough_turns_of_each_set_and_a_fifth_is_out_of_scope(tmp_path: Path) -> None:
    for agents in (shipped_set(), larger_set(tmp_path)):
        chosen = of_set(turns(HELD_OUT), list(agents))
        labels = Counter(turn.agent for turn in chosen)
        assert len(chosen) >= 200
        assert labels[NONE] >= len(chosen) / 5
        assert labels.keys() == {NONE, *agents} - {OUT_OF_SCOPE}
        assert min(labels.values()) >= 10
    assert len(agents) - 1 == 17


def test_nothing_that_is_held_out_is_learnt(tmp_path: Path) -> None:
    held_out = [folded(turn.text) for turn in turns(HELD_OUT)]
    assert len(set(held_out)) == len(held_out)
    learnt = {folded(text) for agent in larger_set(tmp_path).values() for text in agent.utterances}
    chosen_by = {folded(turn.text) for turn in turns(DEVELOPMENT)}
    assert set(held_out) & (learnt | chosen_by) == set()
    assert chosen_by & learnt == set()


def test_the_skills_and_their_questions() -> None:
    every = manifests()
    names = [manifest.name for manifest in every]
    assert len(set(names)) == len(names) >= 200
    for manifest in every:
        validate(manifest)
        assert len(manifest.examples) >= 3
    assert {question.skill for question in questions(QUESTIONS)} == set(names)
    asked = [folded(question.text) for file in (QUESTIONS, SKILL_DEVELOPMENT) for question in questions(file)]
    assert len(set(asked)) == len(asked) >= 250
    assert set(asked) & {folded(text) for manifest in every for text in texts_of(manifest)} == set()
    assert [len(manifest.examples) for manifest in with_examples(every, 1)] == [1] * len(every)


def test_figures_count_what_they_say() -> None:
    said = [Turn("a", "1"), Turn("a", "2"), Turn("b", "3"), Turn(NONE, "4"), Turn(NONE, "5")]
    one = figures(said, ["a", "b", NONE, NONE, "a"])
    assert (one.turns, one.nobodys, one.accuracy) == (5, 2, 0.4)
    assert one.found == pytest.approx(1 / 3, abs=1e-4)
    assert (one.nobody_recall, one.nobody_precision) == (0.5, 0.5)
    assert confused(said, ["a", "b", NONE, NONE, "a"]) == ["a → b: 2", "b → none: 3", "none → a: 5"]
    assert sample(said, 3, 1) == sample(said, 3, 1) != sample(said, 3, 2)


def test_a_malformed_line_is_named(tmp_path: Path) -> None:
    file = tmp_path / "turns.txt"
    file.write_text("desk | What is 1 + 1?\nno label\n")
    with pytest.raises(ValueError, match="no label"):
        turns(file)
