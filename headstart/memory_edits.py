"""`headstart memory correct`, `erase` and `habit`: what somebody says of their memories and habits, from a shell.

A word on a memory is a command like any other: it goes to `turns`, becomes a fact of the log, and is applied by the
memory worker. The commands wait until it is, so both workers have to run.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Annotated, Final

import typer

from headstart.stack import TENANT, USER
from memory.drafts import PIECE_CHARACTERS
from memory.opening import open_bus, open_store
from memory.store import Store
from streams import ids
from streams.bus import Bus
from streams.errors import InvalidInput, NotFound, PeerTimeout
from streams.events.editing import MemoryEdit
from streams.settings import Settings
from streams.signing import command_secret, signed_by_gateway
from streams.topology import TURNS

APPLIED_TIMEOUT_S: Final = 30.0
_PAUSE_S: Final = 0.05
SOURCE: Final = "operator/headstart"

Tenant = Annotated[str, typer.Option(help="whose: the tenant")]
User = Annotated[str, typer.Option(help="whose: the user")]


def register(memory: typer.Typer) -> None:
    """Adds the commands to `headstart memory`."""
    memory.command()(correct)
    memory.command()(erase)
    memory.command()(habit)


def correct(
    memory_id: Annotated[str, typer.Argument(metavar="ID", help="as `headstart memory log` shows it")],
    text: Annotated[str, typer.Argument(help="what is so instead")],
    tenant: Tenant = TENANT,
    user: User = USER,
) -> None:
    """Corrects a memory: the text takes its place; what it said stays as a revision and is no longer recalled."""
    if not 0 < len(text.strip()) <= PIECE_CHARACTERS:
        raise InvalidInput(f"a memory is a text of 1 to {PIECE_CHARACTERS} characters")
    _run(tenant, user, memory_id, text=text.strip())


def erase(
    memory_id: Annotated[str, typer.Argument(metavar="ID", help="as `headstart memory log` shows it")],
    tenant: Tenant = TENANT,
    user: User = USER,
) -> None:
    """Erases a memory with its revisions and whatever says the same words of the same turn."""
    _run(tenant, user, memory_id, forget=True)


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
    _run(tenant, user, habit_id, text=correct.strip(), muted=mute, forget=forget)


def _run(
    tenant: str, user: str, item: str, *, text: str = "", muted: bool = False, forget: bool = False
) -> None:  # fmt: skip
    edit = MemoryEdit(
        conversation="", tenant=tenant, user=user, item=item, at_ms=time.time_ns() // 1_000_000, text=text, muted=muted,
        forget=forget,
    )  # fmt: skip
    asyncio.run(_publish(Settings.from_env(os.environ), edit))
    sys.stdout.write("erased\n" if forget else "noted\n")


async def _publish(settings: Settings, edit: MemoryEdit) -> None:
    async with open_bus(settings, "headstart-memory-edit") as bus, open_store(settings) as store:
        await say(bus, store, edit, settings.signing_key, os.urandom(10).hex())


async def say(
    bus: Bus, store: Store, edit: MemoryEdit, signing_key: str | None, nonce: str,
    timeout_s: float = APPLIED_TIMEOUT_S,
) -> None:  # fmt: skip
    """Sends a word on a memory or a habit, and waits until the store has it. The edit's conversation is filled in.
    timeout_s: 0 does not wait.

    signing_key: the installation's, None in development. Raises NotFound (`unknown_memory`, `unknown_habit`),
    InvalidInput (`memory_superseded`), PeerTimeout (`not_applied`), and what the bus and the store raise.
    """
    home, applied = await _watched(bus, store, edit)
    event = MemoryEdit(
        conversation=home, tenant=edit.tenant, user=edit.user, item=edit.item, at_ms=edit.at_ms, text=edit.text,
        muted=edit.muted, forget=edit.forget, new=edit.new,
    )  # fmt: skip
    name = f"{edit.item}/edit/{nonce}"
    extra = signed_by_gateway(event, name, TURNS.name, home, command_secret(signing_key)) if signing_key else ()
    _ = await bus.publish(TURNS.name, ids.partition_of(home), home, event, name, SOURCE, extra)
    deadline = time.monotonic() + timeout_s
    while timeout_s > 0 and not await applied():
        if time.monotonic() > deadline:
            raise PeerTimeout(
                f"it was said but not applied within {timeout_s:g} s", code="not_applied",
                hint="it is applied once a turns worker and a memory worker run that accept this installation's key",
            )  # fmt: skip
        await asyncio.sleep(_PAUSE_S)


async def _watched(bus: Bus, store: Store, edit: MemoryEdit) -> tuple[str, Callable[[], Awaitable[bool]]]:
    """Where the word belongs in the log, and whether the store has it."""
    if edit.item.startswith("habit_"):
        if not [row for row in await store.habits(edit.tenant, edit.user) if row.id == edit.item]:
            raise NotFound("no such habit", code="unknown_habit", hint="see `headstart memory habits`")

        async def habit_is_so() -> bool:
            rows = [row for row in await store.habits(edit.tenant, edit.user) if row.id == edit.item]
            if edit.forget:
                return not rows or rows[0].first_at_ms > edit.at_ms
            return bool(rows) and (rows[0].correction, rows[0].muted) == (edit.text, edit.muted)

        return ids.member_conversation(edit.tenant, edit.user, bus.partitions), habit_is_so
    if edit.new:

        async def is_there() -> bool:
            return bool(await store.known_memories(edit.tenant, edit.user, [edit.item]))

        return ids.member_conversation(edit.tenant, edit.user, bus.partitions), is_there
    found = await store.known_memories(edit.tenant, edit.user, [edit.item])
    if not found:
        raise NotFound("no such memory", code="unknown_memory", hint="see `headstart memory log CONVERSATION`")
    if edit.text and found[0].superseded_by:
        raise InvalidInput(
            "another memory has taken the place of this one", code="memory_superseded",
            hint=f"correct {found[0].superseded_by}",
        )  # fmt: skip

    async def memory_is_so() -> bool:
        rows = await store.known_memories(edit.tenant, edit.user, [edit.item])
        return not rows if edit.forget else bool(rows and rows[0].superseded_by)

    home = found[0].conversation or ids.member_conversation(edit.tenant, edit.user, bus.partitions)
    return home, memory_is_so
