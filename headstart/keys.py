"""`headstart keys create | list | revoke`: API keys, straight in the database, so that the first one can be made.

A key is shown once, when it is made; the database holds its SHA-256 only.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Annotated, TypeVar

import typer
from rich.console import Console
from rich.table import Table

from memory.keys import CHAT_SCOPE, EVERY_TENANT_SCOPE, QUOTA_SCOPE, SERVICE_SCOPE
from memory.opening import open_store
from memory.rows import KeyRow
from memory.store import Store
from streams.errors import InvalidInput, NotFound
from streams.settings import Settings

T = TypeVar("T")
keys = typer.Typer(no_args_is_help=True, help="API keys of tenants and users.")


def register(app: typer.Typer) -> None:
    """Adds `headstart keys`."""
    app.add_typer(keys, name="keys")


@keys.command()
def create(
    user: Annotated[str, typer.Option(help="whose key it is")],
    tenant: Annotated[str, typer.Option(help="the user's tenant")] = "default",
    name: Annotated[str, typer.Option(help="what it is for, for people")] = "",
    service: Annotated[bool, typer.Option(help="may publish turns and facts for every user of the tenant")] = False,
    every_tenant: Annotated[bool, typer.Option(help="a service's: may answer calls of every tenant's turns")] = False,
    quota: Annotated[int, typer.Option(help="a service's turns and facts a minute; 0: as HEADSTART_SERVICE_QUOTA")] = 0,
) -> None:
    """Makes a key and prints it, the only time that it can be seen. The user of a service's key is the service's name:
    it alone may answer the calls of the skills that it owns."""
    if (every_tenant or quota) and not service:
        raise InvalidInput("--every-tenant and --quota are for --service keys", code="invalid_key")
    scopes = [CHAT_SCOPE, *([SERVICE_SCOPE] if service else []), *([EVERY_TENANT_SCOPE] if every_tenant else [])]
    scopes += [f"{QUOTA_SCOPE}{quota}"] if quota > 0 else []
    key = _with_store(lambda store: store.create_key(tenant, user, name, scopes, _now_ms()))
    sys.stdout.write(f"{key}\n")


@keys.command(name="list")
def list_keys(tenant: Annotated[str, typer.Option(help="of this tenant only")] = "") -> None:
    """Lists keys, oldest first; the keys themselves can not be got back."""
    rows = _with_store(lambda store: store.keys(tenant))
    table = Table("key", "tenant", "user", "name", "scopes", "made", "revoked")
    for row in rows:
        table.add_row(*_cells(row))
    Console().print(table)


@keys.command()
def revoke(key_id: Annotated[str, typer.Argument(help="as `headstart keys list` shows it")]) -> None:
    """Ends a key. A gateway that has just used it believes in it for up to 30 seconds more."""
    if not _with_store(lambda store: store.revoke_key(key_id, _now_ms())):
        raise NotFound("no such key is in force", code="unknown_key", hint="`headstart keys list` shows them")
    sys.stdout.write(f"{key_id} is revoked\n")


def _cells(row: KeyRow) -> tuple[str, ...]:
    revoked = _day(row.revoked_at_ms) if row.revoked_at_ms is not None else ""
    return row.key_id, row.tenant, row.user, row.name, " ".join(row.scopes), _day(row.created_at_ms), revoked


def _day(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M")


def _with_store(work: Callable[[Store], Awaitable[T]]) -> T:
    """Runs work on the database that HEADSTART_POSTGRES names. Raises Misconfigured without it."""
    settings = Settings.from_env(os.environ)

    async def run() -> T:
        async with open_store(settings) as store:
            return await work(store)

    return asyncio.run(run())


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
