"""`headstart archive run | forget`: the log kept beyond its retention, as Parquet files by day."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import time
from pathlib import Path
from typing import Annotated, Final

import typer

from headstart.replay.archive import ArchiveWriter, forget
from headstart.replay.recorder import read_topic
from memory.opening import open_bus
from streams.bus import Bus, GroupReader, Place, Start
from streams.settings import Settings
from streams.topology import EVENTS, PROMPTS, SKILLS

GROUP: Final = "archive"
FLUSH_S: Final = 300.0  # a file is written at least so often when anything waits
archive = typer.Typer(no_args_is_help=True, help="The log kept beyond its retention, as Parquet files by day.")
Folder = Annotated[Path, typer.Argument(help="the archive's folder; replay, find and the others read it as a source")]


def register(app: typer.Typer) -> None:
    app.add_typer(archive, name="archive")


@archive.command()
def run(
    folder: Folder,
    flush_s: Annotated[float, typer.Option(help="write a file at least so often, in seconds")] = FLUSH_S,
    once: Annotated[bool, typer.Option("--once", help="take what there is now, and end")] = False,
) -> None:
    """Follows `events` and keeps them, until Ctrl-C. A member who is forgotten is forgotten here, too."""
    asyncio.run(_run(Settings.from_env(os.environ), folder, flush_s, once))


@archive.command(name="forget")
def forget_member(
    folder: Folder,
    user: Annotated[str, typer.Option(help="whose conversations are erased")],
    tenant: Annotated[str, typer.Option(help="the user's tenant")] = "default",
) -> None:
    """Erases a member's conversations from the archive."""
    sys.stdout.write(f"{forget(folder, tenant, user):,} records are gone\n")


async def _run(settings: Settings, folder: Path, flush_s: float, once: bool) -> None:
    async with open_bus(settings, "headstart-archive") as bus:
        keeper = Keeper(bus, folder, flush_s)
        task = asyncio.create_task(keeper.run(once=once))
        for end in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(end, task.cancel)
        with contextlib.suppress(asyncio.CancelledError):
            await task
        sys.stdout.write(f"{keeper.writer.files} files written in {folder}\n")


class Keeper:
    """A member of the group `archive`. What is written is committed after it is written, so a crash repeats and loses
    nothing; a reader takes each record once."""

    def __init__(self, bus: Bus, folder: Path, flush_s: float = FLUSH_S, flush_records: int = 50_000) -> None:
        self.writer = ArchiveWriter(folder, flush_records)
        self._bus, self._folder, self._flush_s = bus, folder, flush_s

    async def run(self, *, once: bool = False) -> None:
        """Until cancelled, or (`once`) until nothing comes any more; what waits is written before it ends."""
        group = await self._bus.group([EVENTS.name], GROUP, self._assigned, self._revoked)
        due = time.monotonic() + self._flush_s
        members: list[tuple[str, str]] = []
        try:
            while True:
                records = await group.batch()
                members += [member for record in records for member in self.writer.add(record)]
                if self.writer.full or members or time.monotonic() >= due:
                    await self._flush(group)
                    due = time.monotonic() + self._flush_s
                for tenant, user in members:
                    _ = await asyncio.to_thread(forget, self._folder, tenant, user)
                members = []
                if once and not records:
                    return
        finally:
            await self._flush(group)
            await group.close()

    async def _flush(self, group: GroupReader) -> None:
        if not self.writer.waiting:
            return
        for topic in (PROMPTS.name, SKILLS.name):
            self.writer.registries(topic, await read_topic(self._bus, topic, [0], -1))
        reached = self.writer.flush()
        await group.commit({Place(EVENTS.name, partition): offset for partition, offset in reached.items()})

    async def _assigned(self, places: frozenset[Place]) -> dict[Place, Start]:
        return {}

    async def _revoked(self, places: frozenset[Place]) -> None:
        """What waits is written and not committed; another member writes it too, and a reader takes each once."""
