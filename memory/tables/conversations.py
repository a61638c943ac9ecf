"""Reading conversations: who owns one, where a turn is, what was said."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from memory.records import history_messages
from memory.rows import ConversationRow, History, MessageRow, TurnRow
from memory.tables.base import Tables
from streams import ids

if TYPE_CHECKING:
    import asyncpg

_CONVERSATION: Final = "SELECT * FROM conversations WHERE conversation = $1"
_CONVERSATIONS: Final = """
SELECT * FROM conversations
WHERE tenant = $1 AND member = $2 AND NOT deleted
  AND ($4 = '' OR (updated_at_ms, conversation) <
       (SELECT updated_at_ms, conversation FROM conversations WHERE conversation = $4))
ORDER BY updated_at_ms DESC, conversation DESC LIMIT $3
"""
_TURN: Final = """
SELECT turn, conversation, tenant, member, partition, status, agent, accepted_at_ms, ended_at_ms,
       CASE WHEN topic_epoch = $2 THEN begin_offset ELSE -1 END AS begin_offset,
       CASE WHEN topic_epoch = $2 THEN end_offset ELSE -1 END AS end_offset
FROM turns WHERE turn = $1
"""
_BEFORE_HISTORY: Final = """
SELECT parent, parent_turn, deleted, position, resume, coalesce((
    SELECT text FROM memories
    WHERE memories.conversation = conversations.conversation AND attribute = 'summary' AND superseded_by = ''
    ORDER BY valid_from_ms DESC LIMIT 1
), '') AS summary
FROM conversations LEFT JOIN positions ON topic_epoch = $2 AND partition = $3
WHERE conversation = $1
"""
_HISTORY: Final = """
SELECT turn, messages.position, role, kind, call_id, name, messages.status, text
FROM (
    SELECT turn, accepted_at_ms, begin_offset FROM turns
    WHERE conversation = $1 AND status <> 'running' AND NOT (topic_epoch = $4 AND end_offset > $5)
      AND ($3 = '' OR (accepted_at_ms, begin_offset) <=
           (SELECT accepted_at_ms, begin_offset FROM turns WHERE turn = $3))
    ORDER BY accepted_at_ms DESC, begin_offset DESC LIMIT $2
) AS newest LEFT JOIN messages USING (turn)
ORDER BY accepted_at_ms, begin_offset, messages.position
"""
Turns = list[tuple[str, tuple[MessageRow, ...]]]


class ConversationTables(Tables):
    async def conversation(self, conversation: str) -> ConversationRow | None:
        async with self._across() as connection:
            row = await connection.fetchrow(_CONVERSATION, conversation)
        return None if row is None else conversation_of(row)

    async def conversations(self, tenant: str, user: str, limit: int, before: str = "") -> list[ConversationRow]:
        async with self._within(tenant) as connection:
            rows = await connection.fetch(_CONVERSATIONS, tenant, user, limit, before)
        return [conversation_of(row) for row in rows]

    async def turn(self, turn: str) -> TurnRow | None:
        async with self._across() as connection:
            row = await connection.fetchrow(_TURN, turn, self._epoch)
        if row is None:
            return None
        return TurnRow(
            turn=row["turn"], conversation=row["conversation"], tenant=row["tenant"], user=row["member"],
            partition=row["partition"], offset=row["begin_offset"], end_offset=row["end_offset"],
            status=row["status"], agent=row["agent"], accepted_at_ms=row["accepted_at_ms"],
            ended_at_ms=row["ended_at_ms"],
        )  # fmt: skip

    async def history(self, conversation: str, limit_turns: int) -> History:
        turns: Turns = []
        position, resume, upto, summary = -1, 0, "", ""
        async with self._across() as connection:
            link = conversation
            while link and len(turns) < limit_turns:
                row = await connection.fetchrow(_BEFORE_HISTORY, link, self._epoch, ids.partition_of(conversation))
                if row is None or row["deleted"]:
                    break
                summary = row["summary"] if link == conversation else summary
                if link == conversation and row["position"] is not None:
                    position, resume = row["position"], row["resume"]
                found = await connection.fetch(_HISTORY, link, limit_turns - len(turns), upto, self._epoch, position)
                turns = by_turn(found) + turns
                link, upto = row["parent"], row["parent_turn"]
        return History(
            messages=history_messages(turns), position=position, resume=resume, turns=[turn for turn, _ in turns],
            summary=summary,
        )  # fmt: skip


def by_turn(rows: list[asyncpg.Record]) -> Turns:
    """Rows of messages, in order, as turns with their messages."""
    turns: dict[str, list[MessageRow]] = {}
    for row in rows:
        messages = turns.setdefault(row["turn"], [])
        if row["position"] is not None:  # a turn without any message still is one
            messages.append(message_of(row))
    return [(turn, tuple(messages)) for turn, messages in turns.items()]


def message_of(row: asyncpg.Record) -> MessageRow:
    return MessageRow(
        index=row["position"], role=row["role"], text=row["text"], kind=row["kind"], call_id=row["call_id"],
        name=row["name"], status=row["status"],
    )  # fmt: skip


def conversation_of(row: asyncpg.Record) -> ConversationRow:
    return ConversationRow(
        conversation=row["conversation"], tenant=row["tenant"], user=row["member"], title=row["title"],
        parent=row["parent"], parent_turn=row["parent_turn"], created_at_ms=row["created_at_ms"],
        updated_at_ms=row["updated_at_ms"], deleted=row["deleted"],
    )  # fmt: skip
