"""A group member that works on many records side by side, in order per key, and commits only what is done.

* **Polling never awaits work.** A record is put into the lane of its key; lanes run side by side up to `at_once`. An
  item is one step (accept a submit, open a generation), not a turn. What `urgent` names does not queue at all. A step
  that has nothing to wait for is done where its record is read (`quick`), which costs a tenth of a task.
* **Commits are contiguous watermarks** (watermark.py), at most one every `commit_ms`, and never past `floor`. A crash
  repeats what was begun and not committed; facts are fenced, so a repeat is harmless.
* **Pressure**: a partition with `high` items begun and not done is paused until `low` are left.
* **Rebalances are eager**: everything is taken and given out again. Items that run go on meanwhile; nothing new starts.
  A partition that comes back goes on where it was, unless its committed position shows that somebody else had it;
  what does not come back is dropped from the queues and told to `lost`.
* **A record that cannot be processed** goes to `dead_letters`, and is done when that is acknowledged. A failure of a
  peer is tried again first, with backoff, and holds up its own lane only.

A member that gets no records although there are some joins again with a new client (kafka_group.py).
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Hashable, Mapping, Sequence
from functools import partial
from typing import Final, TypeVar

from streams.bus import Bus, GroupReader, Place, Start
from streams.codec import Record
from streams.dead_letters import dead_letter
from streams.errors import HeadstartError, PeerError
from streams.lane_queue import LaneQueue
from streams.pulse import Pulse
from streams.retry import FOREVER, Backoff
from streams.watermark import Watermark

log = logging.getLogger(__name__)
T = TypeVar("T")
POLL_WAIT_MS: Final = 200  # an idle member looks up this often, to commit and to notice that it should stop
COMMIT_MS: Final = 100


class LaneWork:
    """What a lane consumer does; subclass it. Only `handle` has to be given."""

    async def handle(self, record: Record) -> None:
        """One step. May be called again for a record whose commit did not get through, so it must be idempotent.

        A PeerError is tried again with backoff; any other error sets the record aside as a dead letter. On a stop
        it is cancelled after the drain time, and the record is then not committed.
        """
        raise NotImplementedError

    def quick(self, record: Record) -> bool:
        """The whole step, for a record that takes some microseconds and waits for nothing: True when it is done.

        False, or an error, leaves it to `handle`; nothing may have been changed then. Asked only while nothing of the
        record's lane runs or waits, so the order is kept; for urgent records always.
        """
        return False

    def urgent(self, record: Record) -> bool:
        """Handled at once, beside its lane: for commands that must not wait behind what they are about."""
        return False

    def lane(self, record: Record) -> Hashable:
        """Records of one lane are handled one after the other; by default those with the same key."""
        return record.key

    def floor(self, place: Place) -> int | None:
        """An offset that must not be committed past, None when there is none."""
        return None

    async def gained(self, places: frozenset[Place]) -> Mapping[Place, Start]:
        """These are held now and were not before. Gives where to begin, for those that should not begin at their
        committed position. No record of them is handled until this returns."""
        return {}

    async def lost(self, places: frozenset[Place]) -> None:
        """These are held no longer. Steps of theirs that run go on to their end; nothing more of them starts."""


class Lanes:
    """Runs a `LaneWork` over a group's topics. `run` it in a task; `stop` it from another."""

    def __init__(
        self,
        bus: Bus,
        topics: Sequence[str],
        group: str,
        work: LaneWork,
        *,
        stage: str,
        at_once: int = 256,
        high: int = 1_000,
        low: int = 500,
        commit_ms: int = COMMIT_MS,
        backoff: Backoff | None = None,
        chance: Callable[[], float] = random.random,
        pulse: Pulse | None = None,
    ) -> None:
        """stage: named in dead letters and logs. at_once: lanes that run side by side. chance: for the jitter. pulse:
        beats with the loop."""
        self.dead_letters = 0
        self.retries = 0
        self.repeats = 0
        self._bus = bus
        self._topics = topics
        self._group_name = group
        self._work = work
        self._stage = stage
        self._high = high
        self._low = low
        self._commit_ms = commit_ms
        self._backoff = backoff or Backoff()
        self._chance = chance
        self._pulse = pulse or Pulse(lambda: time.monotonic() * 1e3)
        self._queue: LaneQueue[Record] = LaneQueue(at_once)
        self._group: GroupReader | None = None
        self._marks: dict[Place, Watermark] = {}
        self._suspended: dict[Place, Watermark] = {}
        self._committed: dict[Place, int] = {}
        self._paused: set[Place] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._committing: asyncio.Task[None] | None = None
        self._commit_due_at = 0.0
        self._rebalancing = False
        self._generation = 0
        self._stopping = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def assignment(self) -> frozenset[Place]:
        return frozenset(self._marks)

    @property
    def running(self) -> int:
        """Steps in progress."""
        return len(self._tasks)

    @property
    def waiting(self) -> int:
        """Records read and not begun."""
        return self._queue.waiting

    async def run(self, drain_ms: int = 5_000) -> None:
        """Consume until `stop`. Then: no new step starts, those that run get `drain_ms`, what is done is committed
        and the group is left. A cancel does the same without the drain. Raises PeerUnavailable when the group cannot
        be joined; afterwards the broker's absence is waited out."""
        self._loop = asyncio.get_running_loop()
        self._group = await self._bus.group(self._topics, self._group_name, self._on_assigned, self._on_revoked)
        self._pulse.follow(self._group)
        stopping = asyncio.ensure_future(self._stopping.wait())
        try:
            while not self._stopping.is_set():
                poll = asyncio.ensure_future(self._poll(self._group))
                try:
                    await asyncio.wait({poll, stopping}, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    poll.cancel()  # does nothing to one that is done; a cancelled one loses no record
                if poll.done() and not poll.cancelled():
                    generation, records = poll.result()
                    if generation == self._generation:  # else the assignment that they belong to is over
                        self._admit(records)
                self._start_ready()
                self._relieve()
                self._commit_soon()
                self._pulse.beat()
        finally:
            stopping.cancel()
            self._rebalancing = True  # nothing starts from here on
            try:
                await self._drain(drain_ms if self._stopping.is_set() else 0)
            finally:
                await self._group.close()

    async def _poll(self, group: GroupReader) -> tuple[int, list[Record]]:
        records = await group.batch(wait_ms=POLL_WAIT_MS)
        return self._generation, records

    def stop(self) -> None:
        """Make `run` end; returns at once. No step starts any more."""
        self._rebalancing = True
        self._stopping.set()

    async def idle(self) -> None:
        """Returns when nothing runs and nothing waits, among what was read so far."""
        await self._idle.wait()

    def _admit(self, records: Sequence[Record]) -> None:
        work, place, mark = self._work, None, None
        for record in records:
            if place is None or record.partition != place.partition or record.topic != place.topic:
                place = Place(record.topic, record.partition)
                mark = self._marks.get(place)
            if mark is None:
                continue  # of a partition that was taken away while the batch was on its way
            if not mark.begin(record.offset):
                self.repeats += 1
                continue
            if place not in self._committed:
                self._committed[place] = record.offset
            lane = None if work.urgent(record) else (record.partition, work.lane(record))
            if not self._rebalancing and (lane is None or self._queue.idle(lane)) and self._quickly(record):
                mark.finish(record.offset)
                continue
            self._idle.clear()
            if lane is None:
                self._start(record, None)
            else:
                self._queue.put(lane, record)
            if mark.open >= self._high and place not in self._paused and self._group is not None:
                self._paused.add(place)
                self._group.pause(frozenset({place}))

    def _quickly(self, record: Record) -> bool:
        try:
            return self._work.quick(record)
        except Exception:
            return False  # `handle` meets the same error, and what is to become of the record is decided there

    def _start_ready(self) -> None:
        if not self._rebalancing:
            for lane, record in self._queue.take():
                self._start(record, lane)

    def _start(self, record: Record, lane: Hashable | None) -> None:
        assert self._loop is not None
        self._tasks.add(self._loop.create_task(self._process(record, lane)))

    async def _process(self, record: Record, lane: Hashable | None) -> None:
        """One record to its end: done, or set aside. Then what waited for it starts."""
        place = Place(record.topic, record.partition)
        mark = self._marks.get(place) or self._suspended.get(place)
        try:
            try:
                await self._work.handle(record)
            except Exception as error:
                await self._again(record, error)
            if mark is not None:
                mark.finish(record.offset)
        except Exception:
            log.critical("a lane of %s broke", self._stage, exc_info=True)
        finally:
            if lane is not None:
                self._queue.finish(lane)
            task = asyncio.current_task()
            assert task is not None
            self._tasks.discard(task)
            self._start_ready()
            if not self._tasks and not self._queue.waiting:
                self._idle.set()

    async def _again(self, record: Record, error: Exception) -> None:
        """After a first failure: handle the record until it is done, or set it aside."""
        failures = 0
        while True:
            failures += 1
            wait_ms = None
            if isinstance(error, PeerError) and error.retriable:
                wait_ms = self._backoff.wait_ms(failures, self._chance())
            if wait_ms is None:
                return await self._set_aside(record, error)
            self.retries += 1
            log.warning("%s: %s; again in %.0f ms", self._stage, error, wait_ms)
            await asyncio.sleep(wait_ms / 1000)
            try:
                return await self._work.handle(record)
            except Exception as another:
                error = another

    async def _set_aside(self, record: Record, error: Exception) -> None:
        """Without end: a record is either processed or kept, and while the broker is away neither can be."""
        defect = not isinstance(error, HeadstartError)
        log.error(
            "%s: record %d of %s/%d goes to dead_letters: %s", self._stage, record.offset, record.topic,
            record.partition, error, exc_info=error if defect else None,
        )  # fmt: skip
        failures = 0
        while True:
            try:
                await dead_letter(self._bus, record, error, self._stage)
                self.dead_letters += 1
                return
            except PeerError as unkept:
                failures += 1
                wait_ms = FOREVER.wait_ms(failures, self._chance())
                assert wait_ms is not None
                log.warning("%s: a dead letter could not be kept: %s", self._stage, unkept)
            await asyncio.sleep(wait_ms / 1000)

    def _relieve(self) -> None:
        ready = frozenset(place for place in self._paused if self._marks[place].open <= self._low)
        if ready and self._group is not None:
            self._paused -= ready
            self._group.resume(ready)

    def _committable(self) -> dict[Place, int]:
        """Positions that moved since the last commit."""
        positions: dict[Place, int] = {}
        for place, mark in self._marks.items():
            position, floor = mark.position, self._work.floor(place)
            if position is not None and floor is not None:
                position = min(position, floor)
            if position is not None and position > self._committed.get(place, -1):
                positions[place] = position
        return positions

    def _commit_soon(self) -> None:
        now = asyncio.get_running_loop().time()
        if now < self._commit_due_at or (self._committing is not None and not self._committing.done()):
            return
        if positions := self._committable():
            self._commit_due_at = now + self._commit_ms / 1000
            self._committing = asyncio.create_task(self._commit(positions))

    async def _commit(self, positions: dict[Place, int]) -> None:
        if not positions or self._group is None:
            return
        try:
            await self._group.commit(positions)
            self._committed.update(positions)
        except PeerError as error:
            log.warning("%s: %s", self._stage, error)

    async def _on_revoked(self, places: frozenset[Place]) -> None:
        self._rebalancing = True
        self._generation += 1
        await self._commit(self._committable())
        self._suspended, self._marks = self._marks, {}
        self._paused.clear()

    async def _on_assigned(self, places: frozenset[Place]) -> Mapping[Place, Start]:
        """Sort what is held now into kept, lost and gained; gives where to begin."""
        kept: dict[Place, Watermark] = {}
        for place in places & self._suspended.keys():
            mark = self._suspended[place]
            if not await self._patiently(partial(self._was_with_another, place, mark)):
                kept[place] = mark
        gone = frozenset(self._suspended.keys() - kept.keys())
        if gone:
            self._queue.drop(lambda record: Place(record.topic, record.partition) in gone)
            for place in gone:
                self._committed.pop(place, None)
            await self._patiently(lambda: self._work.lost(gone))
        gained = places - kept.keys()
        starts: dict[Place, Start] = {}
        if gained:
            starts.update(await self._patiently(lambda: self._work.gained(gained)))
        starts.update({place: mark.next for place, mark in kept.items() if mark.next is not None})
        self._marks = {place: kept.get(place) or Watermark() for place in places}
        self._suspended = {}
        self._generation += 1
        self._rebalancing = self._stopping.is_set()
        self._start_ready()
        return starts

    async def _patiently(self, ask: Callable[[], Awaitable[T]]) -> T:
        """Without an answer a partition can be neither read nor given back, so a peer's failure is waited out."""
        failures = 0
        while True:
            try:
                return await ask()
            except PeerError as error:
                if self._stopping.is_set():
                    raise
                failures += 1
                log.warning("%s: a rebalance waits: %s", self._stage, error)
            wait_ms = FOREVER.wait_ms(failures, self._chance())
            assert wait_ms is not None
            await asyncio.sleep(wait_ms / 1000)

    async def _was_with_another(self, place: Place, mark: Watermark) -> bool:
        """Somebody committed past what this member did: the partition was elsewhere in between."""
        if self._group is None or mark.position is None:
            return False
        committed = await self._group.committed(place)
        return committed is not None and committed > mark.position

    async def _drain(self, drain_ms: int) -> None:
        """Let what runs end, then cancel the rest; commit what is done."""
        if self._tasks and drain_ms:
            await asyncio.wait(self._tasks, timeout=drain_ms / 1000)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()  # one that was cancelled before its first turn has not taken itself out
        if self._committing is not None:
            await asyncio.gather(self._committing, return_exceptions=True)
        await self._commit(self._committable())
