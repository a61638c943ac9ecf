"""One fault at one moment: which process it hits, how, and how it comes back."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from typing import Final

from streams.bus import Reader
from streams.codec import decode
from streams.errors import PeerError
from streams.events.registering import WorkerAlive
from streams.topology import EVENTS, TURNS, WORKERS
from tests.faults.cells import Cell, Method
from tests.faults.driving import Run
from tests.faults.moments import Moment, Moments, Sighting, partition_of
from tests.faults.quorum import Quorum, pause
from tests.faults.stack import PAIRED, SESSION_MS, FaultStack, Part, Process

AWAY_S: Final = 1.0  # how long what was killed stays away, at most
ZOMBIE_S: Final = (SESSION_MS / 1000 + 0.5, SESSION_MS / 1000 + 2.5)  # long enough that it was replaced
BLINK_S: Final = (1.0, 3.0)  # of what has no replacement
SIGHT_S: Final = 30.0  # a moment that was not seen by then was not met


class Watch:
    """Follows `turns`, `events` and `workers` from its start on, until it is closed. mine: how the event ids of the
    turns begin that are looked at."""

    def __init__(self, stack: FaultStack, mine: str, chance: random.Random) -> None:
        self._mine = mine
        self.moments = Moments(share=0.2 + 0.6 * chance.random())
        self.seen: asyncio.Queue[Sighting] = asyncio.Queue()
        self.holders: dict[tuple[str, int], str] = {}  # (stage, partition) -> worker
        self._stack = stack
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> dict[int, int]:
        """Gives the offsets of `events` from which it follows."""
        bus = self._stack.parts.bus
        starts: dict[int, int] = {}
        for topic, partitions in ((TURNS, bus.partitions), (EVENTS, bus.partitions), (WORKERS, 1)):
            reader = await bus.reader(topic.name, dict.fromkeys(range(partitions), "latest"))
            if topic is EVENTS:
                starts = {partition: reader.position(partition) for partition in range(partitions)}
            self._tasks.append(asyncio.create_task(self._follow(reader)))
        return starts

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def until(self, moment: Moment, number: int) -> Sighting | None:
        """The sighting of a moment with this number, from 0; the last one when there are fewer. None: there is none."""
        newest: Sighting | None = None
        try:
            async with asyncio.timeout(SIGHT_S):
                while True:
                    sighting = await self.seen.get()
                    if sighting.moment == moment:
                        newest = sighting
                        if number == 0:
                            return newest
                        number -= 1
        except TimeoutError:
            return newest

    async def _follow(self, reader: Reader) -> None:
        try:
            while True:
                try:
                    records = await reader.batch()
                except PeerError:
                    await asyncio.sleep(0.1)
                    continue
                for record in records:
                    if record.topic == WORKERS.name:
                        event = decode(record)
                        if isinstance(event, WorkerAlive):
                            self.holders.update({(event.stage, place): event.worker for place in event.partitions})
                    elif (sighting := self.moments.feed(record)) and sighting.event_id.startswith(self._mine):
                        self.seen.put_nowait(sighting)
        finally:
            await reader.close()


def target(stack: FaultStack, run: Run, watch: Watch, part: Part, seen: Sighting, chance: random.Random) -> Process:
    """The process whose death concerns the sighted turn most."""
    found: Process | None = None
    if part == "gateway":
        found = stack.processes[run.client_of(seen.event_id).at]
    elif part == "turns":
        found = stack.writer(seen.owner)
    elif part == "generation":
        found = stack.writer(seen.writer) if "generation/" in seen.writer else None
    elif part == "memory":
        found = stack.writer(watch.holders.get(("memory", partition_of(seen)), ""))
    return found or chance.choice(stack.of(part))


async def inject(
    stack: FaultStack, run: Run, cell: Cell, seen: Sighting, process: Process | None, chance: random.Random
) -> None:
    """Carries it out; returns when what was hit is back and serves. process: None for Postgres and the broker."""
    part, method = cell.part, cell.method
    away_s = chance.random() * AWAY_S
    if part == "postgres":
        stack.postgres.kill()
        await asyncio.sleep(away_s)
        await stack.postgres.start()
    elif part == "broker" and isinstance(stack.broker, Quorum):
        await _leader(stack.broker, partition_of(seen), method, away_s, chance)
    elif part == "broker":
        stack.broker.kill()
        await stack.broker.stop()
        await asyncio.sleep(away_s)
        await stack.broker.start()
    elif method == "zombie":
        assert process is not None
        process.pause()
        if part == "gateway":
            run.cut(process.name)
        await asyncio.sleep(chance.uniform(*(ZOMBIE_S if part in PAIRED else BLINK_S)))
        process.resume()
        run.away.discard(process.name)
    else:
        assert process is not None
        await process.kill()
        await asyncio.sleep(away_s)
        process.start()
        await process.ready()


async def _leader(quorum: Quorum, partition: int, method: Method, away_s: float, chance: random.Random) -> None:
    """Hits the node that leads a partition of `events`; returns when it follows the others again."""
    node = await quorum.leader(EVENTS.name, partition)
    if method == "zombie":
        pid = pause(node)
        await asyncio.sleep(chance.uniform(*ZOMBIE_S))
        os.kill(pid, signal.SIGCONT)
    else:
        node.kill()
        await node.stop()
        await asyncio.sleep(away_s)
        await node.start()
    await quorum.until_in_sync(EVENTS.name)
