"""The statements that write what the log says, a group of rows at a time (unnest).

Each may be repeated: a turn that has ended is never overwritten, a memory's id is made from its source.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

import msgspec
import pgvector

from memory.rows import CallOutcome, ConversationRow, MemoryRow, TurnRecord, title_of
from memory.tables.base import storable
from streams.events.conversation import ConversationDeleted, ConversationRenamed, MemberForgotten
from streams.ids import digest_hex

if TYPE_CHECKING:
    from memory.tables.base import Connection

_CONVERSATIONS: Final = """
INSERT INTO conversations (conversation, tenant, member, title, parent, parent_turn, created_at_ms, updated_at_ms)
SELECT conversation, tenant, member, title, parent, parent_turn, at_ms, at_ms
FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::bigint[])
    AS given (conversation, tenant, member, title, parent, parent_turn, at_ms)
ON CONFLICT (conversation) DO NOTHING
"""
_TURNS: Final = """
INSERT INTO turns AS known
SELECT given.* FROM unnest(
    $1::text[], $2::text[], $3::text[], $4::text[], $5::bigint[], $6::integer[], $7::bigint[], $8::bigint[],
    $9::text[], $10::text[], $11::boolean[], $12::text[], $13::text[], $14::jsonb[], $15::bigint[], $16::bigint[],
    $17::text[], $18::bigint[], $19::text[], $20::text[]
) AS given (turn, conversation) JOIN conversations USING (conversation) WHERE NOT deleted
ON CONFLICT (turn) DO UPDATE SET
    topic_epoch = excluded.topic_epoch, begin_offset = excluded.begin_offset, end_offset = excluded.end_offset,
    status = excluded.status, reason = excluded.reason, routed = excluded.routed, agent = excluded.agent,
    awaiting = excluded.awaiting, models = excluded.models, ended_at_ms = excluded.ended_at_ms
WHERE known.status = 'running'
RETURNING turn
"""
_USED: Final = """
UPDATE conversations SET
    updated_at_ms = greatest(updated_at_ms, given.at_ms),
    title = CASE WHEN conversations.title = '' THEN given.title ELSE conversations.title END
