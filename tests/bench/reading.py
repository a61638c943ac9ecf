"""How well facts are read: precision and recall of facts and of supersessions over labelled dialogues.

A fact that was read is right when a label has its subject, attribute and sign, and its value says the same: the label's
words, at most EXTRA_WORDS more. A supersession is right when the fact that ended is one that should have.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, Final, TypeVar

import msgspec

from memory.revising import FactState, normal, revise
from tests.bench.dialogues import Dialogue, Ended, Fact
from workers.remembering.attributes import is_single
from workers.remembering.rules import Said, named_last

EXTRA_WORDS: Final = 2
Reader = Callable[[str, str], Awaitable[list[Said]]]
"""What one message says, and who or what was named last before it."""
T = TypeVar("T", Fact, Ended)


class Score(msgspec.Struct):
    """right: read and labelled; read: in all; labelled: in all."""

    right: int = 0
    read: int = 0
    labelled: int = 0

    @property
    def precision(self) -> float:
        return self.right / self.read if self.read else 1.0

    @property
    def recall(self) -> float:
        return self.right / self.labelled if self.labelled else 1.0

    def add(self, other: Score) -> None:
        self.right, self.read, self.labelled = (
            self.right + other.right, self.read + other.read, self.labelled + other.labelled,
        )  # fmt: skip


class Scores(msgspec.Struct):
    facts: Score = msgspec.field(default_factory=Score)
    ended: Score = msgspec.field(default_factory=Score)

    def add(self, other: Scores) -> None:
        self.facts.add(other.facts)
        self.ended.add(other.ended)

    def row(self) -> dict[str, Any]:
        return {
            "facts": self.facts.labelled, "fact_precision": round(self.facts.precision, 3),
            "fact_recall": round(self.facts.recall, 3), "supersessions": self.ended.labelled,
            "supersession_precision": round(self.ended.precision, 3),
            "supersession_recall": round(self.ended.recall, 3),
        }  # fmt: skip


async def score(dialogue: Dialogue, reader: Reader) -> Scores:
    """What the reader makes of one dialogue, held against its labels."""
    states: list[FactState] = []
    last = ""
    for turn, text in enumerate(text for role, text in dialogue.messages if role == "user"):
        for number, said in enumerate(await reader(text, last)):
            state = FactState(
                id=f"{turn:03d}-{number:03d}", subject=said.subject, attribute=said.attribute, value=said.value,
                single=is_single(said.attribute), negated=said.negated, valid_from_ms=1_000 * turn + number,
            )  # fmt: skip
            states.append(state)
        last = named_last(text, last)
    ends = {state.id: state.superseded_by for state in revise(states)}
    by_id = {state.id: state for state in states}
    facts: list[Fact] = [(state.subject, state.attribute, state.value, state.negated) for state in states]
    gone: list[Ended] = []
    repeats = 0
    for name, successor in ends.items():
        old, new = by_id[name], by_id[successor]
        if old.valid_from_ms > new.valid_from_ms:
            repeats += 1
            facts.remove((old.subject, old.attribute, old.value, old.negated))
        elif not old.negated:
            gone.append((old.subject, old.attribute, old.value))
    affirmed = [label for label in dialogue.ended if _was_affirmed(label, dialogue.facts)]
    return Scores(_matched(facts, dialogue.facts), _matched(gone, affirmed))


async def score_all(dialogues: Iterable[Dialogue], reader: Reader) -> dict[str, Scores]:
    """By source of the dialogues, and `all`."""
    found: dict[str, Scores] = {}
    for dialogue in dialogues:
        scores = await score(dialogue, reader)
        for group in (dialogue.source, "all"):
            found.setdefault(group, Scores()).add(scores)
    return found


def _was_affirmed(label: Ended, facts: Sequence[Fact]) -> bool:
    return any(fact[:3] == label and not fact[3] for fact in facts)


def _matched(read: Sequence[T], labelled: Sequence[T]) -> Score:
    """Each label is met by at most one that was read."""
    left = list(labelled)
    right = 0
    for one in read:
        hit = next((label for label in left if _same(one, label)), None)
        if hit is not None:
            left.remove(hit)
            right += 1
    return Score(right, len(read), len(labelled))


def _same(one: Sequence[Any], label: Sequence[Any]) -> bool:
    if (*one[:2], *one[3:]) != (*label[:2], *label[3:]):
        return False
    words, wanted = normal(one[2]).split(), normal(label[2]).split()
    return set(wanted) <= set(words) and len(words) <= len(wanted) + EXTRA_WORDS
