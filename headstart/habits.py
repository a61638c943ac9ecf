"""`headstart memory habits`: what was learnt of somebody's ways. `headstart memory habit ID` changes it."""

from __future__ import annotations

import asyncio
import os

import typer
from rich.console import Console
from rich.table import Table

from headstart.memory_edits import Tenant, User
from headstart.stack import TENANT, USER
from memory.habits import sentence
from memory.opening import open_store
from streams.settings import Settings


def register(memory: typer.Typer) -> None:
    """Adds the command to `headstart memory`."""
    memory.command()(habits)


def habits(tenant: Tenant = TENANT, user: User = USER) -> None:
    """What somebody does again and again, as it is told to prompts, with how often it was seen."""
    asyncio.run(_habits(tenant, user))


async def _habits(tenant: str, user: str) -> None:
    table = Table("id", "kind", "what", "taken", "declined", "")
    async with open_store(Settings.from_env(os.environ)) as store:
        for row in await store.habits(tenant, user):
            mark = "muted" if row.muted else "corrected" if row.correction else ""
            table.add_row(row.id, row.kind, sentence(row), str(row.taken), str(row.declined), mark)
    Console().print(table)
