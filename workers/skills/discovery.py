"""Which skills a turn's plan may use: those nearest to its text, of the ones its agent and its tenant may use.

The store ranks by vector (pgvector); what it names is kept only where the registry says the same, so that a store
that lags, or remembers another log, never offers a skill that is not in force. When the store gives too few, because
it lags or the agent's few skills are drowned by many others, the rest is ranked here, exactly, from the vectors that
the registry holds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Final

from memory.store import Store
from streams.events.recalling import DiscoveredSkill
from streams.events.registering import SkillManifest
from workers.skills.catalog import Catalog

OVERFETCH: Final = 4  # the store knows nothing of agents, so ask it for more than are wanted


def texts_of(manifest: SkillManifest) -> list[str]:
    """What a skill is found by: its name in words with its description, and each of its examples."""
    return [f"{manifest.name.replace('_', ' ')}: {manifest.description}", *manifest.examples]


def mean(vectors: Sequence[Sequence[float]]) -> list[float]:
    """The direction between unit vectors, of length 1; the first one where they cancel out."""
    total = [math.fsum(column) for column in zip(*vectors, strict=True)]
    length = math.sqrt(math.fsum(value * value for value in total))
    return [value / length for value in total] if length > 1e-9 else list(vectors[0])


def allowed(name: str, patterns: Sequence[str]) -> bool:
    """Whether an agent's list of skills (names, or patterns with `*`) holds this name."""
    return any(fnmatchcase(name, pattern) for pattern in patterns)


async def discover(
    store: Store, catalog: Catalog, vectors: Mapping[str, Sequence[float]], text_vector: Sequence[float], tenant: str,
    agent_skills: Sequence[str], limit: int,
) -> list[DiscoveredSkill]:  # fmt: skip
    """At most `limit` skills, best first; [] when the agent or the tenant may use none.

    vectors: the registry's own vector of each skill in force, by id. text_vector: of length 1, as they are. Raises
    what `Store.nearest_skills` raises.
    """
    wanted = {
        manifest.id: manifest for manifest in catalog.in_force(tenant) if allowed(manifest.name, agent_skills)
    }  # fmt: skip
    if not wanted or limit <= 0:
        return []
    ranked = await store.nearest_skills(tenant, list(text_vector), OVERFETCH * limit)
    scores = {skill: score for skill, score in ranked if skill in wanted}
    if len(scores) < min(limit, len(wanted)):
        for skill in wanted.keys() - scores.keys():
            if skill in vectors:
                scores[skill] = math.fsum(a * b for a, b in zip(vectors[skill], text_vector, strict=True))
    best = sorted(scores.items(), key=lambda item: (-item[1], item[0]))[:limit]
    return [DiscoveredSkill(skill, round(score, 6)) for skill, score in best]
