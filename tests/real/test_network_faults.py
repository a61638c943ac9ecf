"""The network between each two parts is cut, stalled, half open and slow; when it is whole again the next thing works.

Of every pair one operation works, then the fault begins and another one is under way: it ends by a typed error or goes
on when the fault is over, and the one after it works at once. Time-outs are short here: they are the parts' arguments.
Here: worker and Postgres.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator
from urllib.parse import parse_qs, urlsplit

import pytest

from memory.migrate import migrate
from memory.postgres import PostgresStore
from streams import ids
from tests.support.databases import fresh_database, postgres_server
from tests.support.fault_proxy import FAULTS, PATIENCE_S, Fault, FaultProxy, broken_and_whole

pytestmark = pytest.mark.asyncio
SHORT_S = 0.4  # of the database's time-outs


@pytest.fixture(scope="module")
def postgres() -> Iterator[str]:
    with postgres_server() as dsn:
        yield dsn


@pytest.mark.parametrize("fault", FAULTS)
async def test_worker_and_postgres(fault: Fault, postgres: str) -> None:
    async with fresh_database(postgres) as dsn:
        await migrate(dsn, 384)
        parts = urlsplit(dsn)
        folder = parse_qs(parts.query).get("host", [""])[0]
        upstream = f"{folder}/.s.PGSQL.{parts.port or 5432}" if folder else (parts.hostname or "", parts.port or 5432)
        async with FaultProxy(upstream) as proxy:
            through = f"postgresql://{parts.username}@127.0.0.1:{proxy.port}{parts.path}"
            store = PostgresStore(through, pool_size=3, connect_timeout_s=SHORT_S, command_timeout_s=SHORT_S)
            await store.open()
            numbers = itertools.count()

            async def operation() -> None:
                number = next(numbers)
                names = [f"{number}/{name}" for name in range(3)]  # side by side: every connection of the pool
                conversation = ids.conversation_id(1, number, bytes(10))
                claims = [store.claim_submit("acme", "ada", name, conversation, 1) for name in names]
                for claimed in await asyncio.gather(*claims, return_exceptions=True):
                    if isinstance(claimed, BaseException):
                        raise claimed
                    assert claimed == conversation

            await broken_and_whole(proxy, fault, operation)
            async with asyncio.timeout(PATIENCE_S):
                await store.close()
