"""Which facts still hold: of everything a person's facts say about one attribute of one subject, the last word counts.

A fact is never deleted by another. It keeps its text and gets an end (`valid_to_ms`) and the one that took its place
(`superseded_by`). Rules, over the facts of one subject and attribute in the order of the time they are about:

  * an attribute with one value (`single`): another value takes the place of the one before;
  * an attribute with many values: each value is a chain of its own, so nothing but its own denial ends it;
  * a denial ("no longer …", "not …") takes the place of what it denies, and is itself ended when that is said again; a
    denial that names no value denies them all; one of something else than what holds says nothing new;
  * what says again what holds is a repeat: it points to the first one, which stays.

The result depends on the set of facts only and not on the order in which they were stored, since the conversations of
one person lie on several partitions, which are stored side by side. Pure.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import msgspec

_ARTICLES: Final = re.compile(r"^(?:the|a|an|my|our|some)\s+")
_NOT_WORDS: Final = re.compile(r"[^\w@+.]+")


class FactState(msgspec.Struct, frozen=True, kw_only=True):
    """What revising needs of a memory. Fields as in memory.rows.MemoryRow."""

    id: str
    subject: str
    attribute: str
    value: str
    single: bool
    negated: bool
    valid_from_ms: int
    valid_to_ms: int | None = None
    superseded_by: str = ""


def normal(value: str) -> str:
    """A value as it is compared: lower case, without articles and punctuation."""
    words = _NOT_WORDS.sub(" ", value.casefold()).strip(" .")
    return _ARTICLES.sub("", words).strip()


def revise(facts: Sequence[FactState]) -> list[FactState]:
    """The facts whose end or successor changes when all of these are known; the others are right as they are."""
    changed: list[FactState] = []
    known = {fact.id for fact in facts}
    chains: defaultdict[tuple[str, str], list[FactState]] = defaultdict(list)
    for fact in sorted(facts, key=lambda one: (one.valid_from_ms, one.id)):
        # What took its place was erased since: it does not come back for that.
        if not fact.superseded_by or fact.superseded_by in known:
            chains[fact.subject, fact.attribute].append(fact)
    for chain in chains.values():
        ends = _ends(chain)
        for fact in chain:
            successor = ends.get(fact.id)
            if successor is None and fact.superseded_by:  # what came between says that it was no repeat
                changed.append(msgspec.structs.replace(fact, superseded_by="", valid_to_ms=None))
            elif successor is not None and fact.superseded_by != successor.id:
                end_ms = max(fact.valid_from_ms, successor.valid_from_ms)
                changed.append(msgspec.structs.replace(fact, superseded_by=successor.id, valid_to_ms=end_ms))
    return changed


def outdated(changed: Sequence[FactState], known: Mapping[str, FactState]) -> list[FactState]:
    """Of the facts that `revise` changed, those that ended because something else was said, not because they repeat.

    known: every fact by its id. What was said in the words of these no longer holds.
    """
    return [
        fact for fact in changed
        if fact.superseded_by and not fact.negated and fact.value
        and known[fact.superseded_by].valid_from_ms > fact.valid_from_ms
    ]  # fmt: skip


def _ends(chain: Iterable[FactState]) -> dict[str, FactState]:
    """By id, what took each fact's place; facts that hold are not in it."""
    ends: dict[str, FactState] = {}
    holding: dict[str, FactState] = {}  # by value, "" for an attribute with one value
    for fact in chain:
        value = normal(fact.value)
        place = "" if fact.single else value
        current = holding.get(place)
        if fact.negated and not value:
            for each in holding.values():
                if each.negated:
                    continue
                ends[each.id] = fact
            holding = {place: fact}
        elif current is None:
            holding[place] = fact
        elif _says_nothing_new(fact, current):
            ends[fact.id] = current
        else:
            ends[current.id] = fact
            holding[place] = fact
    return ends


def _says_nothing_new(fact: FactState, current: FactState) -> bool:
    """A repeat of what holds, or the denial of something else than what holds."""
    same = normal(current.value) == normal(fact.value)
    return (same and fact.negated == current.negated) or (fact.negated and not same)
