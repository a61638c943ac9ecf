"""The bus in memory, for tests and for tools that need no broker: partitions, offsets, readers and groups as on Kafka.

`MemoryBroker` is the log; several `MemoryBus`es on one broker are several processes. Everything happens in one event
loop. A rebalance is eager, as aiokafka's are, and runs inside `group` and `close`, so a test decides when it happens.

Faults are values a test sets on the broker: `refuse` makes publishing fail before the log has the record, `repeat`
writes it twice, `lose_acknowledgements` keeps the record and fails the answer.
"""

from __future__ import annotations

import asyncio
import bisect
import itertools
import time
from collections.abc import Callable, Mapping, Sequence

import msgspec

from streams.bus import DEFAULT_WAIT_MS, AssignedCallback, Gap, Headers, Place, RevokedCallback, Start
from streams.codec import Record, encode
from streams.errors import InvalidInput, PeerUnavailable
from streams.events import Event
from streams.rebalance import callback_failed
from streams.topology import TOPICS, by_name, prefixed


def range_assignment(members: Sequence[str], partitions: Mapping[str, int]) -> dict[str, set[Place]]:
    """Kafka's range rule: of each topic, the members in order get contiguous runs, the first ones one more."""
    ordered = sorted(members)
    share: dict[str, set[Place]] = {member: set() for member in ordered}
    for topic, count in partitions.items():
        size, more = divmod(count, len(ordered))
        start = 0
        for number, member in enumerate(ordered):
            end = start + size + (number < more)
            share[member].update(Place(topic, partition) for partition in range(start, end))
            start = end
    return share


class _Log:
    """One partition: its records in order; `base` is the offset of the first one kept."""

    def __init__(self) -> None:
        self.base = 0
        self.records: list[Record] = []

    @property
    def end(self) -> int:
        return self.base + len(self.records)


