"""API keys and the claims of first submits."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from memory.keys import SERVICE_SCOPE, hash_key, new_key
from memory.rows import KeyRow, Principal
from memory.tables.base import Tables

if TYPE_CHECKING:
    import asyncpg

_CREATE: Final = """
INSERT INTO api_keys (key_hash, key_id, tenant, member, name, scopes, created_at_ms) VALUES ($1, $2, $3, $4, $5, $6, $7)
"""
_VERIFY: Final = "SELECT key_id, tenant, member, scopes FROM api_keys WHERE key_hash = $1 AND revoked_at_ms IS NULL"
_IN_FORCE: Final = "SELECT * FROM api_keys WHERE key_id = $1 AND revoked_at_ms IS NULL"
_LIST: Final = "SELECT * FROM api_keys WHERE $1 IN ('', tenant) ORDER BY created_at_ms, key_id"
_REVOKE: Final = "UPDATE api_keys SET revoked_at_ms = $2 WHERE key_id = $1 AND revoked_at_ms IS NULL RETURNING 1"
# The update that changes nothing makes the row that was first visible to the one who came second.
_CLAIM_SUBMIT: Final = """
INSERT INTO submit_claims VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (tenant, member, event_id) DO UPDATE SET event_id = excluded.event_id
RETURNING conversation
"""


class KeyTables(Tables):
    async def create_key(self, tenant: str, user: str, name: str, scopes: Sequence[str], now_ms: int) -> str:
        key_id, key = new_key(secrets.token_bytes)
        async with self._within(tenant) as connection:
            await connection.execute(_CREATE, hash_key(key), key_id, tenant, user, name, list(scopes), now_ms)
        return key

    async def verify_key(self, key: str) -> Principal | None:
        async with self._across() as connection:
            row = await connection.fetchrow(_VERIFY, hash_key(key))
        return None if row is None else _principal(row)

    async def keys(self, tenant: str = "") -> list[KeyRow]:
        async with self._within(tenant) if tenant else self._across() as connection:
            rows = await connection.fetch(_LIST, tenant)
        return [
            KeyRow(
                key_id=row["key_id"], tenant=row["tenant"], user=row["member"], name=row["name"],
                scopes=tuple(row["scopes"]), created_at_ms=row["created_at_ms"], revoked_at_ms=row["revoked_at_ms"],
            )
            for row in rows
        ]  # fmt: skip

    async def revoke_key(self, key_id: str, now_ms: int) -> bool:
        async with self._across() as connection:
            return await connection.fetchval(_REVOKE, key_id, now_ms) is not None

    async def signing_secret(self, key_id: str) -> tuple[Principal, bytes] | None:
        async with self._across() as connection:
            row = await connection.fetchrow(_IN_FORCE, key_id)
        return None if row is None else (_principal(row), bytes(row["key_hash"]))

    async def claim_submit(self, tenant: str, user: str, event_id: str, conversation: str, now_ms: int) -> str:
        async with self._within(tenant) as connection:
            return str(await connection.fetchval(_CLAIM_SUBMIT, tenant, user, event_id, conversation, now_ms))


def _principal(row: asyncpg.Record) -> Principal:
    return Principal(
        tenant=row["tenant"], user=row["member"], service=SERVICE_SCOPE in row["scopes"],
        scopes=tuple(row["scopes"]), key_id=row["key_id"],
    )  # fmt: skip
