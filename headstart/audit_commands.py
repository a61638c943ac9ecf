"""`headstart audit`: who read what other people said."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from datetime import UTC, datetime
from typing import Annotated

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from headstart.replay.access import authorised
from headstart.replay.recorder import Selection, read_to_end
from headstart.replay.sources import duration_ms
from memory.opening import open_bus
from streams.bus import Bus
from streams.codec import decode_as
from streams.events.auditing import LogRead
from streams.settings import Settings
from streams.topology import AUDIT


def register(app: typer.Typer) -> None:
    app.command("audit")(audit)


def audit(
    since: Annotated[str, typer.Option(help="how far back, such as 10m, 2h, 30d")] = "7d",
    tenant: Annotated[str, typer.Option(help="reads by keys of this tenant, or of what is theirs")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="one JSON object a line")] = False,
) -> None:
    """Who read turns and memories with a command, oldest first, refusals too. A key shows its owner's own reads, one
    made with --debug its tenant's."""
    found = asyncio.run(_audit(Settings.from_env(os.environ), tenant, duration_ms(since)))
    if as_json:
        for read in found:
            sys.stdout.write(msgspec.json.encode(read).decode() + "\n")
        return
    table = Table("when", "command", "by", "key", "read", "refused")
    for read in found:
        at = datetime.fromtimestamp(read.at_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")
        table.add_row(at, read.command, "/".join(filter(None, (read.tenant, read.user))), read.key, what(read),
                      read.refused)  # fmt: skip
    Console().print(table)


async def _audit(settings: Settings, tenant: str, since_ms: int) -> list[LogRead]:
    allowed = await authorised(settings, "audit", Selection(tenant=tenant))
    async with open_bus(settings, "headstart-audit") as bus:
        return await reads(bus, allowed, time.time_ns() // 1_000_000 - since_ms)


async def reads(bus: Bus, allowed: Selection, since_ms: int) -> list[LogRead]:
    """The reads since a time that whoever was allowed this may see: of a tenant those by its keys and of what is its
    own, of a user those by their own key."""
    reader = await bus.reader(AUDIT.name, {})
    try:
        begin = await reader.offset_for_time(0, since_ms)
    finally:
        await reader.close()
    if begin is None:
        return []
    found = [decode_as(record, LogRead) async for record in read_to_end(bus, AUDIT.name, {0: begin})]
    return [read for read in found if _shown(read, allowed)]


def _shown(read: LogRead, allowed: Selection) -> bool:
    if allowed.user:
        return (read.tenant, read.user) == (allowed.tenant, allowed.user)
    return not allowed.tenant or allowed.tenant in (read.tenant, read.of_tenant)


def what(read: LogRead) -> str:
    """What was read, in words."""
    named = [*read.turns, *read.conversations]
    of = "/".join(filter(None, (read.of_tenant, read.of_user)))
    return " ".join(filter(None, (", ".join(named), f"of {of}" if of else ""))) or "everything"
