"""The generation worker: takes model calls from `generations`, many side by side, and writes their facts to `events`.

A lane's item is the opening of a generation: it waits for a free place in its model's engine, and ends when `*.started`
is in the log. The generation itself runs on beside the lanes. So a request is committed as soon as the turn's owner can
see that it was begun; from then on its recovery is the owner's affair (a silent stage is re-issued with the next
epoch). An abort does not queue: it ends the generation at once, engine iterator first.

A request is dropped when its stage runs here in the same or a higher epoch; one of a higher epoch ends the lower.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import socket
import time
from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from memory.opening import open_bus
from streams.bus import Bus
from streams.coalesce import SPACING_MS
from streams.codec import Record, decode, decode_as
from streams.errors import InvalidInput
from streams.events.generating import GenerationAbort, GenerationRequested
from streams.events.registering import WorkerAlive
from streams.lanes import Lanes, LaneWork
from streams.process import Running
from streams.pulse import Pulse
from streams.settings import Settings
from streams.topology import GENERATIONS
from workers.generation.engine import EngineUnavailable
from workers.generation.generation import ABORTED, LEAVING, Generation
from workers.generation.liveness import Liveness
from workers.generation.models import Models, load_models
from workers.generation.placement import STAGE
from workers.generation.stage import Clock

log = logging.getLogger(__name__)
GROUP = "generation"
DRAIN_MS = 20_000  # what a stop gives to running answers; the rest is handed over by a fact
OPENING_DRAIN_MS = 1_000  # for those that are just being begun; those that wait for a place go to another worker
TICK_MS = 250  # a quarter of the silence after which a heartbeat is due
REMEMBERED = 10_000  # stages whose newest epoch is known; a redelivered request comes seconds later, not hours
Key = tuple[str, str]


def writer_name(stage: str) -> str:
    """This process's name in the log: unique among all that ever wrote."""
    return f"{stage}/{socket.gethostname()}-{os.getpid()}-{random.getrandbits(32):08x}"


