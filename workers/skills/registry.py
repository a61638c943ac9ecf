"""The skills of a running process: follows the `skills` topic from its beginning and goes on live.

Every process that plans or shows skills has one. It takes a record as soon as the broker has it, so that a plan which
begins after a skill was registered or withdrawn knows of it. A record that can not be taken (no skill event, a manifest
that breaks a rule, a version that changed) goes to `dead_letters` and nothing else is disturbed. Whatever comes into
force is embedded and stored for discovery; while that fails it is tried again, and the skill can be called all the
same.

Several processes follow the topic, so a bad record may be set aside by each that sees it live; one that was there
before a process started is set aside by it only if nobody did so yet.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

from memory.embed import Embedder
from memory.store import Store
from streams.bus import Bus, Reader
from streams.codec import Record, decode
from streams.dead_letters import PREFIX, DeadLetter, dead_letter
from streams.errors import HeadstartError, InvalidInput, PeerError
from streams.events.recalling import DiscoveredSkill
from streams.events.registering import SkillManifest, SkillPointed, SkillRegistered
from streams.topology import DEAD_LETTERS, SKILLS
from workers.skills.catalog import Catalog, visible
from workers.skills.discovery import Wording, discover, mean, texts_of

log = logging.getLogger("headstart.skills")
STAGE: Final = "skills"
PARTITION: Final = 0  # the topic has one
RETRY_S: Final = 1.0  # after the bus, the store or the embedder failed
Listener = Callable[[str, SkillManifest | None], None]


class SkillRegistry:
    """The registry of one process. Reads are plain lookups on its event loop."""

    def __init__(self, bus: Bus, store: Store, embedder: Embedder, retry_s: float = RETRY_S) -> None:
        self._bus, self._store, self._embedder, self._retry_s = bus, store, embedder, retry_s
        self._catalog = Catalog()
        self._vectors: dict[str, list[float]] = {}
        self._wording: Wording | None = None
        self._unindexed: dict[str, None] = {}
        self._refused: list[tuple[Record, HeadstartError]] = []
        self.refused: Counter[str] = Counter()
        """How many records of the topic were refused, by the reason's name."""
        self._to_restore: dict[str, None] = {}
        self._listeners: list[Listener] = []
        self._reader: Reader | None = None
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Returns when everything that stood on the topic is in force and can be discovered; then goes on live.

        Raises what the bus, the store and the embedder raise.
        """
        reader = self._reader = await self._bus.reader(SKILLS.name, {PARTITION: "earliest"})
        end = await reader.end_offset(PARTITION)
        while reader.position(PARTITION) < end:
            self._take_all(await reader.batch())
        self._refused = await self._not_yet_set_aside(self._refused)
        await self._settle()
        self._task = asyncio.create_task(self._follow(reader), name="skills registry")

    @property
    def following(self) -> bool:
        """Whether it is live; False before `start`, after `close`, and when a defect ended it."""
        return self._task is not None and not self._task.done()

    async def close(self) -> None:
        """Stops following; lookups go on with what is known. Safe twice."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
        if self._reader is not None:
            await self._reader.close()
            self._reader = None

    def on_change(self, listener: Listener) -> None:
        """Calls `listener(name, manifest)` whenever another version comes into force, with None when it is withdrawn.
        It must not raise or wait."""
        self._listeners.append(listener)

    def get(self, skill: str) -> SkillManifest | None:
        """A version by its id `name@version`, in force or not."""
        return self._catalog.get(skill)

    def by_name(self, name: str, tenant: str | None = None) -> SkillManifest | None:
        """The version of `name` in force; None when there is none or `tenant` may not use it."""
        manifest = self._catalog.by_name(name)
        return manifest if manifest is None or tenant is None or visible(manifest, tenant) else None

    def every(self) -> Mapping[str, SkillManifest]:
        """Every version by id, in force or not; a view that follows the registry."""
        return self._catalog.every()

    def in_force(self, tenant: str | None = None) -> list[SkillManifest]:
        """The skills a tenant may use (None: all), by name."""
        return self._catalog.in_force(tenant)

    async def discover(self, text: str, tenant: str, agent_skills: Sequence[str], limit: int) -> list[DiscoveredSkill]:
        """`nearest` for a text. Raises what the embedder and the store raise."""
        if not self._catalog.in_force(tenant):
            return []
        vector = (await self._embedder.embed([text or " "]))[0]
        return await self.nearest(text, vector, tenant, agent_skills, limit)

    async def nearest(
        self, text: str, vector: Sequence[float], tenant: str, agent_skills: Sequence[str], limit: int
    ) -> list[DiscoveredSkill]:
        """The skills nearest to a text and its vector, of those the agent (names, or patterns with `*`) and the tenant
        may use. A skill that came into force a moment ago counts. Raises what the store and the embedder raise."""
        await self._embed(self._catalog.in_force(tenant))
        if self._wording is None:
            self._wording = Wording(self._catalog.in_force())
        alike = self._wording.likeness(text)
        return await discover(self._store, self._catalog, self._vectors, alike, vector, tenant, agent_skills, limit)

    async def _follow(self, reader: Reader) -> None:
        while True:
            try:
                self._take_all(await reader.batch())
                await self._settle()
            except PeerError as error:
                log.warning("the skill registry waits: %s", error.code)
                await asyncio.sleep(self._retry_s)

    def _take_all(self, records: list[Record]) -> None:
        for record in records:
            error = self._take(record)
            if error is not None:
                log.warning("a record of %s was refused: %s", SKILLS.name, error, extra={"offset": record.offset})
                self._refused.append((record, error))
                self.refused[error.code] += 1

    def _take(self, record: Record) -> HeadstartError | None:
        """Takes one record in; gives the reason why it can not."""
        try:
            event = decode(record)
            if isinstance(event, SkillRegistered):
                self._catalog.register(event.manifest)
            elif isinstance(event, SkillPointed):
                self._point(event)
            else:
                return InvalidInput(f"a {record.type} record does not belong on {SKILLS.name}", code="wrong_topic")
        except HeadstartError as error:
            return error
        return None

    def _point(self, event: SkillPointed) -> None:
        """Takes a pointer; one that would break what is in force is refused, and what is in force said again."""
        try:
            if self._catalog.point(event.name, event.version, event.restores):
                self._changed(event.name)
        except InvalidInput as error:
            if error.code == "breaking_change":
                self._to_restore[event.name] = None
            raise
        self._to_restore.pop(event.name, None)

    async def _restore(self) -> None:
        """Says again what is in force of skills whose newest pointer was refused; every registry may."""
        for name in list(self._to_restore):
            manifest = self._catalog.by_name(name)
            if manifest is not None:
                event = SkillPointed(name=name, version=manifest.version, at_ms=time.time_ns() // 10**6, restores=True)
                identity = f"restore/{manifest.id}/{event.at_ms}"
                await self._bus.publish(SKILLS.name, PARTITION, name, event, identity, "registry")
            self._to_restore.pop(name)

    def _changed(self, name: str) -> None:
        self._unindexed[name] = None
        self._wording = None
        manifest = self._catalog.by_name(name)
        for listener in self._listeners:
            listener(name, manifest)

    async def _settle(self) -> None:
        """Brings the store to what is in force and sets bad records aside. What fails stays to be done."""
        await self._embed(manifest for name in self._unindexed if (manifest := self._catalog.by_name(name)))
        for name in list(self._unindexed):
            manifest = self._catalog.by_name(name)
            if manifest is None:
                await self._store.withdraw_skill(name)
            else:
                await self._store.upsert_skill(manifest, self._vectors[manifest.id])
            self._unindexed.pop(name)
        while self._refused:
            record, error = self._refused[0]
            await dead_letter(self._bus, record, error, STAGE)
            self._refused.pop(0)
        await self._restore()

    async def _embed(self, manifests: Iterable[SkillManifest]) -> None:
        """Gives each of these a vector that has none yet, in one call of the embedder."""
        missing = [manifest for manifest in manifests if manifest.id not in self._vectors]
        if not missing:
            return
        texts = [texts_of(manifest) for manifest in missing]
        vectors = iter(await self._embedder.embed([text for group in texts for text in group]))
        for manifest, group in zip(missing, texts, strict=True):
            self._vectors[manifest.id] = mean([next(vectors) for _ in group])

    async def _not_yet_set_aside(
        self, refused: list[tuple[Record, HeadstartError]]
    ) -> list[tuple[Record, HeadstartError]]:
        if not refused:
            return []
        reader = await self._bus.reader(DEAD_LETTERS.name, {PARTITION: "earliest"})
        done: set[int] = set()
        try:
            end = await reader.end_offset(PARTITION)
            while reader.position(PARTITION) < end:
                for record in await reader.batch():
                    if record.header(f"{PREFIX}topic") == SKILLS.name:
                        done.add(DeadLetter.of(record).offset)
        finally:
            await reader.close()
        return [(record, error) for record, error in refused if record.offset not in done]
