"""`headstart memory export | forget | expire`: what is held of somebody, to take along, to erase, to let grow old.

Whose it is may be asked for by their own key, or by one with the scope `debug` (headstart/replay/access.py).

Nothing is erased here. A command goes to `turns`, its partition's owner writes the fact (`member.forgotten`,
`conversation.deleted`), and every projection obeys that fact, now and whenever it is built again from the log. What
the commands do themselves is to wait until the database has obeyed, and to erase from archives, which nobody may be
keeping.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated, Any, Final

import orjson
import typer

from headstart.replay import archive as archives
from headstart.replay.access import authorised
from headstart.replay.recorder import Selection
from headstart.stack import TENANT, USER
from memory.opening import open_bus, open_store
from memory.postgres import PostgresStore
from streams import ids
from streams.bus import Bus
from streams.errors import InvalidInput, PeerTimeout
from streams.events import Event
from streams.events.intake import ConversationEdit, MemberForget
from streams.settings import Settings
from streams.signing import command_secret, signed_by_gateway
from streams.topology import EVENTS, TURNS

SOURCE: Final = "operator"
WAIT_S: Final = 60.0
LOOK_EVERY_S: Final = 0.2
PAGE: Final = 500
DAY_MS: Final = 86_400_000
SHORTEST_DAYS: Final = (EVENTS.retention_ms or 0) // DAY_MS + 1
Tenant = Annotated[str, typer.Option(help="whose: the tenant")]
User = Annotated[str, typer.Option(help="whose: the user")]
Archives = Annotated[list[Path] | None, typer.Option("--archive", help="a folder of `headstart archive run` too")]


def register(memory: typer.Typer) -> None:
    """Adds the commands to `headstart memory`."""
    memory.command()(export)
    memory.command()(forget)
    memory.command()(expire)


def export(
    tenant: Tenant = TENANT,
    user: User = USER,
    vectors: Annotated[bool, typer.Option(help="with embeddings")] = False,
    archive: Archives = None,
) -> None:
    """Everything that is held of somebody, on stdout: a JSON object a line, with the table that it stands in."""
    asyncio.run(_export(Settings.from_env(os.environ), tenant, user, vectors, archive or []))


def forget(
    tenant: Tenant = TENANT,
    user: User = USER,
    archive: Archives = None,
    yes: Annotated[bool, typer.Option("--yes", help="do not ask")] = False,
    wait_s: Annotated[float, typer.Option(help="how long to wait for the workers, in seconds")] = WAIT_S,
) -> None:
    """Erases what was said up to now by somebody, and everything that was drawn from it. Their keys end too."""
    if not yes:
        typer.confirm(f"Erase everything that is held of {user!r} of {tenant!r}?", abort=True)
    asyncio.run(_forget(Settings.from_env(os.environ), tenant, user, archive or [], wait_s))


def expire(
    days: Annotated[int, typer.Argument(help="erase what nobody has used for so many days")],
    tenant: Annotated[str, typer.Option(help="of this tenant; without it of all")] = "",
) -> None:
    """Deletes conversations in which nothing was said for DAYS, with everything drawn from them, and old claims."""
    if days < SHORTEST_DAYS:
        raise InvalidInput(f"the log itself is kept longer: at least {SHORTEST_DAYS} days", code="too_short")
    deleted, claims = asyncio.run(_expire(Settings.from_env(os.environ), days, tenant))
    sys.stdout.write(f"{deleted:,} conversations are deleted, {claims:,} claims erased\n")


async def _export(settings: Settings, tenant: str, user: str, vectors: bool, folders: list[Path]) -> None:
    _ = await authorised(settings, "memory export", Selection(tenant=tenant, user=user))
    async with open_store(settings) as store:
        async for line in lines_of(store, tenant, user, vectors, folders):
            sys.stdout.buffer.write(line)
    sys.stdout.flush()


async def lines_of(
    store: PostgresStore, tenant: str, user: str, vectors: bool, folders: list[Path]
) -> AsyncIterator[bytes]:
    """The export, a line at a time."""
    async for table, columns in store.exported(tenant, user, vectors):
        yield _line(table, columns)
    for folder in folders:
        for record in archives.of_member(folder, tenant, user):
            value: Any = orjson.Fragment(record.value)
            yield _line("archive", {
                "topic": record.topic, "partition": record.partition, "offset": record.offset, "type": record.type,
                "at_ms": record.timestamp_ms, "key": (record.key or b"").decode(), "value": value,
            })  # fmt: skip


def _line(table: str, columns: dict[str, Any]) -> bytes:
    return orjson.dumps({"table": table, **columns}, option=orjson.OPT_APPEND_NEWLINE)


async def _forget(settings: Settings, tenant: str, user: str, folders: list[Path], wait_s: float) -> None:
    _ = await authorised(settings, "memory forget", Selection(tenant=tenant, user=user))
    async with open_bus(settings, "headstart-memory-forget") as bus, open_store(settings) as store:
        store.follow(bus.epoch)
        held = await forget_member(bus, store, tenant, user, settings.signing_key, wait_s=wait_s)
        for table, rows in held.items():
            sys.stdout.write(f"{table}: {rows:,} rows erased\n")
        if left := await store.held(tenant, user):
            said = ", ".join(f"{rows:,} in {table}" for table, rows in left.items())
            sys.stdout.write(f"said since: {said}\n")
    for folder in folders:
        sys.stdout.write(f"{folder}: {archives.forget(folder, tenant, user):,} records erased\n")
    days = (EVENTS.retention_ms or 0) // DAY_MS
    sys.stdout.write(f"the topics' own copies age out within {days} days, dead letters within 30\n")


async def forget_member(
    bus: Bus, store: PostgresStore, tenant: str, user: str, signing_key: str | None, *, wait_s: float = WAIT_S
) -> dict[str, int]:
    """Has a member forgotten, and returns when the database holds nothing from before. Gives how many rows of each
    table there were. Raises PeerTimeout when no worker has done so in time; the command stands, and will be obeyed."""
    held = await store.held(tenant, user)
    before_ms = await store.forgotten_at_ms(tenant, user)
    now_ms = _now_ms()
    home = ids.member_conversation(tenant, user, bus.partitions)
    command = MemberForget(conversation=home, tenant=tenant, user=user, at_ms=now_ms)
    await _send(bus, home, command, f"{home}/forget/{now_ms}", signing_key)
    deadline = time.monotonic() + wait_s
    while await store.forgotten_at_ms(tenant, user) <= before_ms:
        if time.monotonic() >= deadline:
            raise PeerTimeout(
                f"nothing was erased within {wait_s:g} s", code="not_forgotten_yet",
                hint="the command stands on the log: it is obeyed as soon as a turns worker and a memory worker run",
            )  # fmt: skip
        await asyncio.sleep(LOOK_EVERY_S)
    return held


async def _expire(settings: Settings, days: int, tenant: str) -> tuple[int, int]:
    async with open_bus(settings, "headstart-memory-expire") as bus, open_store(settings) as store:
        return await expire_unused(bus, store, _now_ms() - days * DAY_MS, tenant, settings.signing_key)


async def expire_unused(
    bus: Bus, store: PostgresStore, before_ms: int, tenant: str, signing_key: str | None
) -> tuple[int, int]:
    """Asks for the deletion of every conversation that was last used before `before_ms`, and erases claims from before
    it. Gives how many of each. Sent again, it asks for nothing twice."""
    deleted, after = 0, ""
    while page := await store.unused(before_ms, PAGE, tenant, after):
        for row in page:
            command = ConversationEdit(
                conversation=row.conversation, tenant=row.tenant, user=row.user, at_ms=_now_ms(), delete=True
            )
            await _send(bus, row.conversation, command, f"{row.conversation}/expire", signing_key)
        deleted, after = deleted + len(page), page[-1].conversation
    return deleted, await store.expire_claims(before_ms, tenant)


async def _send(bus: Bus, conversation: str, event: Event, event_id: str, signing_key: str | None) -> None:
    extra = (
        signed_by_gateway(event, event_id, TURNS.name, conversation, command_secret(signing_key)) if signing_key else ()
    )
    _ = await bus.publish(TURNS.name, ids.partition_of(conversation), conversation, event, event_id, SOURCE, extra)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
