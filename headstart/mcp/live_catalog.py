"""The skills in force, as the topic `skills` says them now; for a process that calls skills and plans nothing."""

from __future__ import annotations

import asyncio
import logging

from streams.bus import Bus, Reader
from streams.codec import decode
from streams.errors import HeadstartError, PeerError
from streams.events.registering import SkillManifest, SkillPointed, SkillRegistered
from streams.topology import SKILLS
from workers.skills.catalog import Catalog, visible

log = logging.getLogger("headstart.mcp")
PARTITION = 0  # the topic has one
GATHER_MS = 50
RETRY_S = 1.0


class LiveCatalog:
    """Follows the topic from `start` to `close`, on one event loop. Records that can not be taken are passed over: the
    workers' registries set them aside."""

    def __init__(self, bus: Bus) -> None:
        self._bus, self._catalog = bus, Catalog()
        self._reader: Reader | None = None
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Returns when what stands on the topic is known. Raises what the bus raises."""
        reader = self._reader = await self._bus.reader(SKILLS.name, {PARTITION: "earliest"}, gather_ms=GATHER_MS)
        end = await reader.end_offset(PARTITION)
        while reader.position(PARTITION) < end:
            await self._take(reader)
        self._task = asyncio.create_task(self._follow(reader), name="skills in force")

    async def close(self) -> None:
        """Safe twice."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self._reader is not None:
            await self._reader.close()
        self._task = self._reader = None

    def in_force(self, tenant: str) -> list[SkillManifest]:
        """The skills a tenant may use, by name."""
        return self._catalog.in_force(tenant)

    def by_name(self, name: str, tenant: str) -> SkillManifest | None:
        """The version in force; None when there is none or the tenant may not use it."""
        manifest = self._catalog.by_name(name)
        return manifest if manifest is not None and visible(manifest, tenant) else None

    async def _follow(self, reader: Reader) -> None:
        while True:
            try:
                await self._take(reader)
            except PeerError as error:
                log.warning("the skills in force wait for the bus: %s", error.code)
                await asyncio.sleep(RETRY_S)

    async def _take(self, reader: Reader) -> None:
        for record in await reader.batch():
            try:
                event = decode(record)
                if isinstance(event, SkillRegistered):
                    self._catalog.register(event.manifest)
                elif isinstance(event, SkillPointed):
                    self._catalog.point(event.name, event.version, event.restores)
            except HeadstartError as error:
                log.info("a record of %s was passed over: %s", SKILLS.name, error.code)
