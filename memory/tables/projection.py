"""Writing what the log says: changes and the position in one transaction.

The row of `positions` is locked first, so two workers that both believe to own a partition take turns, and the second
sees what the first stored. Changes are written in the order of the log, except that openings, turns, outcomes and
memories between two deletions or renamings are written each in one statement.

Forgetting a member locks `forgotten_members` against everybody who has read it, so no transaction of another partition
can slip in what it checked before: see _FORGET_LOCK.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any, Final

from memory.rows import (
    CallOutcome,
    Change,
    ConversationRow,
    Edit,
    ExampleRow,
    MemoryRow,
    Observed,
    Reading,
    ReadingDone,
    Row,
    TurnRecord,
)
from memory.tables import editing, learnt, writing
from memory.tables.base import Tables
from memory.tables.writing import member_hash
from streams.events.conversation import ConversationDeleted, ConversationRenamed, MemberForgotten

if TYPE_CHECKING:
    from memory.tables.base import Connection

_POSITION: Final = "SELECT position, resume FROM positions WHERE topic_epoch = $1 AND partition = $2"
_FIRST_POSITION: Final = "INSERT INTO positions VALUES ($1, $2, -1, 0) ON CONFLICT DO NOTHING"
_MOVE: Final = "UPDATE positions SET position = $3, resume = $4 WHERE topic_epoch = $1 AND partition = $2"
# Readers of the table hold ACCESS SHARE until they commit; this waits for them, and they for this.
_FORGET_LOCK: Final = "LOCK TABLE forgotten_members IN ACCESS EXCLUSIVE MODE"
_FORGOTTEN: Final = "SELECT member_hash, forgotten_at_ms FROM forgotten_members WHERE member_hash = ANY ($1::bytea[])"
Forgotten = dict[bytes, int]
_PLACES: Final[dict[type, int]] = {
    kind: place
    for place, kind in enumerate(
        (ConversationRow, TurnRecord, CallOutcome, MemoryRow, ExampleRow, Observed, Reading, ReadingDone)
    )
}
Said = TurnRecord | ConversationRow | MemoryRow | ExampleRow | Observed | Edit | Reading


class ProjectionTables(Tables):
    async def position(self, partition: int) -> int:
        async with self._across() as connection:
            row = await connection.fetchrow(_POSITION, self._epoch, partition)
        return -1 if row is None else int(row["position"])

    async def resume_offset(self, partition: int) -> int | None:
        async with self._across() as connection:
            row = await connection.fetchrow(_POSITION, self._epoch, partition)
        return None if row is None else int(row["resume"])

    async def project(
        self, partition: int, position: int, changes: Sequence[Change], resume: int | None = None
    ) -> bool:
        for change in changes:
            if isinstance(change.row, MemoryRow | ExampleRow) or (
                isinstance(change.row, Edit) and change.row.successor
            ):
                self._check(change.row.vector)
        async with self._transaction() as connection:
            if any(isinstance(change.row, MemberForgotten) for change in changes):
                await connection.execute(_FORGET_LOCK)
            await connection.execute(_FIRST_POSITION, self._epoch, partition)
            stored = await connection.fetchval(f"{_POSITION} FOR UPDATE", self._epoch, partition)
            if position <= stored:
                return False
            rows = [change.row for change in changes if change.offset > stored]
            if rows:
                forgotten = await _forgotten(connection, rows)
                # After that table was read: whoever forgets a member holds it against readers, then asks for these.
                await learnt.lock_members(connection, rows)
                for kind, group in groupby(_grouped(rows), key=type):
                    await self._write(connection, partition, kind, list(group), forgotten)
            await connection.execute(
                _MOVE, self._epoch, partition, position, position + 1 if resume is None else resume
            )
            return True

    async def _write(
        self, connection: Connection, partition: int, kind: type[Row], rows: list[Any], forgotten: Forgotten
    ) -> None:
        kept = [row for row in rows if not isinstance(row, Said) or _said_at_ms(row) > _forgotten_until(row, forgotten)]
        if kind is TurnRecord:
            stays = {row.turn for row in kept}
            await writing.clear_claims(connection, [row.turn for row in rows if row.turn not in stays])
            await writing.write_turns(connection, self._epoch, partition, kept)
        elif kind is ConversationRow:
            await writing.write_conversations(connection, kept)
        elif kind is MemoryRow:
            await writing.write_memories(connection, kept)
            await learnt.revise_facts(connection, kept)
        elif kind is ExampleRow:
            await learnt.write_examples(connection, kept)
        elif kind is Observed:
            await learnt.count_habits(connection, kept)
        elif kind is Edit:
            await editing.write_edits(connection, kept)
        elif kind is Reading:
            await learnt.write_readings(connection, partition, kept)
        elif kind is ReadingDone:
            await learnt.end_readings(connection, kept)
        elif kind is CallOutcome:
            await writing.write_outcomes(connection, rows)
        elif kind is ConversationRenamed:
            await writing.rename(connection, rows)
        elif kind is ConversationDeleted:
            await writing.delete(connection, rows)
        else:
            for row in rows:
                await writing.forget(connection, row)
                key = member_hash(row.tenant, row.user)
                forgotten[key] = max(row.at_ms, forgotten.get(key, -1))


def _grouped(rows: list[Row]) -> list[Row]:
    """The rows with those of one kind side by side, where nothing that erases or renames stands between them."""
    stretch = 0
    keys: list[tuple[int, int]] = []
    for row in rows:
        place = _PLACES.get(type(row))
        if place is None:
            stretch += 2
            keys.append((stretch - 1, 0))
        else:
            keys.append((stretch, place))
    return [row for _, row in sorted(zip(keys, rows, strict=True), key=lambda pair: pair[0])]


async def _forgotten(connection: Connection, rows: Iterable[Row]) -> Forgotten:
    """Until when the members of these rows have asked to be forgotten."""
    members = {member_hash(row.tenant, row.user) for row in rows if isinstance(row, Said)}
    found = await connection.fetch(_FORGOTTEN, list(members))
    return {bytes(row["member_hash"]): row["forgotten_at_ms"] for row in found}


def _said_at_ms(row: Said) -> int:
    """When what the row tells was said or done."""
    if isinstance(row, TurnRecord):
        return row.accepted_at_ms
    return row.created_at_ms if isinstance(row, ConversationRow) else row.at_ms


def _forgotten_until(row: Said, forgotten: Forgotten) -> int:
    return forgotten.get(member_hash(row.tenant, row.user), -1)