class GenerationWorker(LaneWork):
    """Runs generations on the given models. `start`, then `stop`; everything in one event loop."""

    def __init__(
        self, bus: Bus, models: Models, *, writer: str = "", clock: Clock | None = None, spacing_ms: float = SPACING_MS
    ) -> None:
        self.writer = writer or writer_name(STAGE)
        self.dropped = 0
        self._waiting = 0  # requests that want a place in their model's engine
        self._ended = 0
        self._bus = bus
        self._models = models
        self._clock = clock or Clock(lambda: time.time() * 1e3, lambda: time.monotonic() * 1e3)
        self._spacing_ms = spacing_ms
        self._places = {name: asyncio.Semaphore(spec.requests_at_once) for name, spec in models.specs.items()}
        self._running: dict[Key, Generation] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._newest: OrderedDict[Key, int] = OrderedDict()  # highest epoch that was begun or aborted here
        pulse = Pulse(self._clock.monotonic_ms)
        at_once = max(256, models.capacity)
        self._lanes = Lanes(bus, [GENERATIONS.name], GROUP, self, stage=STAGE, at_once=at_once, pulse=pulse)
        self._liveness = Liveness(bus, self.alive, pulse)
        self._loops: list[asyncio.Task[None]] = []

    @property
    def running(self) -> int:
        return len(self._running)

    async def start(self) -> None:
        """Take up work. The engines must have been started."""
        self._loops = [asyncio.create_task(self._lanes.run(OPENING_DRAIN_MS)), asyncio.create_task(self._tick())]
        self._liveness.start()

    async def failed(self) -> None:
        """Returns when the worker cannot go on; raises why."""
        await asyncio.wait(self._loops, return_when=asyncio.FIRST_COMPLETED)
        for task in self._loops:
            if task.done():
                task.result()

    async def stop(self, drain_ms: float = DRAIN_MS) -> None:
        """Take nothing new, let running answers end for `drain_ms`, hand over the others by a fact. Safe to repeat."""
        if not self._loops:
            return
        await self._liveness.stop()
        self._lanes.stop()
        await asyncio.wait(self._loops[:1])
        if self._tasks and drain_ms > 0:
            await asyncio.wait(self._tasks, timeout=drain_ms / 1000)
        for generation in self._running.values():
            generation.end(LEAVING)
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for loop in self._loops[1:]:
            loop.cancel()
        await asyncio.gather(*self._loops, return_exceptions=True)

    def alive(self, leaving: bool = False) -> WorkerAlive:
        """The sign of life of now."""
        return WorkerAlive(
            worker=self.writer,
            stage=STAGE,
            at_ms=self._clock.at_ms(),
            running=len(self._running),
            waiting=self._waiting,
            ended=self._ended,
            capacity=self._models.capacity,
            partitions=tuple(sorted(place.partition for place in self._lanes.assignment)),
            models=tuple(sorted(self._models.engines)),
            leaving=leaving,
        )

    async def say_alive(self) -> None:
        """Say it now, not only every half second."""
        await self._liveness.say()

    async def tick(self) -> None:
        """Deadlines and heartbeats of everything that runs."""
        for generation in list(self._running.values()):
            await generation.tick()

    # -- lanes -----------------------------------------------------------------------------------------------------

    def urgent(self, record: Record) -> bool:
        return record.type == GenerationAbort.TYPE

    def quick(self, record: Record) -> bool:
        if record.type != GenerationAbort.TYPE:
            return False
        self._abort(decode_as(record, GenerationAbort))
        return True

    async def handle(self, record: Record) -> None:
        event = decode(record)
        if isinstance(event, GenerationRequested):
            await self._open(event)
        else:
            raise InvalidInput(f"{record.type} is not work for a generation worker", code="invalid_event")

    def _abort(self, abort: GenerationAbort) -> None:
        key = (abort.turn, abort.step)
        self._remember(key, abort.epoch)
        generation = self._running.get(key)
        if generation is not None and generation.request.epoch <= abort.epoch:
            generation.end(ABORTED)

    async def _open(self, request: GenerationRequested) -> None:
        """Returns when the generation is begun, or need not be."""
        key = (request.turn, request.step)
        place = self._places.get(request.model)
        if not self._supersedes(key, request.epoch):
            return
        if place is not None:
            self._waiting += 1
            try:
                await place.acquire()
            finally:
                self._waiting -= 1
        if not self._supersedes(key, request.epoch):
            if place is not None:
                place.release()
            return
        engine = self._models.engines.get(request.model)
        generation = Generation(self._bus, request, engine, self.writer, self._clock, self._spacing_ms)
        self._running[key] = generation
        task = asyncio.create_task(self._run(key, generation, place))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        await asyncio.shield(generation.opened)
        self._remember(key, request.epoch)

    def _supersedes(self, key: Key, epoch: int) -> bool:
        """Whether this epoch of a stage is the newest one here; an older one that runs is ended, so that its place in
        the engine is free. One that is not is dropped."""
        older = self._running.get(key)
        if max(self._newest.get(key, 0), older.request.epoch if older else 0) >= epoch:
            self.dropped += 1
            return False
        if older is not None:
            older.end(ABORTED)
        return True

    async def _run(self, key: Key, generation: Generation, place: asyncio.Semaphore | None) -> None:
        try:
            await generation.run()
        finally:
            self._ended += 1
            if place is not None:
                place.release()
            if self._running.get(key) is generation:
                del self._running[key]

    def _remember(self, key: Key, epoch: int) -> None:
        self._newest[key] = max(epoch, self._newest.pop(key, 0))
        while len(self._newest) > REMEMBERED:
            self._newest.popitem(last=False)

    async def _tick(self) -> None:
        """Raises EngineUnavailable (`engine_broken`) once an engine can never answer again: a worker that went on would
        be given work, since it has nothing to do."""
        while True:
            for name, engine in self._models.engines.items():
                if why := engine.broken():
                    raise EngineUnavailable(why, code="engine_broken", model=name)
            await self.tick()
            await asyncio.sleep(TICK_MS / 1000)


@asynccontextmanager
async def generation_worker(settings: Settings, bus: Bus) -> AsyncIterator[GenerationWorker]:
    """A worker with the models that the settings name, loaded; working until the context ends."""
    models = await load_models(settings)
    try:
        await models.start()
        worker = GenerationWorker(bus, models)
        await worker.start()
        try:
            yield worker
        finally:
            await worker.stop()
    finally:
        await models.close()


@asynccontextmanager
async def stage(settings: Settings) -> AsyncIterator[Running]:
    """The process `python -m workers generation` (streams.process)."""
    async with open_bus(settings, "headstart-generation") as bus, generation_worker(settings, bus) as worker:
        yield Running(worker.writer, worker.failed)
