"""Postgres for tests: one server for a module, one fresh database for a test.

HEADSTART_TEST_POSTGRES names a server that runs elsewhere (a superuser's URL); without it the embedded one is started
in a temporary folder and ended with the module.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import AsyncIterator, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import asyncpg

from memory.embedded import EmbeddedPostgres


@contextmanager
def postgres_server() -> Iterator[str]:
    """URL of a running server. Synchronous, so that a module's fixture may hold it over many event loops."""
    if elsewhere := os.environ.get("HEADSTART_TEST_POSTGRES"):
        yield elsewhere
        return
    with tempfile.TemporaryDirectory(prefix="headstart-test-", ignore_cleanup_errors=True) as folder:
        server = EmbeddedPostgres(Path(folder) / "postgres")
        _run(server.start())
        try:
            yield server.dsn
        finally:
            _run(server.stop())


def _run(work: Coroutine[Any, Any, None]) -> None:
    """In a thread of its own where a loop is running: a module's fixture is made while its first test's loop is. Else
    here, so that the kernel ends the server with this process even when that is killed."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        asyncio.run(work)
        return
    with ThreadPoolExecutor(1) as thread:
        thread.submit(asyncio.run, work).result()


@asynccontextmanager
async def fresh_database(server: str) -> AsyncIterator[str]:
    """URL of an empty database, dropped at the end with whatever is still connected to it."""
    name = f"test_{uuid4().hex}"
    admin = await asyncpg.connect(server)
    try:
        await admin.execute(f"CREATE DATABASE {name}")
        try:
            yield urlunsplit(urlsplit(server)._replace(path=f"/{name}"))
        finally:
            await admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
    finally:
        await admin.close()
