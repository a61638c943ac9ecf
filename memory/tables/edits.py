"""What is kept of what people said of their memories and habits: the newest word on each, and what is forgotten."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from memory.rows import Edit
from memory.tables.base import storable

if TYPE_CHECKING:
    from memory.tables.base import Connection

_KNOWN: Final = "SELECT * FROM edits WHERE tenant = $1 AND member = $2 AND item = ANY ($3::text[])"
_KEEP: Final = """
INSERT INTO edits VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
ON CONFLICT (tenant, member, item) DO UPDATE SET
    turn = excluded.turn, correction = excluded.correction, muted = excluded.muted,
    forgotten_at_ms = excluded.forgotten_at_ms, at_ms = excluded.at_ms
"""


async def edits_of(connection: Connection, tenant: str, user: str, items: Sequence[str]) -> dict[str, Edit]:
    """What is kept of what was said of these items."""
    rows = await connection.fetch(_KNOWN, tenant, user, list(items))
    return {
        row["item"]: Edit(
            tenant=tenant, user=user, item=row["item"], at_ms=row["at_ms"], text=row["correction"], muted=row["muted"],
            forget=row["forgotten_at_ms"] == row["at_ms"], forgotten_at_ms=row["forgotten_at_ms"],
        )
        for row in rows
    }  # fmt: skip


async def keep(connection: Connection, edit: Edit, turn: str) -> None:
    """Keeps what memory.editing.newest gave. turn: from which a forgotten memory came, "" for none; what is drawn from
    it later is not stored."""
    await connection.execute(
        _KEEP, edit.tenant, edit.user, storable(edit.item), turn, "" if edit.forget else storable(edit.text),
        edit.muted, edit.forgotten_at_ms, edit.at_ms,
    )  # fmt: skip
