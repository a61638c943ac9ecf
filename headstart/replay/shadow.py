"""A shadow: a group of its own follows the log and runs a candidate on every turn that ended, into its own namespace.

It reads `events` like anybody and writes to topics of its namespace alone, so the live turns do not know of it: it may
lag, fail or be killed, and nothing waits for it. What it cannot keep up with it leaves out, oldest first, and counts.
Which turns it has taken up is committed when they are taken up: a shadow that dies leaves those out that it had begun.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from typing import Final

from headstart.replay.live import LiveReplay
from headstart.replay.recorder import read_topic
from headstart.replay.recording import Head, Recording
from headstart.replay.stub import Setups, recorded_setups
from headstart.replay.turns import ConversationLog, Fact, TurnLog
from streams.bus import Bus, GroupReader, Place, Start
from streams.codec import Record, decode, identity
from streams.errors import HeadstartError
from streams.events.registering import SkillManifest
from streams.events.turn import TERMINAL_TYPES, TurnAccepted
from streams.fence import Fence
from streams.topology import EVENTS, PROMPTS, SKILLS

log = logging.getLogger("headstart.shadow")
GROUP: Final = "shadow"
WAITING: Final = 1_000  # turns that wait for the candidate; more than that are left out, oldest first
OPEN: Final = 10_000  # turns whose end is awaited; about 200 facts each at most
COMMIT_EVERY: Final = 50  # batches
MakeReplay = Callable[[Setups, Mapping[str, SkillManifest]], LiveReplay]


class Registries:
    """The setups and manifests of the log, read again when one is missing."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._recording = Recording(Head(), [])

    @property
    def manifests(self) -> Mapping[str, SkillManifest]:
        return self._recording.manifests

    async def setups(self, wanted: str) -> Setups:
        """The setups that are known, `wanted` among them if the log has it."""
        if wanted not in self._recording.setups:
            prompts = await read_topic(self._bus, PROMPTS.name, [0], -1)
            skills = await read_topic(self._bus, SKILLS.name, [0], -1)
            self._recording = Recording(Head(), [*prompts, *skills])
        return recorded_setups(self._recording)


class Shadow:
    """`run` until cancelled. bus: production's. into: a bus of another namespace, for what comes of it. make: the
    candidate, from the setups and manifests of the log.

    done, failed, skipped: how many turns were run, could not be run, and were left out.
    """

    def __init__(self, bus: Bus, into: Bus, name: str, make: MakeReplay, *, at_once: int = 1) -> None:
        if not into.namespace or into.namespace == bus.namespace:
            raise ValueError("a shadow writes into a namespace of its own")
        self._bus, self._into, self._group_name, self._make = bus, into, f"{GROUP}-{name}", make
        self._registries = Registries(bus)
        self._at_once = at_once
        self._fences: dict[int, Fence] = {}
        self._open: OrderedDict[str, TurnLog] = OrderedDict()
        self._queue: deque[TurnLog] = deque()
        self._filled = asyncio.Event()
        self._new: set[Place] = set()
        self._positions: dict[Place, int] = {}
        self.done = self.failed = self.skipped = self.running = 0

    @property
    def lag(self) -> int:
        """Turns that ended and were not run yet."""
        return len(self._queue) + self.running

    async def run(self) -> None:
        group = await self._bus.group([EVENTS.name], self._group_name, self._assigned, self._revoked)
        runners = [asyncio.create_task(self._runner()) for _ in range(self._at_once)]
        try:
            await self._follow(group)
        finally:
            for runner in runners:
                runner.cancel()
            await asyncio.gather(*runners, return_exceptions=True)
            await group.close()

    async def _assigned(self, places: frozenset[Place]) -> dict[Place, Start]:
        self._new |= places
        return {}

    async def _revoked(self, places: frozenset[Place]) -> None:
        self._new -= places
        for place in places:
            self._fences.pop(place.partition, None)
            self._positions.pop(place, None)

    async def _follow(self, group: GroupReader) -> None:
        batches = 0
        while True:
            await self._begin_with_what_comes(group)
            for record in await group.batch():
                self._take(record)
                self._positions[Place(EVENTS.name, record.partition)] = record.offset + 1
            batches += 1
            if self._positions and batches % COMMIT_EVERY == 0:
                try:
                    await group.commit(self._positions)
                except HeadstartError as error:
                    log.warning("the shadow's position was not committed: %s", error)

    async def _begin_with_what_comes(self, group: GroupReader) -> None:
        """Where this shadow has never been it does not begin with the past."""
        new, self._new = self._new, set()
        for place in new:
            if await group.committed(place) is None:
                await group.seek(place, "latest")

    def _take(self, record: Record) -> None:
        try:
            fact = Fact(record, identity(record), decode(record))
        except HeadstartError:
            return
        turn = fact.identity.subject
        known = self._open.get(turn)
        if known is None and not isinstance(fact.event, TurnAccepted):
            return
        fence = self._fences.setdefault(record.partition, Fence())
        if fence.judge(fact.identity, record.source, record.type) != "counts":
            return
        if known is None:
            assert isinstance(fact.event, TurnAccepted)
            known = self._open[turn] = TurnLog(fact.event)
            if len(self._open) > OPEN:
                self._forget(self._open.popitem(last=False)[1], fence)
        known.facts.append(fact)
        if record.type in TERMINAL_TYPES:
            self._forget(self._open.pop(turn), fence)
            self._queue.append(known)
            if len(self._queue) > WAITING:
                self._queue.popleft()
                self.skipped += 1
            self._filled.set()

    def _forget(self, turn: TurnLog, fence: Fence) -> None:
        fence.forget(turn.turn)

    async def _runner(self) -> None:
        while True:
            while not self._queue:
                self._filled.clear()
                await self._filled.wait()
            turn = self._queue.popleft()
            self.running += 1
            try:
                await self._run(turn)
                self.done += 1
            except HeadstartError as error:
                self.failed += 1
                log.warning("the candidate could not run a turn: %s", error.code, extra={"turn": turn.turn})
            except Exception:
                self.failed += 1
                log.exception("the candidate met a defect")
            finally:
                self.running -= 1

    async def _run(self, turn: TurnLog) -> None:
        setups = await self._registries.setups(turn.accepted.setup)
        replay = self._make(setups, self._registries.manifests)
        alone = ConversationLog(turn.accepted.conversation, turn.facts[0].record.partition, turns={turn.turn: turn})
        kept = []
        for record in await replay.turn(alone, turn):
            if record.topic == EVENTS.name:
                headers = list(record.headers)
                kept.append(await self._into.post_raw(EVENTS.name, record.partition, record.key, record.value, headers))
        await asyncio.gather(*kept)
