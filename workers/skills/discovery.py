"""Which skills a turn's plan may use: those nearest to its text, of the ones its agent and its tenant may use.

How near a skill is: the cosine of the text's vector and the mean of the skill's, plus a share of how alike their words
are, which tells apart what an embedding puts side by side (a flight booked, changed, cancelled). The store ranks by
vector (pgvector) and gives far more than are wanted; the registry adds those that share most words; of all of them the
best are taken. What the store names is kept only where the registry says the same, so that a store that lags, or
remembers another log, never offers a skill that is not in force. When the store gives too few, because it lags or the
agent's few skills are drowned by many others, the rest is ranked here, exactly, from the vectors that the registry
holds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Final

from memory.store import Store
from streams.events.recalling import DiscoveredSkill
from streams.events.registering import SkillManifest
from workers.routing.words import Words
from workers.skills.catalog import Catalog

OVERFETCH: Final = 8  # the store knows nothing of agents and of words, so ask it for more than are wanted
BY_WORDS: Final = 8  # how many are taken for their words, near or not
WORDS_SHARE: Final = 0.3


def texts_of(manifest: SkillManifest) -> list[str]:
    """What a skill is found by: its name in words with its description, and each of its examples."""
    return [f"{manifest.name.replace('_', ' ')}: {manifest.description}", *manifest.examples]


class Wording:
    """The words of some skills, by id. Built once; `likeness` changes nothing."""

    def __init__(self, manifests: Sequence[SkillManifest]) -> None:
        self._ids = [manifest.id for manifest in manifests]
        self._words = Words([_words_of(manifest) for manifest in manifests])

    def likeness(self, text: str) -> dict[str, float]:
        """How alike a text's words are to each skill's, 0..1; those that share none are left out."""
        found = self._words.likeness(text)
        return {skill: float(value) for skill, value in zip(self._ids, found, strict=True) if value > 0}


def _words_of(manifest: SkillManifest) -> str:
    parameters = manifest.parameters.get("properties", {})
    return " ".join([*texts_of(manifest), *parameters]).replace("_", " ")


def mean(vectors: Sequence[Sequence[float]]) -> list[float]:
    """The direction between unit vectors, of length 1; the first one where they cancel out."""
    total = [math.fsum(column) for column in zip(*vectors, strict=True)]
    length = math.sqrt(math.fsum(value * value for value in total))
    return [value / length for value in total] if length > 1e-9 else list(vectors[0])


def allowed(name: str, patterns: Sequence[str]) -> bool:
    """Whether an agent's list of skills (names, or patterns with `*`) holds this name."""
    return any(fnmatchcase(name, pattern) for pattern in patterns)


async def discover(
    store: Store, catalog: Catalog, vectors: Mapping[str, Sequence[float]], alike: Mapping[str, float],
    text_vector: Sequence[float], tenant: str, agent_skills: Sequence[str], limit: int,
) -> list[DiscoveredSkill]:  # fmt: skip
    """At most `limit` skills, best first; [] when the agent or the tenant may use none.

    vectors: the registry's own vector of each skill in force, by id. alike: how alike the text's words are to those of
    skills in force, by id, 0..1 (`Wording`). text_vector: of length 1, as the vectors are. A score is the cosine and
    WORDS_SHARE of that. Raises what `Store.nearest_skills` raises.
    """
    wanted = {
        manifest.id: manifest for manifest in catalog.in_force(tenant) if allowed(manifest.name, agent_skills)
    }  # fmt: skip
    if not wanted or limit <= 0:
        return []
    ranked = await store.nearest_skills(tenant, list(text_vector), OVERFETCH * limit)
    near = {skill: score for skill, score in ranked if skill in wanted}
    by_words = sorted((skill for skill in alike if skill in wanted), key=lambda skill: (-alike[skill], skill))
    more = wanted.keys() if len(near) < min(limit, len(wanted)) else by_words[:BY_WORDS]
    for skill in more:
        if skill not in near and skill in vectors:
            near[skill] = math.fsum(a * b for a, b in zip(vectors[skill], text_vector, strict=True))
    scores = {skill: score + WORDS_SHARE * alike.get(skill, 0.0) for skill, score in near.items()}
    best = sorted(scores.items(), key=lambda item: (-item[1], item[0]))[:limit]
    return [DiscoveredSkill(skill, round(score, 6)) for skill, score in best]
