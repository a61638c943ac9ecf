"""Records of services: each is taken at one place, and charged to its key once."""

from __future__ import annotations

from typing import Final

from memory.rows import Admission
from memory.tables.base import Tables

_TAKE: Final = """
INSERT INTO service_records (record, place, taken_at_ms, wait_ms) VALUES ($1, $2, $3, 0)
ON CONFLICT (record) DO NOTHING RETURNING 1
"""
_TAKEN: Final = "SELECT place, wait_ms FROM service_records WHERE record = $1"
# A token bucket that fills by $2 a minute up to $2. The row's lock has the workers take from it one after the other.
_SPEND: Final = """
INSERT INTO service_quotas AS known (key_id, tokens, at_ms, granted) VALUES ($1, $2::float8 - 1, $3, true)
ON CONFLICT (key_id) DO UPDATE SET (tokens, granted, at_ms) = (
    SELECT CASE WHEN have >= 1 THEN have - 1 ELSE have END, have >= 1, greatest(known.at_ms, $3)
    FROM (SELECT least($2::float8, known.tokens + greatest(0, $3 - known.at_ms) * $2::float8 / 60000) AS have) AS now
)
RETURNING tokens, granted
"""
_REFUSE: Final = "UPDATE service_records SET wait_ms = $2 WHERE record = $1"
_FORGET: Final = "DELETE FROM service_records WHERE taken_at_ms < $1"


class ServiceTables(Tables):
    async def admit(self, record: str, place: str, key_id: str, per_minute: int, now_ms: int) -> Admission:
        async with self._transaction() as connection:
            if await connection.fetchval(_TAKE, record, place, now_ms) is None:
                known = await connection.fetchrow(_TAKEN, record)
                return Admission(known is None or known["place"] != place, known["wait_ms"] if known else 0.0)
            left = await connection.fetchrow(_SPEND, key_id, per_minute, now_ms)
            assert left is not None  # a row is written either way
            wait_ms = 0.0 if left["granted"] else (1 - left["tokens"]) * 60_000 / per_minute
            if wait_ms:
                await connection.execute(_REFUSE, record, wait_ms)
            return Admission(False, wait_ms)

    async def forget_records(self, before_ms: int) -> int:
        async with self._across() as connection:
            done = await connection.execute(_FORGET, before_ms)
        return int(done.rpartition(" ")[2])
