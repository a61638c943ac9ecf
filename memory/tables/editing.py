"""Writing what people say of their memories and habits, in the transaction of a batch; memory/editing.py has the rules.

The member's lock is held (learnt.lock_members), so nothing that is compared here changes meanwhile.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from memory.editing import correction_of, forgotten_with, is_habit, newest, superseded_by
from memory.rows import Edit, MemoryRow
from memory.tables import learnt, writing
from memory.tables.base import storable
from memory.tables.edits import edits_of, keep
from streams.ids import TURN

if TYPE_CHECKING:
    import asyncpg

    from memory.tables.base import Connection

_COLUMNS: Final = """id, layer, tenant, member, text, at_ms, conversation, turn, source_offset, speaker, context,
       valid_from_ms, valid_to_ms, superseded_by, confidence, subject, attribute, value, single, negated"""
# The item with everything it took the place of, and what was said or drawn from the turns of these.
_ABOUT: Final = f"""
WITH RECURSIVE chain AS (
    SELECT id, turn FROM memories WHERE tenant = $1 AND member = $2 AND id = $3
    UNION
    SELECT earlier.id, earlier.turn FROM memories AS earlier JOIN chain ON earlier.superseded_by = chain.id
    WHERE earlier.tenant = $1 AND earlier.member = $2
)
SELECT {_COLUMNS} FROM memories WHERE tenant = $1 AND member = $2
  AND (id IN (SELECT id FROM chain) OR turn IN (SELECT turn FROM chain WHERE turn <> ''))
"""  # noqa: S608 - put together from constants
_SUPERSEDE: Final = """
UPDATE memories SET valid_to_ms = $4, superseded_by = $5 WHERE tenant = $1 AND member = $2 AND id = $3
"""
_ERASE: Final = "DELETE FROM memories WHERE tenant = $1 AND member = $2 AND id = ANY ($3::text[])"
_CLEAR_CONTEXT: Final = """
UPDATE memories SET context = '' FROM unnest($3::text[], $4::text[]) AS given (conversation, words)
WHERE memories.tenant = $1 AND memories.member = $2 AND memories.conversation = given.conversation
  AND position(given.words IN memories.context) > 0
"""
_ERASE_EXAMPLES: Final = "DELETE FROM examples WHERE tenant = $1 AND member = $2 AND turn = ANY ($3::text[])"
_ERASE_READINGS: Final = "DELETE FROM readings WHERE tenant = $1 AND member = $2 AND turn = ANY ($3::text[])"
_HABIT: Final = "UPDATE habits SET correction = $4, muted = $5 WHERE tenant = $1 AND member = $2 AND id = $3"
_ERASE_HABIT: Final = "DELETE FROM habits WHERE tenant = $1 AND member = $2 AND id = $3 AND first_at_ms <= $4"
CONTEXT_WORDS: Final = 160  # of an utterance stand at most in the context of what was said after it (memory/drafts.py)


async def write_edits(connection: Connection, rows: Sequence[Edit]) -> None:
    """What these say, in their order. What names nothing of the member's changes nothing."""
    for row in rows:
        if is_habit(row.item):
            await _habit(connection, row)
        elif row.forget:
            await _forget(connection, row)
        elif row.text:
            await _correct(connection, row)


async def _habit(connection: Connection, row: Edit) -> None:
    known = await edits_of(connection, row.tenant, row.user, [row.item])
    kept = newest(known.get(row.item), row)
    await keep(connection, kept, "")
    if row.forget:
        await connection.execute(_ERASE_HABIT, row.tenant, row.user, row.item, row.at_ms)
    elif not kept.forget:
        await connection.execute(_HABIT, row.tenant, row.user, row.item, storable(kept.text), kept.muted)


async def _correct(connection: Connection, row: Edit) -> None:
    about = [_memory(found) for found in await connection.fetch(_ABOUT, row.tenant, row.user, row.item)]
    old = next((one for one in about if one.id == row.item), None)
    if old is None or old.superseded_by:
        return
    new = correction_of(old, row)
    await writing.write_memories(connection, [new], obeying=False)
    if new.attribute:
        await learnt.revise_facts(connection, [new])
    for one in superseded_by(new, old, about):
        await connection.execute(_SUPERSEDE, row.tenant, row.user, one.id, one.valid_to_ms, one.superseded_by)
    if old.value:
        await learnt.outdate(connection, row.tenant, row.user, [(old.conversation, old.turn, old.value)])


async def _forget(connection: Connection, row: Edit) -> None:
    about = [_memory(found) for found in await connection.fetch(_ABOUT, row.tenant, row.user, row.item)]
    item = next((one for one in about if one.id == row.item), None)
    if item is None:
        await keep(connection, newest(None, row), "")  # what was erased with another, or comes from a later batch
        return
    gone = forgotten_with(item, about)
    for one in gone:
        edit = Edit(tenant=row.tenant, user=row.user, item=one.id, at_ms=row.at_ms, forget=True)
        await keep(connection, newest(None, edit), one.turn)
    await connection.execute(_ERASE, row.tenant, row.user, [one.id for one in gone])
    said = [one for one in gone if one.layer == "conversation" and one.conversation]
    await connection.execute(
        _CLEAR_CONTEXT, row.tenant, row.user, [one.conversation for one in said],
        [one.text[:CONTEXT_WORDS] for one in said],
    )  # fmt: skip
    turns = [one.turn for one in gone if one.turn.startswith(TURN)]
    await connection.execute(_ERASE_EXAMPLES, row.tenant, row.user, turns)
    await connection.execute(_ERASE_READINGS, row.tenant, row.user, turns)


def _memory(row: asyncpg.Record) -> MemoryRow:
    """A row without its vector."""
    return MemoryRow(
        id=row["id"], layer=row["layer"], tenant=row["tenant"], user=row["member"], text=row["text"], vector=[],
        at_ms=row["at_ms"], conversation=row["conversation"], turn=row["turn"], source_offset=row["source_offset"],
        speaker=row["speaker"], context=row["context"], valid_from_ms=row["valid_from_ms"],
        valid_to_ms=row["valid_to_ms"], superseded_by=row["superseded_by"], confidence=row["confidence"],
        subject=row["subject"], attribute=row["attribute"], value=row["value"], single=row["single"],
        negated=row["negated"],
    )  # fmt: skip
