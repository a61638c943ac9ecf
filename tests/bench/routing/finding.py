"""How often the skill that a question needs is among the first few that are found, of all that are registered."""

from __future__ import annotations

import statistics
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from typing import Any, Final

import msgspec

from memory.embed import Embedder
from memory.memory_store import MemoryStore
from streams.bus import Bus
from streams.events.registering import SkillManifest, SkillPointed, SkillRegistered
from streams.memory_bus import MemoryBroker, MemoryBus
from streams.topology import SKILLS
from tests.bench.routing.registered import Question, manifests
from workers.skills.registry import SkillRegistry

AT: Final = (1, 3, 5, 10)
TENANT: Final = "bench"
AT_MS: Final = 1_763_700_000_000


@dataclass(frozen=True, slots=True)
class Found:
    """recall: by k, the share of `questions` questions whose skill is among the first k. took_ms: finding, without the
    embedding, median, with the store in memory."""

    skills: int
    questions: int
    recall: dict[int, float]
    took_ms: float

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "recall": {str(k): value for k, value in self.recall.items()}}


async def announce(bus: Bus, manifest: SkillManifest, at_ms: int = AT_MS) -> int:
    """Writes a version and points its name to it; gives the pointer's offset."""
    registered = SkillRegistered(manifest=manifest, at_ms=at_ms)
    _ = await bus.publish(SKILLS.name, 0, manifest.id, registered, manifest.id, "service/bench")
    pointed = SkillPointed(name=manifest.name, version=manifest.version, at_ms=at_ms)
    return await bus.publish(SKILLS.name, 0, manifest.name, pointed, f"{manifest.id}/point", "service/bench")


def with_examples(every: Sequence[SkillManifest], count: int) -> list[SkillManifest]:
    """The same skills, with so many of their examples."""
    return [msgspec.structs.replace(manifest, examples=manifest.examples[:count]) for manifest in every]


@asynccontextmanager
async def registry(embedder: Embedder, every: Sequence[SkillManifest]) -> AsyncIterator[SkillRegistry]:
    """A registry on a bus and a store in memory that has taken all of these."""
    bus = MemoryBus(MemoryBroker(partitions=1))
    await bus.start()
    for manifest in every:
        _ = await announce(bus, manifest)
    made = SkillRegistry(bus, MemoryStore(embedder.dimensions), embedder)
    await made.start()
    try:
        yield made
    finally:
        await made.close()
        await bus.stop()


async def found(embedder: Embedder, asked: Sequence[Question], examples: int = 3, words: bool = True) -> Found:
    """Asks each question of a registry with all the skills. words=False asks by vector alone."""
    every = with_examples(manifests(), examples)
    vectors = await embedder.embed([question.text for question in asked])
    ranks, took_ms = [], []
    async with registry(embedder, every) as made:
        for question, vector in zip(asked, vectors, strict=True):
            started = time.perf_counter()
            rows = await made.nearest(question.text if words else "", vector, TENANT, ("*",), max(AT))
            took_ms.append((time.perf_counter() - started) * 1e3)
            names = [row.skill.partition("@")[0] for row in rows]
            ranks.append(names.index(question.skill) if question.skill in names else max(AT))
    recall = {k: round(statistics.fmean(rank < k for rank in ranks), 4) for k in AT}
    return Found(len(every), len(asked), recall, statistics.median(took_ms))
