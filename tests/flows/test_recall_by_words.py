"""The search by words where a member has many memories: what is looked for is bounded, and the best is found."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterator

import asyncpg
import pytest
import pytest_asyncio

from memory.postgres import PostgresStore
from memory.tables.memories import _RECALL
from tests.support.databases import fresh_database, postgres_server
from tests.support.store_rows import DIMENSIONS, NORTH, PARTITION, conversation_id, memory

RIVER, WATER, HERON, OTTER = 300, 200, 40, 3  # how many memories hold the word


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with postgres_server() as dsn:
        yield dsn


@pytest_asyncio.fixture
async def store(server: str) -> AsyncIterator[PostgresStore]:
    """A member whose memories all hold `river`, the first some of them more; others say the same words."""
    async with fresh_database(server) as dsn:
        made = PostgresStore(dsn, DIMENSIONS)
        await made.migrate()
        await made.open()
        changes = []
        for number in range(RIVER):
            words = ["river", *(word for word, held in (("water", WATER), ("heron", HERON), ("otter", OTTER))
                                if number < held)]  # fmt: skip
            changes.append(memory(f"m{number}", f"{' '.join(words)} number{number}", NORTH, conversation=number % 9))
        changes += [memory(f"eve{n}", "river water heron otter", NORTH, user="eve") for n in range(80)]
        changes += [memory(f"rival{n}", "river water heron otter", NORTH, tenant="rival") for n in range(80)]
        assert await made.project(PARTITION, 9, changes)
        connection = await asyncpg.connect(dsn)
        await connection.execute("ANALYZE memories")  # as autovacuum does soon
        await connection.close()
        made.exact_rows, made.word_rows, made.ranked_rows = 100, 50, 60
        yield made
        await made.close()


async def worded(store: PostgresStore, text: str, limit: int = 60, **more: str) -> set[int]:
    """The numbers of the memories that were found by words."""
    found = await store.recall("acme", "ada", NORTH, text, limit, **more)
    return {int(row.id.removeprefix("m")) for row in found if row.text_rank}


@pytest.mark.asyncio
async def test_a_rare_word_is_searched_for_and_a_common_one_beside_it_is_not(store: PostgresStore) -> None:
    assert await worded(store, "Was there an otter in the river?") == set(range(OTTER))
    assert await worded(store, "herons and otters") == set(range(HERON))
    assert await worded(store, "the number123 of the river") == {123}


@pytest.mark.asyncio
async def test_of_few_memories_every_one_with_a_word_is_ranked(store: PostgresStore) -> None:
    store.exact_rows = RIVER
    assert await worded(store, "Was there an otter in the river?", 400) == set(range(RIVER))


@pytest.mark.asyncio
async def test_common_words_alone_are_searched_for_together_and_bounded(store: PostgresStore) -> None:
    both = await worded(store, "the water of the river")
    assert len(both) == 60
    assert both <= set(range(WATER)), "one that holds both is better than one that holds one"
    assert len(await worded(store, "river")) == 60
    assert await worded(store, "lake") == set()


@pytest.mark.asyncio
async def test_words_that_are_rare_alone_and_many_together_are_taken_rarest_first(store: PostgresStore) -> None:
    store.word_rows, store.ranked_rows = 250, 100
    assert await worded(store, "otter heron water", 99) == set(range(HERON)), "water would make it 243"
    store.ranked_rows = 250
    assert await worded(store, "otter heron water", 250) == set(range(WATER))


@pytest.mark.asyncio
async def test_a_long_question_is_asked_by_its_longest_words(store: PostgresStore) -> None:
    many = " ".join(f"filler{number:02d}" for number in range(60))
    assert await worded(store, f"{many} otter") == set(), "sixty longer words come before it"
    assert await worded(store, f"a b c d e f g number17 {many[:180]}") == {17}


@pytest.mark.asyncio
async def test_what_is_excluded_is_not_found_by_words_either(store: PostgresStore) -> None:
    assert await worded(store, "otter", exclude_conversation=conversation_id(1)) == {0, 2}


@pytest.mark.asyncio
async def test_indexes_answer_behind_the_wall_between_tenants(store: PostgresStore) -> None:
    """Row-level security keeps an index from a condition that might leak; what is joined and ordered here does not."""
    async with store._within("acme") as connection, connection.transaction():
        for other in ("seqscan", "bitmapscan", "hashjoin", "mergejoin"):  # what a table of this size is better off with
            await connection.execute(f"SET LOCAL enable_{other} = off")
        plan = await connection.fetch(
            f"EXPLAIN {_RECALL}", "acme", "ada", NORTH, "otter", 9, "", 100, [], 50, 60, 24
        )  # fmt: skip
    text = "\n".join(row[0] for row in plan)
    assert "(current_setting('headstart.tenant'::text, true) = 'acme'::text)" in text
    assert "Index Cond: ((tenant = 'acme'::text) AND (id = " in text, "what was found is fetched by its id"
    assert "Order By: (embedding <=> " in text, "the graph orders"
    assert len(set(re.findall(r" on memories_(\d)", text))) == 1, "one part of the table is asked"
