"""What there is of one member in the database, and what has grown old: to count it, to export it, to let it go.

Erasing itself is the projection's (writing.forget): a member is forgotten by a fact of the log, so that every
projection does it and none brings back what another has erased.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Final

from memory.rows import ConversationRow
from memory.tables.base import Tables
from memory.tables.conversations import conversation_of
from memory.tables.writing import member_hash

_OWN: Final = "tenant = $1 AND member = $2"
_OF_TURNS: Final = f"turn IN (SELECT turn FROM turns WHERE {_OWN})"  # noqa: S608 - put together from constants
# Every table that says something of a member, and which of its rows are theirs. A test holds this to the schema.
TABLES: Final = {
    "service_quotas": f"key_id IN (SELECT key_id FROM api_keys WHERE {_OWN})",  # noqa: S608 - put together from constants
    "api_keys": _OWN, "submit_claims": _OWN, "conversations": _OWN, "turns": _OWN, "messages": _OF_TURNS,
    "call_claims": _OF_TURNS, "memories": _OWN, "edits": _OWN, "examples": _OWN, "habits": _OWN, "readings": _OWN,
}  # fmt: skip
# What stands elsewhere in other words: the index of the words. And what is no one's to carry away: a key's hash.
_LEFT_OUT: Final = ("lexemes", "key_hash")
_VECTORS: Final = ("embedding",)
_HELD: Final = " UNION ALL ".join(
    f"SELECT '{table}' AS name, count(*) AS rows FROM {table} WHERE {mine}"  # noqa: S608 - put together from constants
    for table, mine in TABLES.items()
)
_FORGOTTEN: Final = "SELECT forgotten_at_ms FROM forgotten_members WHERE member_hash = $1"
_UNUSED: Final = """
SELECT * FROM conversations WHERE NOT deleted AND updated_at_ms < $1 AND $2 IN ('', tenant)
  AND conversation > $4 ORDER BY conversation LIMIT $3
"""
_EXPIRE_CLAIMS: Final = (
    "DELETE FROM submit_claims WHERE claimed_at_ms < $1 AND $2 IN ('', tenant)",
    "DELETE FROM call_claims WHERE claimed_at_ms < $1 AND lease_until_ms < $1 AND $2 = ''",
)


class ForgettingTables(Tables):
    async def held(self, tenant: str, user: str) -> dict[str, int]:
        """How many rows of each table are about the member; tables that have none are left out."""
        async with self._within(tenant) as connection:
            rows = await connection.fetch(_HELD, tenant, user)
        return {row["name"]: row["rows"] for row in rows if row["rows"]}

    async def exported(
        self, tenant: str, user: str, vectors: bool = False
    ) -> AsyncIterator[tuple[str, dict[str, Any]]]:
        """Every row about the member, as (table, columns), from one moment. vectors: embeddings too, as texts."""
        without = list(_LEFT_OUT if vectors else (*_LEFT_OUT, *_VECTORS))
        async with self._within(tenant) as connection, connection.transaction(
            isolation="repeatable_read", readonly=True
        ):  # fmt: skip
            for table, mine in TABLES.items():
                asked = f"SELECT to_jsonb({table}) - $3::text[] AS columns FROM {table} WHERE {mine}"  # noqa: S608
                async for row in connection.cursor(asked, tenant, user, without):
                    yield table, row["columns"]

    async def forgotten_at_ms(self, tenant: str, user: str) -> int:
        """Up to when the member has been forgotten; -1: never."""
        async with self._across() as connection:
            at_ms = await connection.fetchval(_FORGOTTEN, member_hash(tenant, user))
        return -1 if at_ms is None else int(at_ms)

    async def unused(self, before_ms: int, limit: int, tenant: str = "", after: str = "") -> list[ConversationRow]:
        """Conversations in which nothing was said since `before_ms` that are not deleted, by their ids, those behind
        `after`. tenant "": of all."""
        async with self._across() as connection:
            rows = await connection.fetch(_UNUSED, before_ms, tenant, limit, after)
        return [conversation_of(row) for row in rows]

    async def expire_claims(self, before_ms: int, tenant: str = "") -> int:
        """Erases claims of submits and calls from before this time: nobody sends so old a command again. Gives how
        many. tenant: of its submits alone, since a call's claim does not say whose it is; "": all."""
        async with self._transaction() as connection:
            done = [await connection.execute(statement, before_ms, tenant) for statement in _EXPIRE_CLAIMS]
        return sum(int(status.rpartition(" ")[2]) for status in done)