FROM unnest($1::text[], $2::bigint[], $3::text[]) AS given (conversation, at_ms, title)
WHERE conversations.conversation = given.conversation AND NOT deleted
"""
_CLEAR_MESSAGES: Final = "DELETE FROM messages WHERE turn = ANY ($1::text[])"
_MESSAGES: Final = """
INSERT INTO messages (turn, position, role, kind, call_id, name, status, text, tenant) SELECT * FROM unnest(
    $1::text[], $2::integer[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[]
)
"""
_MEMORIES: Final = """
INSERT INTO memories (id, layer, tenant, member, text, embedding, at_ms, conversation, turn, source_offset, speaker,
                      valid_from_ms, valid_to_ms, superseded_by, confidence, context, subject, attribute, value, single,
                      negated)
SELECT given.* FROM unnest(
    $1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::vector[], $7::bigint[], $8::text[], $9::text[],
    $10::bigint[], $11::text[], $12::bigint[], $13::bigint[], $14::text[], $15::real[],
    $16::text[], $17::text[], $18::text[], $19::text[], $20::boolean[], $21::boolean[]
) AS given (id, layer, tenant, member, text, embedding, at_ms, conversation, turn)
WHERE NOT EXISTS (SELECT 1 FROM conversations WHERE conversations.conversation = given.conversation AND deleted)
  AND NOT ($22 AND EXISTS (
    SELECT 1 FROM edits WHERE edits.tenant = given.tenant AND edits.member = given.member
      AND forgotten_at_ms >= given.at_ms
      AND (item = given.id OR (edits.turn <> '' AND edits.turn = given.turn AND given.layer = 'fact'))
  ))
ON CONFLICT (tenant, id) DO NOTHING
"""
_OUTCOME: Final = """
UPDATE messages SET status = $3, text = CASE kind WHEN 'function_call_output' THEN $4 ELSE text END
WHERE turn = $1 AND call_id = $2 AND status = 'unanswered'
"""
_RENAME: Final = "UPDATE conversations SET title = $2 WHERE conversation = $1 AND NOT deleted"
_MARK_DELETED: Final = "UPDATE conversations SET title = '', deleted = true, updated_at_ms = $2 WHERE conversation = $1"
_DELETE: Final = (
    "DELETE FROM call_claims USING turns WHERE call_claims.turn = turns.turn AND conversation = $1",
    "DELETE FROM turns WHERE conversation = $1",
    "DELETE FROM memories WHERE conversation = $1",
)
_FORGET: Final = """
INSERT INTO forgotten_members AS known VALUES ($1, $2)
ON CONFLICT (member_hash) DO UPDATE SET forgotten_at_ms = greatest(known.forgotten_at_ms, excluded.forgotten_at_ms)
"""
_GONE: Final = """
SELECT turn FROM turns JOIN conversations USING (conversation)
WHERE turns.tenant = $1 AND turns.member = $2 AND (created_at_ms <= $3 OR accepted_at_ms <= $3)
"""
_ERASE: Final = (
    """DELETE FROM memories WHERE tenant = $1 AND member = $2 AND (at_ms <= $3 OR conversation IN
       (SELECT conversation FROM conversations WHERE tenant = $1 AND member = $2 AND created_at_ms <= $3))""",
    "DELETE FROM habits WHERE tenant = $1 AND member = $2 AND first_at_ms <= $3",
    "DELETE FROM edits WHERE tenant = $1 AND member = $2 AND at_ms <= $3",
    "DELETE FROM examples WHERE tenant = $1 AND member = $2 AND at_ms <= $3",
    "DELETE FROM turns WHERE tenant = $1 AND member = $2 AND accepted_at_ms <= $3",
    "DELETE FROM conversations WHERE tenant = $1 AND member = $2 AND created_at_ms <= $3",
    """DELETE FROM service_quotas WHERE key_id IN
       (SELECT key_id FROM api_keys WHERE tenant = $1 AND member = $2 AND created_at_ms <= $3)""",
    "DELETE FROM api_keys WHERE tenant = $1 AND member = $2 AND created_at_ms <= $3",
)
_ERASE_SUBMITS: Final = "DELETE FROM submit_claims WHERE tenant = $1 AND member = $2"
_CLEAR_CLAIMS: Final = "DELETE FROM call_claims WHERE turn = ANY ($1::text[])"


async def write_conversations(connection: Connection, rows: Sequence[ConversationRow]) -> None:
    """Those that are not there yet."""
    columns = _columns(
        (row.conversation, row.tenant, row.user, storable(row.title), row.parent, row.parent_turn, row.created_at_ms)
        for row in rows
    )
    if columns:
        await connection.execute(_CONVERSATIONS, *columns)


async def write_turns(connection: Connection, topic_epoch: int, partition: int, records: Sequence[TurnRecord]) -> None:
    """Turns with their messages, unless they have ended or their conversation is deleted; opens the conversation of a
    turn whose opening was never seen."""
    newest = {record.turn: record for record in records}  # one statement may touch a row only once
    opened = [
        ConversationRow(
            conversation=record.conversation, tenant=record.tenant, user=record.user,
            created_at_ms=record.accepted_at_ms,
        )
        for record in newest.values()
    ]  # fmt: skip
    await write_conversations(connection, opened)
    columns = _columns(
        (
            record.turn, record.conversation, record.tenant, record.user, topic_epoch, partition,
            record.begin_offset, record.end_offset, record.status, record.reason, record.routed, record.agent,
            record.awaiting, msgspec.to_builtins(record.models), record.accepted_at_ms, record.ended_at_ms,
            record.previous_turn, record.previous_offset, record.event_id, record.origin,
        )
        for record in newest.values()
    )  # fmt: skip
    written = await connection.fetch(_TURNS, *columns) if columns else []
    stored = [newest[row["turn"]] for row in written]
    if not stored:
        return
    await connection.execute(_CLEAR_MESSAGES, [record.turn for record in stored])
    messages = _columns(
        (
            record.turn, row.index, row.role, row.kind, row.call_id, row.name, row.status, storable(row.text),
            record.tenant,
        )
        for record in stored
        for row in record.messages
    )  # fmt: skip
    if messages:
        await connection.execute(_MESSAGES, *messages)
    await connection.execute(_USED, *_columns(_last_uses(stored)))


async def clear_claims(connection: Connection, turns: Sequence[str]) -> None:
    """Claims of calls of turns that are not stored, since their member was forgotten while they ran."""
    if turns:
        await connection.execute(_CLEAR_CLAIMS, list(turns))


async def write_memories(connection: Connection, rows: Sequence[MemoryRow], *, obeying: bool = True) -> None:
    """Those that are not there yet, none of a deleted conversation. obeying: nothing that its person has forgotten
    either, nor facts of a turn of which they have forgotten something."""
    columns = _columns(
        (
            row.id, row.layer, row.tenant, row.user, storable(row.text), pgvector.Vector(row.vector), row.at_ms,
            row.conversation, row.turn, row.source_offset, row.speaker, row.valid_from_ms, row.valid_to_ms,
            row.superseded_by, row.confidence, storable(row.context), storable(row.subject), storable(row.attribute),
            storable(row.value), row.single, row.negated,
        )
        for row in rows
    )  # fmt: skip
    if columns:
        await connection.execute(_MEMORIES, *columns, obeying)


async def write_outcomes(connection: Connection, rows: Sequence[CallOutcome]) -> None:
    await connection.executemany(_OUTCOME, [(row.turn, row.call_id, row.status, storable(row.text)) for row in rows])


async def rename(connection: Connection, rows: Sequence[ConversationRenamed]) -> None:
    await connection.executemany(_RENAME, [(row.conversation, storable(row.title)) for row in rows])


async def delete(connection: Connection, rows: Sequence[ConversationDeleted]) -> None:
    """Leaves a row that says the conversation is deleted, so that nothing of it is taken any more."""
    for row in rows:
        await connection.execute(_MARK_DELETED, row.conversation, row.at_ms)
        for statement in _DELETE:
            await connection.execute(statement, row.conversation)


async def forget(connection: Connection, row: MemberForgotten) -> None:
    """Erases what was said up to `at_ms`, and remembers (by a hash) that nothing of it may come again."""
    await connection.execute(_FORGET, member_hash(row.tenant, row.user), row.at_ms)
    gone = await connection.fetch(_GONE, row.tenant, row.user, row.at_ms)
    await clear_claims(connection, [turn["turn"] for turn in gone])
    for statement in _ERASE:
        await connection.execute(statement, row.tenant, row.user, row.at_ms)
    await connection.execute(_ERASE_SUBMITS, row.tenant, row.user)


def member_hash(tenant: str, user: str) -> bytes:
    """Names a member without saying who it is."""
    return bytes.fromhex(digest_hex("member", tenant, user))


def _last_uses(records: Iterable[TurnRecord]) -> Iterator[tuple[str, int, str]]:
    """(conversation, last used, title) once per conversation; the title is the first turn's."""
    uses: dict[str, tuple[int, str]] = {}
    for record in records:
        used_at_ms, title = uses.get(record.conversation, (0, ""))
        used_at_ms = max(used_at_ms, record.accepted_at_ms, record.ended_at_ms)
        uses[record.conversation] = (used_at_ms, title or storable(title_of(record)))
    for conversation, (used_at_ms, title) in uses.items():
        yield conversation, used_at_ms, title


def _columns(rows: Iterable[tuple[Any, ...]]) -> list[list[Any]]:
    """Rows as the arrays that unnest takes; [] when there is no row."""
    return [list(column) for column in zip(*rows, strict=True)]
