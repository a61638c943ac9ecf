"""`headstart keys` on a real database: made once, seen once, listed, revoked."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator

import pytest
from typer import Typer
from typer.testing import CliRunner

from headstart import keys
from memory.opening import open_store
from streams.settings import Settings
from tests.support.databases import fresh_database, postgres_server

RUN = CliRunner()


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with postgres_server() as url:
        yield url


def command(database: str, *arguments: str) -> tuple[int, str, BaseException | None]:
    app = Typer()
    keys.register(app)
    result = RUN.invoke(app, ["keys", *arguments], env={**os.environ, "HEADSTART_POSTGRES": database, "COLUMNS": "200"})
    return result.exit_code, result.output, result.exception


@pytest.mark.asyncio
async def test_a_key_from_its_making_to_its_end(server: str) -> None:
    async with fresh_database(server) as database:

        async def run(*arguments: str) -> tuple[int, str, BaseException | None]:
            return await asyncio.to_thread(command, database, *arguments)

        code, output, _ = await run("create", "--user", "ada", "--tenant", "acme", "--name", "laptop", "--service")
        assert code == 0
        key = output.strip()
        settings = Settings.from_env({"HEADSTART_POSTGRES": database})
        async with open_store(settings) as store:
            principal = await store.verify_key(key)
            assert principal is not None
            assert (principal.tenant, principal.user, principal.service) == ("acme", "ada", True)
            assert principal.scopes == ("chat", "service")
            code, output, _ = await run("list", "--tenant", "acme")
            assert code == 0
            assert all(word in output for word in (principal.key_id, "ada", "laptop"))
            assert key not in output
            assert (await run("revoke", principal.key_id))[0] == 0
            assert await store.verify_key(key) is None
            code, _, error = await run("revoke", principal.key_id)
            assert code != 0
            assert "no such key" in str(error)
