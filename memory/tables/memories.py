"""Recall: the memories nearest to a question by vector, and the best by full text, in one round trip.

Up to EXACT_ROWS memories of one user are compared one by one, found by the index on (tenant, member): that is exact and
costs less than walking a graph that holds everybody's. Only above does HNSW answer, filtered while it scans. Both
branches stand in one statement; the one whose condition is false is never run.

The search by words goes by an index whose keys are a member's own words, and ranks no more than RANKED_ROWS memories
whatever the member has (`memories_by_words`, migration 0010). It counts in the index how many memories hold each word,
and leaves out the commonest.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from memory.rows import Candidate, Vector
from memory.tables.base import Tables, storable

if TYPE_CHECKING:
    import asyncpg

# 4,000 vectors of 384 halves are 3 MB read and about 2 ms of arithmetic.
EXACT_ROWS: Final = 4_000
# Of a user who has more than EXACT_ROWS: a word of a question that more memories hold than WORD_ROWS is not searched
# for, as long as there are others (of 40,000 memories that is a word in every 80th). RANKED_ROWS take about 4 ms to be
# fetched and ranked. Of anybody else every memory with one of the words is ranked.
WORD_ROWS: Final = 500
RANKED_ROWS: Final = 1_500
ASKED_WORDS: Final = 24
ALL: Final = 1 << 30
# Words beyond this do not make a search by words better, only slower.
QUESTION_CHARACTERS: Final = 4_000
_MINE: Final = """tenant = $1 AND member = $2 AND ($6 = '' OR conversation <> $6)
  AND superseded_by = '' AND (turn = '' OR turn <> ALL ($8::text[]))"""
# "+ 0" keeps the planner from answering the exact branch by the graph. "ORDER BY at_ms" has the counting go by the
# index alone, where the planner would rather read rows until it has enough.
# What is found is joined by a plain column: row-level security trusts no index with a condition that might leak what it
# looks at, and `coalesce` counts as one.
_RECALL: Final = f"""
WITH amount AS (
    SELECT count(*) > $7 AS is_large
    FROM (SELECT 1 FROM memories WHERE tenant = $1 AND member = $2 ORDER BY at_ms LIMIT $7 + 1) AS few
), nearest AS (
    SELECT id, row_number() OVER (ORDER BY distance, id) AS vector_rank FROM (
        (SELECT id, embedding <=> $3::vector::halfvec AS distance FROM memories
         WHERE NOT (SELECT is_large FROM amount) AND {_MINE}
         ORDER BY (embedding <=> $3::vector::halfvec) + 0, id LIMIT $5)
        UNION ALL
        (SELECT id, embedding <=> $3::vector::halfvec AS distance FROM memories
         WHERE (SELECT is_large FROM amount) AND {_MINE}
         ORDER BY embedding <=> $3::vector::halfvec LIMIT $5)
    ) AS found
), worded AS (
    SELECT id, score, row_number() OVER (ORDER BY score DESC, id) AS text_rank
    FROM amount, memories_by_words(
        $2, $4, $5, $6, $8, CASE WHEN is_large THEN $9 ELSE {ALL} END, CASE WHEN is_large THEN $10 ELSE {ALL} END,
        CASE WHEN is_large THEN $11 ELSE {ALL} END
    )
), found AS (
    SELECT id, max(vector_rank) AS vector_rank, max(text_rank) AS text_rank, max(score) AS score FROM (
        SELECT id, vector_rank, 0 AS text_rank, 0 AS score FROM nearest
        UNION ALL SELECT id, 0, text_rank, score FROM worded
    ) AS each GROUP BY id
)
SELECT id, layer, text, speaker, context, conversation, turn, at_ms, valid_from_ms, valid_to_ms, superseded_by,
       confidence, subject, attribute, value, 1 - (embedding <=> $3::vector::halfvec) AS similarity,
       score AS text_score, vector_rank, text_rank
FROM found JOIN memories USING (id) WHERE tenant = $1
"""  # noqa: S608 - put together from constants
_STORED: Final = """
SELECT id, layer, text, speaker, context, conversation, turn, at_ms, valid_from_ms, valid_to_ms, superseded_by,
       confidence, subject, attribute, value, NULL AS similarity, 0 AS text_score, 0 AS vector_rank, 0 AS text_rank
FROM memories WHERE tenant = $1 AND member = $2
"""
_LIST: Final = f"{_STORED} AND $4 IN ('', conversation) ORDER BY at_ms DESC, id DESC LIMIT $3"
_KNOWN: Final = f"{_STORED} AND id = ANY ($3::text[])"


class MemoryTables(Tables):
    exact_rows: int = EXACT_ROWS
    """Up to how many memories of one user the search by vector is exact."""
    word_rows: int = WORD_ROWS
    """Up to how many memories of one user may hold a word that the search by words goes by."""
    ranked_rows: int = RANKED_ROWS
    """How many memories the search by words ranks at most."""

    async def recall(
        self, tenant: str, user: str, vector: Vector, text: str, limit: int, exclude_conversation: str = "",
        exclude_turns: Sequence[str] = (),
    ) -> list[Candidate]:  # fmt: skip
        self._check(vector)
        async with self._within(tenant) as connection:
            rows = await connection.fetch(
                _RECALL, tenant, user, vector, storable(text[:QUESTION_CHARACTERS]), limit, exclude_conversation,
                self.exact_rows, list(exclude_turns), self.word_rows, self.ranked_rows, ASKED_WORDS,
            )  # fmt: skip
        return [_candidate(row) for row in rows]

    async def memories(self, tenant: str, user: str, limit: int, conversation: str = "") -> list[Candidate]:
        async with self._within(tenant) as connection:
            rows = await connection.fetch(_LIST, tenant, user, limit, conversation)
        return [_candidate(row) for row in rows]

    async def known_memories(self, tenant: str, user: str, ids: Sequence[str]) -> list[Candidate]:
        async with self._within(tenant) as connection:
            rows = await connection.fetch(_KNOWN, tenant, user, [storable(name) for name in ids])
        return [_candidate(row) for row in rows]


def _candidate(row: asyncpg.Record) -> Candidate:
    return Candidate(
        id=row["id"], layer=row["layer"], text=row["text"], at_ms=row["at_ms"], conversation=row["conversation"],
        turn=row["turn"], speaker=row["speaker"], context=row["context"], valid_from_ms=row["valid_from_ms"],
        valid_to_ms=row["valid_to_ms"], superseded_by=row["superseded_by"], confidence=row["confidence"],
        subject=row["subject"], attribute=row["attribute"], value=row["value"], similarity=row["similarity"],
        text_score=row["text_score"], vector_rank=row["vector_rank"], text_rank=row["text_rank"],
    )  # fmt: skip
