"""`headstart memory habits` and `headstart memory habit ID`: what was learnt of somebody's ways, to see and change."""

from __future__ import annotations

import asyncio
import os
import sys
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from headstart.stack import TENANT, USER
from memory.habits import sentence
from memory.opening import open_store
from streams.errors import InvalidInput, NotFound
from streams.settings import Settings

Tenant = Annotated[str, typer.Option(help="whose: the tenant")]
User = Annotated[str, typer.Option(help="whose: the user")]


def register(memory: typer.Typer) -> None:
    """Adds the commands to `headstart memory`."""
    memory.command()(habits)
    memory.command()(habit)


def habits(tenant: Tenant = TENANT, user: User = USER) -> None:
    """What somebody does again and again, as it is told to prompts, with how often it was seen."""
    asyncio.run(_habits(tenant, user))


def habit(
    habit_id: Annotated[str, typer.Argument(metavar="ID", help="as `headstart memory habits` shows it")],
    correct: Annotated[str, typer.Option(help="say this instead of what was counted")] = "",
    mute: Annotated[bool, typer.Option(help="never tell it, whatever is counted")] = False,
    forget: Annotated[bool, typer.Option(help="erase it; counting begins anew")] = False,
    tenant: Tenant = TENANT,
    user: User = USER,
) -> None:
    """Corrects, mutes or erases a habit; without an option what was counted holds again."""
    if forget and (correct or mute):
        raise InvalidInput("what is erased can be neither corrected nor muted", hint="give --forget alone")
    asyncio.run(_change(tenant, user, habit_id, correct, mute, forget))


async def _habits(tenant: str, user: str) -> None:
    table = Table("id", "kind", "what", "taken", "declined", "")
    async with open_store(Settings.from_env(os.environ)) as store:
        for row in await store.habits(tenant, user):
            mark = "muted" if row.muted else "corrected" if row.correction else ""
            table.add_row(row.id, row.kind, sentence(row), str(row.taken), str(row.declined), mark)
    Console().print(table)


async def _change(tenant: str, user: str, habit_id: str, correct: str, mute: bool, forget: bool) -> None:
    async with open_store(Settings.from_env(os.environ)) as store:
        if forget:
            done = await store.forget_habit(tenant, user, habit_id)
        else:
            done = await store.correct_habit(tenant, user, habit_id, correct.strip(), mute)
    if not done:
        raise NotFound("no such habit", code="unknown_habit", hint="see `headstart memory habits`")
    sys.stdout.write("erased\n" if forget else "noted\n")
