"""Writing what was learnt, in the transaction of a batch: facts held to each other, examples, habits, readings.

What is counted or compared with what is there (habits, facts) is read, changed and written; the member's lock makes
transactions of other partitions, which may be about the same member, wait for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Final

import pgvector

from memory.editing import edited_habit, is_counted
from memory.habits import counted, habit_id
from memory.revising import FactState, outdated, revise
from memory.rows import OUTDATED, Edit, ExampleRow, MemoryRow, Observed, Reading, ReadingDone, Row
from memory.tables.base import storable
from memory.tables.edits import edits_of
from memory.tables.learning import habit_of

if TYPE_CHECKING:
    import asyncpg

    from memory.rows import HabitRow
    from memory.tables.base import Connection

_LOCK: Final = "SELECT pg_advisory_xact_lock(hashtextextended($1, 0))"
_FACTS: Final = """
SELECT id, subject, attribute, value, single, negated, valid_from_ms, valid_to_ms, superseded_by, conversation, turn
FROM memories JOIN unnest($3::text[], $4::text[]) AS given (subject, attribute) USING (subject, attribute)
WHERE tenant = $1 AND member = $2 AND attribute <> ''
"""
_REVISE: Final = """
UPDATE memories SET valid_to_ms = given.valid_to_ms, superseded_by = given.superseded_by
FROM unnest($3::text[], $4::bigint[], $5::text[]) AS given (id, valid_to_ms, superseded_by)
WHERE memories.tenant = $1 AND memories.member = $2 AND memories.id = given.id
"""
_OUTDATED: Final = """
UPDATE memories SET confidence = $6
FROM unnest($3::text[], $4::text[], $5::text[]) AS given (conversation, turn, value)
WHERE memories.tenant = $1 AND memories.member = $2 AND memories.conversation = given.conversation
  AND memories.turn = given.turn AND layer = 'conversation' AND speaker = 'user'
  AND position(lower(given.value) IN lower(memories.text)) > 0
"""
_EXAMPLE: Final = """
INSERT INTO examples AS known (turn, conversation, tenant, member, agent, question, answer, rating, shared, at_ms,
                               embedding)
SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11 WHERE EXISTS (SELECT 1 FROM turns WHERE turn = $1)
ON CONFLICT (turn) DO UPDATE SET rating = excluded.rating, shared = excluded.shared, at_ms = excluded.at_ms
WHERE excluded.at_ms >= known.at_ms
"""
_HABITS: Final = "SELECT * FROM habits WHERE tenant = $1 AND member = $2 AND id = ANY ($3::text[])"
_HABIT: Final = """
INSERT INTO habits (id, tenant, member, kind, name, taken, declined, hours, first_at_ms, last_at_ms, correction, muted)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
ON CONFLICT (tenant, member, id) DO UPDATE SET
    taken = excluded.taken, declined = excluded.declined, hours = excluded.hours, first_at_ms = excluded.first_at_ms,
    last_at_ms = excluded.last_at_ms
"""
_READING: Final = """
INSERT INTO readings (turn, step, conversation, tenant, member, partition, at_ms, epoch, asked_at_ms,
                      text)
SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, $10 WHERE EXISTS (SELECT 1 FROM turns WHERE turn = $1)
ON CONFLICT (turn, step) DO NOTHING
"""
_READ: Final = "DELETE FROM readings WHERE turn = $1 AND step = $2"


async def lock_members(connection: Connection, rows: Iterable[Row]) -> None:
    """Until the transaction ends nobody else changes what is counted or compared of the members that these rows are
    about. Always in one order, so that two transactions never wait for each other."""
    members = {
        f"{row.tenant}\x1f{row.user}"
        for row in rows
        if isinstance(row, Observed | Edit) or (isinstance(row, MemoryRow) and row.attribute)
    }
    for name in sorted(members):
        await connection.execute(_LOCK, storable(name))


async def revise_facts(connection: Connection, rows: Sequence[MemoryRow]) -> None:
    """Holds the facts that were just written to those that were there."""
    members: dict[tuple[str, str], set[tuple[str, str]]] = {}
    for row in rows:
        if row.attribute:
            members.setdefault((row.tenant, row.user), set()).add((storable(row.subject), storable(row.attribute)))
    for (tenant, user), keys in members.items():
        columns = [list(column) for column in zip(*keys, strict=True)]
        found = await connection.fetch(_FACTS, tenant, user, *columns)
        said = {row["id"]: (row["conversation"], row["turn"]) for row in found}
        states = {row["id"]: _state(row) for row in found}
        changed = revise(list(states.values()))
        if changed:
            await connection.execute(
                _REVISE, tenant, user, [fact.id for fact in changed], [fact.valid_to_ms for fact in changed],
                [fact.superseded_by for fact in changed],
            )  # fmt: skip
        if gone := outdated(changed, states):
            await outdate(connection, tenant, user, [(*said[fact.id], fact.value) for fact in gone])


async def outdate(connection: Connection, tenant: str, user: str, said: Sequence[tuple[str, str, str]]) -> None:
    """Lowers the confidence of what the user said in these words: (conversation, turn, value)."""
    columns = [list(column) for column in zip(*said, strict=True)]
    await connection.execute(_OUTDATED, tenant, user, *columns, OUTDATED)


def _state(row: asyncpg.Record) -> FactState:
    return FactState(
        id=row["id"], subject=row["subject"], attribute=row["attribute"], value=row["value"], single=row["single"],
        negated=row["negated"], valid_from_ms=row["valid_from_ms"], valid_to_ms=row["valid_to_ms"],
        superseded_by=row["superseded_by"],
    )  # fmt: skip


async def write_examples(connection: Connection, rows: Sequence[ExampleRow]) -> None:
    """The newest rating of each turn; none of a turn that is gone."""
    await connection.executemany(
        _EXAMPLE,
        [
            (
                row.turn, row.conversation, row.tenant, row.user, row.agent, storable(row.question),
                storable(row.answer), row.rating, row.shared, row.at_ms, pgvector.Vector(row.vector),
            )
            for row in rows
        ],
    )  # fmt: skip


async def count_habits(connection: Connection, rows: Sequence[Observed]) -> None:
    """Counts what was seen; the members' locks are held."""
    members: dict[tuple[str, str], list[Observed]] = {}
    for row in rows:
        members.setdefault((row.tenant, row.user), []).append(row)
    for (tenant, user), seen in members.items():
        names = list({habit_id(tenant, user, row.kind, row.name) for row in seen})
        edits = await edits_of(connection, tenant, user, names)
        known: dict[str, HabitRow] = {
            row["id"]: habit_of(row) for row in await connection.fetch(_HABITS, tenant, user, names)
        }
        for row in seen:
            name = habit_id(tenant, user, row.kind, row.name)
            if is_counted(row, edits.get(name)):
                known[name] = edited_habit(counted(known.get(name), row), edits.get(name))
        await connection.executemany(
            _HABIT,
            [
                (
                    habit.id, tenant, user, habit.kind, storable(habit.name), habit.taken, habit.declined,
                    list(habit.hours), habit.first_at_ms, habit.last_at_ms, habit.correction, habit.muted,
                )
                for habit in known.values()
            ],
        )  # fmt: skip


async def write_readings(connection: Connection, partition: int, rows: Sequence[Reading]) -> None:
    await connection.executemany(
        _READING,
        [
            (row.turn, row.step, row.conversation, row.tenant, row.user, partition, row.at_ms, row.epoch,
             row.asked_at_ms, storable(row.text))
            for row in rows
        ],
    )  # fmt: skip


async def end_readings(connection: Connection, rows: Sequence[ReadingDone]) -> None:
    await connection.executemany(_READ, [(row.turn, row.step) for row in rows])
