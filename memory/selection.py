"""Which of the ranked memories go into the prompt: the best by what each adds, until the token budget is spent.

Two memories that say the same are worth little more than one. So a memory's value is its score less what the chosen
ones already cover, measured by the words they share; that keeps three versions of one sentence from filling the budget.

Pure.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Final

import msgspec

_WORD: Final = re.compile(r"\w+")
# Share of a memory's words found in one chosen memory: above SAME it repeats it and is left out.
SAME: Final = 0.9
# How much of its score a memory loses that is wholly covered but differs enough to stay.
REPETITION_COST: Final = 0.5
# English prose has about four characters to a token of today's vocabularies; a memory's own line costs a few more.
CHARACTERS_PER_TOKEN: Final = 4
TOKENS_PER_LINE: Final = 4
_STOP_WORDS: Final = """
a an and are as at be been but by can could did do does for from had has have he her him his how i if in is it its just
me my no not of on or our she so that the their them then there they this to us was we were what when where which who
why will with would you your
"""
STOP_WORDS: Final = frozenset(_STOP_WORDS.split())


class Scored(msgspec.Struct, frozen=True):
    """A memory with its score, higher is better; `text` is what would stand in the prompt."""

    id: str
    text: str
    score: float


def tokens_of(text: str) -> int:
    """About how many tokens a memory takes in a prompt, its line included."""
    return math.ceil(len(text) / CHARACTERS_PER_TOKEN) + TOKENS_PER_LINE


def content_words(text: str) -> frozenset[str]:
    """The words that carry meaning, each as its stem."""
    return frozenset(stem(word) for word in _WORD.findall(text.lower()) if word not in STOP_WORDS)


def stem(word: str) -> str:
    """A lower-case word without its commonest English endings: it only has to map a word's forms to one."""
    for ending, instead in (("ies", "y"), ("ing", ""), ("ed", ""), ("s", "")):
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            word = word[: -len(ending)] + instead
            break
    return word[:-1] if word.endswith("e") and len(word) > 3 else word


def select(scored: Sequence[Scored], token_budget: int) -> list[str]:
    """Ids of the memories to use, best first by what each adds. One that does not fit is passed over for a shorter one.

    token_budget: tokens that all of them together may take; 0 or less gives [].
    """
    words = {item.id: content_words(item.text) for item in scored}
    left = sorted(scored, key=lambda item: (-item.score, item.id))
    covered = {item.id: 0.0 for item in left}
    chosen: list[str] = []
    while left:
        best = max(left, key=lambda item: (item.score * (1 - REPETITION_COST * covered[item.id]), item.id))
        left.remove(best)
        cost = tokens_of(best.text)
        if cost > token_budget:
            continue
        token_budget -= cost
        chosen.append(best.id)
        for item in left:
            mine = words[item.id]
            shared = len(mine & words[best.id]) / len(mine) if mine else 1.0
            covered[item.id] = max(covered[item.id], shared)
        left = [item for item in left if covered[item.id] < SAME]
    return chosen