class MemoryBroker:
    """The topics of one installation. Topics appear with their first bus; a namespace keeps them apart."""

    def __init__(self, partitions: int = 4, epoch: int = 0x5EED, now_ms: Callable[[], int] | None = None) -> None:
        self.partitions = partitions
        self.epoch = epoch
        self.now_ms = now_ms or (lambda: time.time_ns() // 1_000_000)
        self.refuse = 0
        self.repeat = 0
        self.lose_acknowledgements = 0
        self._logs: dict[tuple[str, int], _Log] = {}
        self._waiters: set[asyncio.Future[None]] = set()
        self.members: dict[str, dict[str, _MemoryGroupReader]] = {}
        self.commits: dict[tuple[str, str, int], int] = {}
        self.member_numbers = itertools.count(1)
        self.rebalances = asyncio.Lock()

    def create(self, namespace: str) -> None:
        for topic in TOPICS:
            for partition in range(topic.partitions or self.partitions):
                self._logs.setdefault((prefixed(topic.name, namespace), partition), _Log())

    def log_of(self, topic: str, partition: int) -> _Log:
        found = self._logs.get((topic, partition))
        if found is None:
            raise PeerUnavailable(f"there is no partition {partition} of {topic}", topic=topic, partition=partition)
        return found

    def count(self, topic: str) -> int:
        return sum(1 for name, _ in self._logs if name == topic)

    def append(self, topic: str, partition: int, key: bytes | None, value: bytes, headers: Headers) -> int:
        """Write one record, subject to the faults set; wakes everyone who waits."""
        target = self.log_of(topic, partition)
        if self.refuse:
            self.refuse -= 1
            raise PeerUnavailable("the broker refused the record", topic=topic)
        offset = target.end
        copies = 1
        if self.repeat:
            self.repeat -= 1
            copies = 2
        for number in range(copies):
            record = Record(topic, partition, offset + number, self.now_ms(), key, tuple(headers), value)
            target.records.append(record)
        self.wake()
        if self.lose_acknowledgements:
            self.lose_acknowledgements -= 1
            raise PeerUnavailable("the acknowledgement was lost", topic=topic)
        return offset

    def trim(self, topic: str, partition: int, offset: int) -> None:
        """Forget every record before `offset`, as retention does."""
        target = self.log_of(topic, partition)
        del target.records[: max(0, offset - target.base)]
        target.base = max(target.base, offset)

    def wake(self) -> None:
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)

    async def changed(self, wait_ms: int) -> None:
        """Returns after the next change of anything, or after `wait_ms`."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.add(waiter)
        try:
            await asyncio.wait([waiter], timeout=wait_ms / 1000)
        finally:
            self._waiters.discard(waiter)

    async def rebalance(self, group: str, change: Callable[[dict[str, _MemoryGroupReader]], None]) -> None:
        """Take everything from every member, change the membership, and give it out again."""
        async with self.rebalances:
            members = self.members.setdefault(group, {})
            for member in list(members.values()):
                await member.lose()
            change(members)
            if members:
                topics = {topic for member in members.values() for topic in member.topics}
                share = range_assignment(list(members), {topic: self.count(topic) for topic in sorted(topics)})
                for name, member in list(members.items()):
                    await member.gain(frozenset(place for place in share[name] if place.topic in member.topics))
        self.wake()


class MemoryBus:
    """A `Bus` on a `MemoryBroker`; without one it makes its own."""

    def __init__(self, broker: MemoryBroker | None = None, *, partitions: int = 4, namespace: str = "") -> None:
        self.broker = broker or MemoryBroker(partitions)
        self.namespace = namespace
        self._running = False

    @property
    def partitions(self) -> int:
        return self.broker.partitions

    @property
    def epoch(self) -> int:
        return self.broker.epoch

    async def start(self) -> None:
        self.broker.create(self.namespace)
        self._running = True

    async def stop(self) -> None:
        self._running = False

    async def partitions_of(self, topic: str) -> int:
        return self.broker.count(prefixed(topic, self.namespace))

    async def publish(
        self, topic: str, partition: int, key: str, event: Event, event_id: str, source: str, extra: Headers = ()
    ) -> int:
        return await (await self.post(topic, partition, key, event, event_id, source, extra))

    async def post(
        self, topic: str, partition: int, key: str, event: Event, event_id: str, source: str, extra: Headers = ()
    ) -> asyncio.Future[int]:
        headers, value = encode(event, event_id, source, extra)
        return await self.post_raw(topic, partition, key.encode(), value, headers)

    async def post_raw(
        self, topic: str, partition: int, key: bytes | None, value: bytes, headers: Headers
    ) -> asyncio.Future[int]:
        if not self._running:
            raise PeerUnavailable("the bus has been stopped")
        limit = by_name(topic).record_size_bytes
        size = len(value) + len(key or b"") + sum(len(name) + len(data) for name, data in headers)
        if size > limit:
            raise InvalidInput(f"a record of {size} bytes is over the limit", code="record_too_large", limit=limit)
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        try:
            offset = self.broker.append(prefixed(topic, self.namespace), partition, key, value, headers)
            future.set_result(offset)
        except PeerUnavailable as error:
            future.set_exception(error)
            future.exception()  # a caller that drops the future has chosen not to hear of it
        await asyncio.sleep(0)
        return future

    async def reader(self, topic: str, start: Mapping[int, Start], *, gather_ms: int = 0) -> MemoryReader:
        made = MemoryReader(self.broker, topic, self.namespace)
        for partition, where in start.items():
            await made.add(partition, where)
        return made

    async def group(
        self, topics: Sequence[str], group: str, on_assigned: AssignedCallback, on_revoked: RevokedCallback,
        *, gather_ms: int = 0,
    ) -> _MemoryGroupReader:  # fmt: skip
        name = f"member-{next(self.broker.member_numbers):04d}"
        scope = prefixed(group, self.namespace)
        member = _MemoryGroupReader(self, scope, name, topics, on_assigned, on_revoked)
        await self.broker.rebalance(scope, lambda members: members.update({name: member}))
        return member


def _resolve(target: _Log, start: Start) -> int:
    if start == "earliest":
        return target.base
    return target.end if start == "latest" else start


class _Positions:
    """Reads forward over a set of places; shared by both kinds of reader."""

    def __init__(self, broker: MemoryBroker, namespace: str) -> None:
        self.broker = broker
        self.namespace = namespace
        self.at: dict[Place, int] = {}
        self.paused: set[Place] = set()
        self.gaps: list[Gap] = []
        self.closed = False
        self._turn = 0

    def log_of(self, place: Place) -> _Log:
        return self.broker.log_of(prefixed(place.topic, self.namespace), place.partition)

    async def batch(self, max_records: int, wait_ms: int) -> list[Record]:
        if self.closed:
            raise PeerUnavailable("the reader has been closed")
        await asyncio.sleep(0)  # a reader that is never out of records still lets others run
        found = self._take(max_records)
        if not found and wait_ms > 0:
            await self.broker.changed(wait_ms)
            found = self._take(max_records)
        return found

    def _take(self, max_records: int) -> list[Record]:
        taken: list[Record] = []
        places = [] if self.closed else sorted(self.at)
        self._turn += 1  # begin with another place each time, so that a busy one does not starve the rest
        for number in range(len(places)):
            place = places[(number + self._turn) % len(places)]
            if place in self.paused or len(taken) >= max_records:
                continue
            target, position = self.log_of(place), self.at[place]
            if not target.base <= position <= target.end:
                self.gaps.append(Gap(place, position, target.base))
                position = target.base
            found = target.records[position - target.base :][: max_records - len(taken)]
            self.at[place] = position + len(found)
            taken.extend(
                msgspec.structs.replace(record, topic=place.topic) if self.namespace else record for record in found
            )
        return taken


class MemoryReader:
    """A `Reader` on a `MemoryBroker`."""

    def __init__(self, broker: MemoryBroker, topic: str, namespace: str) -> None:
        self.topic = topic
        self._places = _Positions(broker, namespace)
        self.gaps = self._places.gaps

    @property
    def partitions(self) -> frozenset[int]:
        return frozenset(place.partition for place in self._places.at)

    async def batch(self, max_records: int = 500, wait_ms: int = DEFAULT_WAIT_MS) -> list[Record]:
        return await self._places.batch(max_records, wait_ms)

    async def add(self, partition: int, start: Start) -> None:
        await self.add_all({partition: start})

    async def add_all(self, starts: Mapping[int, Start]) -> None:
        for partition, start in starts.items():
            self._places.at[Place(self.topic, partition)] = _resolve(self._log_of(partition), start)
        self._places.broker.wake()

    async def remove(self, partition: int) -> None:
        self._places.at.pop(Place(self.topic, partition), None)

    def position(self, partition: int) -> int:
        return self._places.at[Place(self.topic, partition)]

    async def start_offset(self, partition: int) -> int:
        return self._log_of(partition).base

    async def end_offset(self, partition: int) -> int:
        return self._log_of(partition).end

    async def offset_for_time(self, partition: int, time_ms: int) -> int | None:
        target = self._log_of(partition)
        index = bisect.bisect_left(target.records, time_ms, key=lambda record: record.timestamp_ms)
        return target.base + index if index < len(target.records) else None

    async def close(self) -> None:
        self._places.closed = True
        self._places.broker.wake()

    def _log_of(self, partition: int) -> _Log:
        return self._places.log_of(Place(self.topic, partition))


class _MemoryGroupReader:
    """A `GroupReader` on a `MemoryBroker`."""

    stalled = False

    def __init__(
        self, bus: MemoryBus, group: str, name: str, topics: Sequence[str],
        on_assigned: AssignedCallback, on_revoked: RevokedCallback,
    ) -> None:  # fmt: skip
        self._bus = bus
        self._group = group
        self._name = name
        self.topics = {prefixed(topic, bus.namespace) for topic in topics}
        self._plain = {prefixed(topic, bus.namespace): topic for topic in topics}
        self._on_assigned = on_assigned
        self._on_revoked = on_revoked
        self._places = _Positions(bus.broker, bus.namespace)

    @property
    def assignment(self) -> frozenset[Place]:
        return frozenset(self._places.at)

    async def gain(self, places: frozenset[Place]) -> None:
        """The broker's word: these are yours."""
        held = frozenset(Place(self._plain[place.topic], place.partition) for place in places)
        for place in held:
            stored = self._bus.broker.commits.get((self._group, place.topic, place.partition))
            self._places.at[place] = self._places.log_of(place).base if stored is None else stored
        try:
            starts = await self._on_assigned(held) or {}
        except Exception as error:
            callback_failed("on_assigned", self._group, error)
            return
        for place, start in starts.items():
            await self.seek(place, start)

    async def lose(self) -> None:
        """The broker's word: nothing is yours."""
        try:
            await self._on_revoked(self.assignment)
        except Exception as error:
            callback_failed("on_revoked", self._group, error)
        self._places.at.clear()
        self._places.paused.clear()

    async def batch(self, max_records: int = 500, wait_ms: int = DEFAULT_WAIT_MS) -> list[Record]:
        async with self._bus.broker.rebalances:
            pass  # a member whose callbacks are running is given nothing until they are done
        return await self._places.batch(max_records, wait_ms)

    async def commit(self, positions: Mapping[Place, int]) -> None:
        for place, position in positions.items():
            if place in self._places.at:
                self._bus.broker.commits[(self._group, place.topic, place.partition)] = position

    async def committed(self, place: Place) -> int | None:
        return self._bus.broker.commits.get((self._group, place.topic, place.partition))

    async def seek(self, place: Place, start: Start) -> None:
        if place in self._places.at:
            self._places.at[place] = _resolve(self._places.log_of(place), start)
            self._bus.broker.wake()

    def position(self, place: Place) -> int | None:
        return self._places.at.get(place)

    def pause(self, places: frozenset[Place]) -> None:
        self._places.paused.update(places)

    def resume(self, places: frozenset[Place]) -> None:
        self._places.paused.difference_update(places)
        self._bus.broker.wake()

    async def end_offset(self, place: Place) -> int:
        return self._places.log_of(place).end

    async def rebuild(self) -> None:
        await self._bus.broker.rebalance(self._group, lambda members: None)

    async def close(self) -> None:
        if not self._places.closed:
            self._places.closed = True
            await self._bus.broker.rebalance(self._group, self._leave)

    def _leave(self, members: dict[str, _MemoryGroupReader]) -> None:
        members.pop(self._name, None)
