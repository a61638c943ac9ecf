"""The stores that every conformance suite of a store runs on: the one in memory, and Postgres."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio

from memory.memory_store import MemoryStore
from memory.postgres import PostgresStore
from memory.store import Store
from tests.support.databases import fresh_database, postgres_server
from tests.support.store_rows import DIMENSIONS


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with postgres_server() as dsn:
        yield dsn


@pytest_asyncio.fixture(params=["memory", "postgres"])
async def store(request: pytest.FixtureRequest) -> AsyncIterator[Store]:
    if request.param == "memory":
        yield MemoryStore(DIMENSIONS)
        return
    async with fresh_database(request.getfixturevalue("server")) as dsn:
        postgres = PostgresStore(dsn, DIMENSIONS)
        await postgres.migrate()
        await postgres.open()
        yield postgres
        await postgres.close()
