"""Postgres is killed under a store that is in use: typed errors while it is away, everything as before afterwards."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Final

import pytest

from memory.embedded import EmbeddedPostgres
from memory.postgres import PostgresStore
from streams.errors import PeerError

ASKING: Final = 8
KILLS: Final = 3


@pytest.mark.asyncio
async def test_whoever_asks_a_killed_postgres_is_told_so_and_later_answered(tmp_path: Path) -> None:
    """The server's last words reach connections of the pool between two queries: none of them may be used again, and
    none of it is a defect of ours."""
    async with EmbeddedPostgres(tmp_path / "postgres") as server, asyncio.timeout(60):
        store = PostgresStore(server.dsn, 4)
        await store.migrate()
        await store.open()
        store.follow(7)
        answers = refusals = 0
        enough = asyncio.Event()

        async def ask(number: int) -> None:
            nonlocal answers, refusals
            while not enough.is_set():
                try:
                    assert await store.claim_submit("acme", "ada", f"e{number}", "conv", 1) == "conv"
                    answers += 1
                except PeerError:
                    refusals += 1
                    await asyncio.sleep(0)

        async with asyncio.TaskGroup() as asking:
            for number in range(ASKING):
                asking.create_task(ask(number))
            for _ in range(KILLS):
                wanted = refusals + ASKING
                server.kill()
                while refusals < wanted:  # noqa: ASYNC110 - others count
                    await asyncio.sleep(0)
                await server.start()
                wanted = answers + ASKING
                while answers < wanted:  # noqa: ASYNC110 - others count
                    await asyncio.sleep(0)
            enough.set()
        await store.close()
