"""From fetched candidates to the memories of a prompt: one score of meaning, words, age and trust, then a budget.

    score = (meaning + words + around) / 3 · freshness · confidence · form

    meaning     cosine, 0 at UNRELATED and 1 at ALIKE; 0 for what only the words found
    words       share of the question's words that the memory holds, rare ones counting more
    around      the same, of the memory and what was said just before it
    freshness   1 for what was said now, falling to OLD with a half-life of HALF_LIFE_MS: it settles what is else equal
    confidence  as stored, 0..1
    form        QUESTION for what only asks, since a question holds no answer; else 1

The three terms weigh the same: on dialogues with known evidence no other weights were better by more than noise, and
shares of words beat BM25, whose counts and lengths say little about sentences (docs/design/memory.md has the figures).

What has been superseded, or is not valid at `now_ms`, is not recalled. Each item says in `why` how it got its score.
Pure.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Final

from memory.rows import Candidate
from memory.selection import Scored, content_words, select
from streams.events.recalling import RecalledItem

DAY_MS: Final = 86_400_000
TERMS: Final = 3
UNRELATED: Final = 0.1  # cosines of MiniLM between sentences that have nothing in common: -0.1 to 0.15
ALIKE: Final = 0.8
OLD: Final = 0.9
HALF_LIFE_MS: Final = 30 * DAY_MS
QUESTION: Final = 0.6
# Below this a memory does more harm in a prompt than good: neither near in meaning nor with a telling word.
LOWEST_SCORE: Final = 0.08
_SENTENCES: Final = re.compile(r"[^.!?]*[.!?]+|[^.!?]+$")


def rank(candidates: Sequence[Candidate], query: str, now_ms: int, token_budget: int) -> list[RecalledItem]:
    """The memories to put into the prompt, best first, together at most `token_budget` tokens (selection.tokens_of).

    query: the text the candidates were fetched for. now_ms: when it is asked, against which age and validity count.
    """
    items = {item.id: item for item in scored(candidates, query, now_ms) if item.score >= LOWEST_SCORE}
    chosen = select([Scored(item.id, item.text, item.score) for item in items.values()], token_budget)
    return [items[name] for name in chosen]


def scored(candidates: Sequence[Candidate], query: str, now_ms: int) -> list[RecalledItem]:
    """Every valid candidate with its score and why, highest first; none is left out for its score or its size."""
    valid = [candidate for candidate in candidates if _is_valid(candidate, now_ms)]
    words = _shares_of_words(query, {candidate.id: candidate.text for candidate in valid})
    around = _shares_of_words(query, {candidate.id: f"{candidate.context} {candidate.text}" for candidate in valid})
    items = [_item(candidate, words[candidate.id], around[candidate.id], now_ms) for candidate in valid]
    return sorted(items, key=lambda item: (-item.score, item.id))


def _is_valid(candidate: Candidate, now_ms: int) -> bool:
    ended = candidate.valid_to_ms is not None and candidate.valid_to_ms <= now_ms
    return not candidate.superseded_by and not ended and candidate.valid_from_ms <= now_ms


def _item(candidate: Candidate, words: float, around: float, now_ms: int) -> RecalledItem:
    similarity = candidate.similarity if candidate.similarity is not None else UNRELATED
    meaning = min(1.0, max(0.0, (similarity - UNRELATED) / (ALIKE - UNRELATED)))
    age_ms = max(0, now_ms - candidate.at_ms)
    freshness = OLD + (1 - OLD) * math.pow(0.5, age_ms / HALF_LIFE_MS)
    asks = all(sentence.endswith("?") for sentence in _SENTENCES.findall(candidate.text.strip()))
    form = QUESTION if asks else 1.0
    score = (meaning + words + around) / TERMS * freshness * candidate.confidence * form
    terms = [
        f"meaning {similarity:.2f}", f"words {words:.2f}", f"with context {around:.2f}",
        f"{age_ms / DAY_MS:.1f} days old",
    ]  # fmt: skip
    if candidate.confidence < 1:
        terms.append(f"confidence {candidate.confidence:.2f}")
    if asks:
        terms.append("a question")
    return RecalledItem(
        id=candidate.id, layer=candidate.layer, text=_shown(candidate), score=round(score, 4),
        source_turn=candidate.turn, at_ms=candidate.at_ms, why=", ".join(terms),
    )  # fmt: skip


def _shown(candidate: Candidate) -> str:
    """The text as the prompt shows it: the user's own words as they are, anybody else's with who said it."""
    if candidate.speaker in ("", "user"):
        return candidate.text
    return f"{candidate.speaker}: {candidate.text}"


def _shares_of_words(query: str, texts: Mapping[str, str]) -> dict[str, float]:
    """For each text, by its id, the share of the question's words that it holds, 0..1.

    A word counts by how few texts hold it (inverse document frequency over the candidates), since a word that all of
    them share tells nothing; a word that none holds counts as well, so that one hit among many words stays a small
    share.
    """
    wanted = content_words(query)
    held = {name: content_words(text) & wanted for name, text in texts.items()}
    weights = {
        word: math.log(1 + len(texts) / (1 + sum(1 for words in held.values() if word in words))) for word in wanted
    }
    whole = sum(weights.values())
    return {name: sum(weights[word] for word in words) / whole if whole else 0.0 for name, words in held.items()}
