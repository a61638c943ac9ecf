"""Reading what was learnt: examples, habits, what a model is still to read, and what a summary does not hold yet."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from memory.records import history_messages
from memory.rows import Example, Experience, HabitRow, MessageRow, Reading, Unsummarised, Vector
from memory.tables.base import Tables
from memory.tables.conversations import by_turn, message_of
from streams.events.recalling import HistoryMessage

if TYPE_CHECKING:
    import asyncpg

# Two branches, so that each uses its index; a member's own shared example is in both and counts once.
_EXAMPLES: Final = """
SELECT turn, agent, question, answer, 1 - (embedding <=> $3) AS score FROM (
    SELECT * FROM examples WHERE rating = 'good' AND tenant = $1 AND member = $2
    UNION ALL
    SELECT * FROM examples WHERE rating = 'good' AND tenant = $1 AND shared AND member <> $2
) AS good
ORDER BY embedding <=> $3, turn LIMIT $4
"""
_HABITS: Final = "SELECT * FROM habits WHERE tenant = $1 AND member = $2 ORDER BY last_at_ms DESC, id"
_EXPERIENCE: Final = """
SELECT rated, habits.* FROM (
    SELECT EXISTS (SELECT 1 FROM examples WHERE rating = 'good' AND tenant = $1 AND member = $2)
        OR EXISTS (SELECT 1 FROM examples WHERE rating = 'good' AND tenant = $1 AND shared) AS rated
) AS examples LEFT JOIN habits ON tenant = $1 AND member = $2
ORDER BY last_at_ms DESC, id
"""
_READINGS: Final = "SELECT * FROM readings WHERE partition = ANY ($1::integer[]) ORDER BY at_ms, turn, step LIMIT $2"
_ASKED: Final = "UPDATE readings SET epoch = $3, asked_at_ms = $4 WHERE turn = $1 AND step = $2"
_UNREAD: Final = "DELETE FROM readings WHERE turn = $1 AND step = $2"
_MESSAGES: Final = "SELECT * FROM messages WHERE turn = $1 ORDER BY position"
# The summary's value is the last turn that it holds; the turns after it are those that began later.
_SUMMARY: Final = """
SELECT asked.conversation, summary.text, covered.accepted_at_ms, covered.begin_offset
FROM unnest($1::text[]) AS asked (conversation)
LEFT JOIN LATERAL (
    SELECT text, value FROM memories
    WHERE memories.conversation = asked.conversation AND attribute = 'summary' AND superseded_by = ''
    ORDER BY valid_from_ms DESC LIMIT 1
) AS summary ON true
LEFT JOIN turns AS covered ON covered.turn = split_part(summary.value, '/', 1)
"""
_UNSUMMARISED: Final = f"""
SELECT summarised.conversation, coalesce(summarised.text, '') AS summary, count(*) AS turns
FROM ({_SUMMARY}) AS summarised JOIN turns ON turns.conversation = summarised.conversation
WHERE status <> 'running' AND (summarised.accepted_at_ms IS NULL
    OR (turns.accepted_at_ms, turns.begin_offset) > (summarised.accepted_at_ms, summarised.begin_offset))
GROUP BY summarised.conversation, summarised.text
"""  # noqa: S608 - put together from constants
_OLDEST: Final = f"""
SELECT turn, messages.position, role, kind, call_id, name, messages.status, messages.text
FROM (
    SELECT turns.turn, turns.accepted_at_ms, turns.begin_offset
    FROM ({_SUMMARY}) AS summarised JOIN turns ON turns.conversation = summarised.conversation
    WHERE status <> 'running' AND (summarised.accepted_at_ms IS NULL
        OR (turns.accepted_at_ms, turns.begin_offset) > (summarised.accepted_at_ms, summarised.begin_offset))
    ORDER BY turns.accepted_at_ms, turns.begin_offset LIMIT $2
) AS oldest LEFT JOIN messages USING (turn)
ORDER BY accepted_at_ms, begin_offset, messages.position
"""  # noqa: S608 - put together from constants


class LearningTables(Tables):
    async def examples(self, tenant: str, user: str, vector: Vector, limit: int) -> list[Example]:
        self._check(vector)
        async with self._within(tenant) as connection:
            rows = await connection.fetch(_EXAMPLES, tenant, user, vector, limit)
        return [
            Example(turn=row["turn"], agent=row["agent"], question=row["question"], answer=row["answer"],
                    score=row["score"])
            for row in rows
        ]  # fmt: skip

    async def habits(self, tenant: str, user: str) -> list[HabitRow]:
        async with self._within(tenant) as connection:
            rows = await connection.fetch(_HABITS, tenant, user)
        return [habit_of(row) for row in rows]

    async def experience(self, tenant: str, user: str) -> Experience:
        async with self._within(tenant) as connection:
            rows = await connection.fetch(_EXPERIENCE, tenant, user)
        return Experience([habit_of(row) for row in rows if row["id"] is not None], rows[0]["rated"])

    async def readings(self, partitions: Sequence[int], limit: int) -> list[Reading]:
        async with self._across() as connection:
            rows = await connection.fetch(_READINGS, list(partitions), limit)
        return [
            Reading(
                turn=row["turn"], step=row["step"], conversation=row["conversation"], tenant=row["tenant"],
                user=row["member"], at_ms=row["at_ms"], text=row["text"],
                epoch=row["epoch"], asked_at_ms=row["asked_at_ms"],
            )
            for row in rows
        ]  # fmt: skip

    async def asked(self, turn: str, step: str, epoch: int, at_ms: int) -> None:
        async with self._across() as connection:
            await connection.execute(_ASKED, turn, step, epoch, at_ms)

    async def unread(self, turn: str, step: str) -> None:
        async with self._across() as connection:
            await connection.execute(_UNREAD, turn, step)

    async def messages(self, turn: str) -> tuple[MessageRow, ...]:
        async with self._across() as connection:
            rows = await connection.fetch(_MESSAGES, turn)
        return tuple(message_of(row) for row in rows)

    async def unsummarised(self, conversations: Sequence[str]) -> dict[str, Unsummarised]:
        async with self._across() as connection:
            rows = await connection.fetch(_UNSUMMARISED, list(conversations))
        return {row["conversation"]: Unsummarised(row["turns"], row["summary"]) for row in rows}

    async def oldest_turns(self, conversation: str, limit: int) -> list[HistoryMessage]:
        async with self._across() as connection:
            rows = await connection.fetch(_OLDEST, [conversation], limit)
        return history_messages(by_turn(rows))


def habit_of(row: asyncpg.Record) -> HabitRow:
    return HabitRow(
        id=row["id"], tenant=row["tenant"], user=row["member"], kind=row["kind"], name=row["name"], taken=row["taken"],
        declined=row["declined"], hours=tuple(row["hours"]), first_at_ms=row["first_at_ms"],
        last_at_ms=row["last_at_ms"], correction=row["correction"], muted=row["muted"],
    )  # fmt: skip
