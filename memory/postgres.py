"""The store on Postgres with pgvector: memory.store.Store over asyncpg, put together from memory/tables/."""

from __future__ import annotations

from memory.tables.claims import ClaimTables
from memory.tables.conversations import ConversationTables
from memory.tables.forgetting import ForgettingTables
from memory.tables.keys import KeyTables
from memory.tables.learning import LearningTables
from memory.tables.memories import MemoryTables
from memory.tables.projection import ProjectionTables
from memory.tables.services import ServiceTables
from memory.tables.skills import SkillTables


class PostgresStore(
    KeyTables, ConversationTables, ProjectionTables, MemoryTables, LearningTables, ClaimTables, ServiceTables,
    SkillTables, ForgettingTables,
):  # fmt: skip
    """memory.store.Store. dsn: a libpq URL; dimensions: length of the embedder's vectors; pool_size: connections."""
