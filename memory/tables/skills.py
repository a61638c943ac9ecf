"""Skills found by likeness. There are hundreds, not millions, so the search is exact and needs no index."""

from __future__ import annotations

from typing import Final

import msgspec

from memory.rows import Vector
from memory.tables.base import Tables
from streams.events.registering import SkillManifest

_UPSERT: Final = """
INSERT INTO skills (name, version, manifest, tenants, embedding) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (name) DO UPDATE SET
    version = excluded.version, manifest = excluded.manifest, tenants = excluded.tenants, embedding = excluded.embedding
"""
_WITHDRAW: Final = "DELETE FROM skills WHERE name = $1"
_NEAREST: Final = """
SELECT name || '@' || version AS skill, 1 - (embedding <=> $2) AS score
FROM skills WHERE tenants = '{}' OR $1 = ANY (tenants)
ORDER BY score DESC, skill LIMIT $3
"""


class SkillTables(Tables):
    async def upsert_skill(self, manifest: SkillManifest, vector: Vector) -> None:
        self._check(vector)
        whole = msgspec.to_builtins(manifest)
        async with self._across() as connection:
            await connection.execute(_UPSERT, manifest.name, manifest.version, whole, list(manifest.tenants), vector)

    async def withdraw_skill(self, name: str) -> None:
        async with self._across() as connection:
            await connection.execute(_WITHDRAW, name)

    async def nearest_skills(self, tenant: str, vector: Vector, limit: int) -> list[tuple[str, float]]:
        self._check(vector)
        async with self._within(tenant) as connection:
            rows = await connection.fetch(_NEAREST, tenant, vector, limit)
        return [(row["skill"], row["score"]) for row in rows]
