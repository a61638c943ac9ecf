"""The examples that a router learns from: what people say to each agent, and what no agent takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from memory.embed import Embedder
from workers.agents.catalog import Agent


class Example(NamedTuple):
    """One utterance and its embedding, a unit vector."""

    text: str
    vector: Sequence[float]


async def embedded(embedder: Embedder, agents: Mapping[str, Agent]) -> dict[str, list[Example]]:
    """Every agent's utterances, embedded in one go. `out_of_scope` has those that no agent takes. Raises what the
    embedder raises."""
    rows = [(agent.name, text) for agent in agents.values() for text in agent.utterances]
    vectors = await embedder.embed([text for _, text in rows])
    table: dict[str, list[Example]] = {}
    for (name, text), vector in zip(rows, vectors, strict=True):
        table.setdefault(name, []).append(Example(text, vector))
    return table
