"""Claims of calls: locks with a number and a lease, one row per call."""

from __future__ import annotations

from typing import Final

from memory.rows import ClaimRow
from memory.tables.base import Tables

# The rule of Store.claim as one statement, so that of any number of claimers the row's lock lets exactly one win.
_CLAIM: Final = """
INSERT INTO call_claims AS known (turn, call, argument_hash, number, writer, claimed_at_ms, lease_until_ms)
VALUES ($1, $2, $3, $4, $5, $6, $7)
ON CONFLICT (turn, call) DO UPDATE SET
    argument_hash = excluded.argument_hash, number = excluded.number, writer = excluded.writer,
    claimed_at_ms = excluded.claimed_at_ms, lease_until_ms = excluded.lease_until_ms, outcome = NULL
WHERE CASE
    WHEN known.outcome IS NOT NULL
        THEN excluded.number > known.number AND excluded.argument_hash <> known.argument_hash
    WHEN excluded.number = known.number
        THEN excluded.argument_hash = known.argument_hash AND excluded.writer = known.writer
    ELSE excluded.number > known.number AND known.lease_until_ms <= $6
END
RETURNING 1
"""
_SETTLE: Final = """
UPDATE call_claims SET outcome = $4
WHERE turn = $1 AND call = $2 AND number = $3 AND (outcome IS NULL OR outcome = $4)
RETURNING 1
"""
_CLAIMED: Final = "SELECT * FROM call_claims WHERE turn = $1 AND call = $2"


class ClaimTables(Tables):
    async def claim(
        self, turn: str, call: int, argument_hash: str, number: int, lease_ms: int, writer: str, now_ms: int
    ) -> bool:
        async with self._across() as connection:
            won = await connection.fetchval(
                _CLAIM, turn, call, argument_hash, number, writer, now_ms, now_ms + lease_ms
            )
        return won is not None

    async def settle(self, turn: str, call: int, number: int, outcome: str) -> bool:
        async with self._across() as connection:
            return await connection.fetchval(_SETTLE, turn, call, number, outcome) is not None

    async def claimed(self, turn: str, call: int) -> ClaimRow | None:
        async with self._across() as connection:
            row = await connection.fetchrow(_CLAIMED, turn, call)
        if row is None:
            return None
        return ClaimRow(
            turn=turn, call=call, argument_hash=row["argument_hash"], number=row["number"], writer=row["writer"],
            lease_until_ms=row["lease_until_ms"], outcome=row["outcome"],
        )  # fmt: skip
