"""A reader on aiokafka with partitions of its own choice.

It keeps its own positions and builds a new client whenever its partitions change. `assign` on a living
client forgets every position, and a broker answers the requests of one connection in order, so a new assignment would
also wait behind the fetch that is being held for the old one. A new client costs 41 KiB for a moment and about 4 ms;
records that the old one had fetched and not handed out are fetched again.

It watches its own progress (progress.py): with lag and no records it builds a new client, since aiokafka can stop
without an error.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Mapping
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError, OffsetOutOfRangeError

from streams.broker_access import OPEN, BrokerAccess
from streams.bus import DEFAULT_WAIT_MS, Gap, Place, Start
from streams.codec import Record
from streams.errors import PeerUnavailable
from streams.progress import Progress
from streams.topology import DEAD_LETTERS, prefixed

log = logging.getLogger(__name__)
PARTITION_FETCH_BYTES = 2 * DEAD_LETTERS.record_size_bytes  # the largest record must fit, or its partition stands still
# A request that is not answered for so long ends its connection, and the next one goes over a new one. aiokafka gives a
# record up after it too. The broker answers every request within milliseconds or `fetch_max_wait_ms`.
REQUEST_TIMEOUT_MS = 20_000
GATHERED_BYTES = 256 * 1024  # ends a gathering fetch early: some 500 records
PROBE_MS = 2_000  # in which a broker gives a record that it holds
MOST_WAIT_MS = 500
SESSION_TIMEOUT_MS = 10_000  # Apache Kafka accepts no less than 6 s unless told otherwise


class KafkaConnection:
    """What every client of one bus is opened with."""

    def __init__(
        self, bootstrap: str, namespace: str, fetch_max_wait_ms: int, client: str, access: BrokerAccess = OPEN,
        session_timeout_ms: int = SESSION_TIMEOUT_MS, request_timeout_ms: int = REQUEST_TIMEOUT_MS,
    ) -> None:  # fmt: skip
        self.bootstrap = bootstrap
        self.namespace = namespace
        self.fetch_max_wait_ms = fetch_max_wait_ms
        self.session_timeout_ms = session_timeout_ms
        self.request_timeout_ms = request_timeout_ms
        self._client = client
        self._access = access

    def options(self) -> dict[str, Any]:
        """Options that producers, consumers and admin clients share."""
        return {
            "bootstrap_servers": self.bootstrap.split(","), "client_id": self._client,
            "request_timeout_ms": self.request_timeout_ms, **self._access.options(),
        }  # fmt: skip

    def consumer(self, gather_ms: int = 0, **more: Any) -> AIOKafkaConsumer:
        """A consumer that commits nothing by itself. gather_ms: a fetch is held that long unless much has come; 0: it
        is answered by the first record."""
        if gather_ms:
            wait_ms = max(gather_ms, self.fetch_max_wait_ms)
            more |= {"fetch_max_wait_ms": wait_ms, "fetch_min_bytes": GATHERED_BYTES}
        else:
            more |= {"fetch_max_wait_ms": self.fetch_max_wait_ms}
        return AIOKafkaConsumer(
            **self.options(),
            enable_auto_commit=False,
            max_partition_fetch_bytes=PARTITION_FETCH_BYTES,
            **more,
        )

    def was_given_nothing(self, wait_ms: int) -> None:
        """A client that was opened when fetches waited this long had lag and made no progress: those opened from now on
        wait four times as long, up to MOST_WAIT_MS. A broker that looks through all it has before it answers gives
        nothing when that takes longer than it may wait: Tansu beyond some 20,000 batches at 5 ms."""
        if wait_ms == self.fetch_max_wait_ms < MOST_WAIT_MS:
            self.fetch_max_wait_ms = min(MOST_WAIT_MS, 4 * wait_ms)

    @property
    def ask_timeout_s(self) -> float:
        """How long a question about offsets may take: it may wait behind a fetch that the broker holds."""
        return self.request_timeout_ms / 2000

    def full(self, topic: str, partition: int) -> TopicPartition:
        return TopicPartition(prefixed(topic, self.namespace), partition)


def record_of(topic: str, message: Any) -> Record:
    return Record(
        topic, message.partition, message.offset, message.timestamp, message.key, message.headers, message.value or b""
    )


async def _started(consumer: AIOKafkaConsumer) -> None:
    """Starts a client so far that it can be stopped: `stop` cancels a task of the client and waits for it, which
    raises CancelledError where that task has not had its first turn."""
    await consumer.start()
    await asyncio.sleep(0)


async def _stopped(consumer: AIOKafkaConsumer) -> None:
    """Stops a client and lets go of what it had fetched ahead, up to PARTITION_FETCH_BYTES of each partition. A fetch
    that was not read to its end is a circle (its records and the generator that unpacks them), so it would stay in
    memory until the garbage collector's rarest pass."""
    await consumer.stop()
    fetcher = getattr(consumer, "_fetcher", None)
    if fetcher is None:
        return
    for fetched in fetcher._records.values():
        unread = getattr(fetched, "_partition_records", None)
        if unread is not None:
            unread._records_iterator.close()
    fetcher._records.clear()


def monotonic_ms() -> int:
    return time.monotonic_ns() // 1_000_000


class KafkaReader:
    """A `Reader` of chosen partitions of one topic."""

    def __init__(self, connection: KafkaConnection, topic: str, gather_ms: int = 0) -> None:
        self.topic = topic
        self._gather_ms = gather_ms
        self.gaps: list[Gap] = []
        self.rebuilds = 0
        self._connection = connection
        self._positions: dict[int, int] = {}
        self._consumer: AIOKafkaConsumer | None = None
        self._wait_ms = connection.fetch_max_wait_ms  # when the client was opened
        self._changing = asyncio.Lock()
        self._changed = asyncio.Event()
        self._progress = Progress()
        self._closed = False

    async def open(self, start: Mapping[int, Start]) -> None:
        """Connect and resolve the positions. Raises KafkaError."""
        async with self._changing:
            consumer = self._connection.consumer(self._gather_ms, auto_offset_reset="none")
            await _started(consumer)
            self._consumer = consumer
            self._positions = await self._resolve(start)
            self._assign(consumer)

    @property
    def partitions(self) -> frozenset[int]:
        return frozenset(self._positions)

    async def batch(self, max_records: int = 500, wait_ms: int = DEFAULT_WAIT_MS) -> list[Record]:
        if self._closed:
            raise PeerUnavailable("the reader has been closed", topic=self.topic)
        consumer = self._consumer
        assert consumer is not None
        if not self._positions:
            self._changed.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), wait_ms / 1000)
            return []
        try:
            fetched = await consumer.getmany(timeout_ms=wait_ms, max_records=max_records)
        except OffsetOutOfRangeError as error:
            try:
                await self._go_on_at_oldest(error.args[0])
            except PeerUnavailable as away:
                log.warning("%s; where the log stands is asked again", away)
            return []
        if consumer is not self._consumer:
            return []  # the partitions changed meanwhile; what was fetched is fetched again from the kept positions
        records: list[Record] = []
        for place, messages in fetched.items():
            records.extend(record_of(self.topic, message) for message in messages)
            self._positions[place.partition] = messages[-1].offset + 1
        if self._progress.polled(monotonic_ms(), len(records)):
            await self._look_for_lag()
        return records

    async def add(self, partition: int, start: Start) -> None:
        await self.add_all({partition: start})

    async def add_all(self, starts: Mapping[int, Start]) -> None:
        async with self._changing:
            found = await self._resolve(starts)
            await self._rebuild(self.partitions - found.keys(), found)

    async def remove(self, partition: int) -> None:
        async with self._changing:
            if partition in self._positions:
                await self._rebuild(self.partitions - {partition}, {})

    def position(self, partition: int) -> int:
        return self._positions[partition]

    async def start_offset(self, partition: int) -> int:
        place = self._connection.full(self.topic, partition)
        return int((await self._ask("beginning_offsets", [place]))[place])

    async def end_offset(self, partition: int) -> int:
        place = self._connection.full(self.topic, partition)
        return int((await self._ask("end_offsets", [place]))[place])

    async def offset_for_time(self, partition: int, time_ms: int) -> int | None:
        place = self._connection.full(self.topic, partition)
        found = (await self._ask("offsets_for_times", {place: time_ms}))[place]
        # "None" has two forms: no answer, or one whose timestamp is -1 (and whose offset means nothing).
        return None if found is None or found.timestamp < 0 else int(found.offset)

    async def close(self) -> None:
        self._closed = True
        self._changed.set()
        if self._consumer is not None:
            await _stopped(self._consumer)

    async def _ask(self, question: str, about: Any) -> Any:
        """A question about offsets; it is asked on whichever client is in force. Raises PeerUnavailable."""
        if self._closed or self._consumer is None:
            raise PeerUnavailable("the reader has been closed", topic=self.topic)
        try:
            async with asyncio.timeout(self._connection.ask_timeout_s):
                return await getattr(self._consumer, question)(about)
        except (KafkaError, TimeoutError) as error:
            raise PeerUnavailable(f"the broker does not say its offsets: {error!r}", topic=self.topic) from error

    async def _resolve(self, start: Mapping[int, Start]) -> dict[int, int]:
        found: dict[int, int] = {}
        for partition, where in start.items():
            if where == "earliest":
                found[partition] = await self.start_offset(partition)
            else:
                found[partition] = await self.end_offset(partition) if where == "latest" else where
        return found

    def _assign(self, consumer: AIOKafkaConsumer) -> None:
        consumer.assign([self._connection.full(self.topic, partition) for partition in self._positions])
        for partition, position in self._positions.items():
            consumer.seek(self._connection.full(self.topic, partition), position)

    async def _rebuild(self, kept: frozenset[int], moved: Mapping[int, int]) -> None:
        """Swap the client for a new one. Raises PeerUnavailable, and then nothing has changed."""
        wait_ms = self._connection.fetch_max_wait_ms
        fresh = self._connection.consumer(self._gather_ms, auto_offset_reset="none")
        try:
            await _started(fresh)
        except BaseException as error:
            await fresh.stop()
            if isinstance(error, KafkaError):
                raise PeerUnavailable(f"no new client could be opened: {error!r}", topic=self.topic) from error
            raise
        # Positions moved on while the new client connected; those that count are the ones of now.
        self._positions = {partition: self._positions[partition] for partition in kept} | dict(moved)
        stale, self._consumer, self._wait_ms = self._consumer, fresh, wait_ms
        self._assign(fresh)
        self._changed.set()
        if stale is not None:
            await _stopped(stale)

    async def _go_on_at_oldest(self, wanted: Mapping[TopicPartition, int]) -> None:
        """Positions said to be outside the log: note what is missed and go on at the oldest record. Where the log does
        hold the position when it is asked again, it was a broker that is behind itself; then nothing is missed."""
        async with self._changing:
            for place, offset in wanted.items():
                if self._positions.get(place.partition) != offset:
                    continue
                assert self._consumer is not None
                oldest, end = await self.start_offset(place.partition), await self.end_offset(place.partition)
                if oldest <= offset and (
                    offset <= end or (oldest < end and await self._holds(place, offset - 1, end - 1))
                ):
                    self._consumer.seek(place, offset)
                    continue
                log.error("%s/%d has no offset %d; going on at %d", *place, offset, oldest)
                self.gaps.append(Gap(Place(self.topic, place.partition), offset, oldest))
                self._positions[place.partition] = oldest
                self._consumer.seek(place, oldest)

    async def _holds(self, place: TopicPartition, offset: int, begin: int) -> bool:
        """Whether the log gives this record, read from `begin`, which it does say it has. A broker may say an end
        before records that it holds (Tansu counts a batch as one), so the last record that was read is asked for
        before the log is believed lost. Raises PeerUnavailable where nothing at all is given: then it is only slow."""
        consumer = self._connection.consumer(auto_offset_reset="none")
        newest = -1
        try:
            await _started(consumer)
            consumer.assign([place])
            consumer.seek(place, begin)
            while newest < offset and (found := await consumer.getmany(place, timeout_ms=PROBE_MS)):
                newest = max(message.offset for messages in found.values() for message in messages)
        except OffsetOutOfRangeError:
            return False
        except KafkaError as error:
            raise PeerUnavailable(f"the broker does not give a record: {error!r}", topic=self.topic) from error
        finally:
            await _stopped(consumer)
        if newest < 0:
            raise PeerUnavailable("the broker gives no record where it says that it has some", topic=self.topic)
        return newest >= offset

    async def _look_for_lag(self) -> None:
        """After a while without records. A position past the end is a log that was lost or made anew; not every
        broker says so by itself."""
        lag: int | None = 0
        try:
            positions = {self._connection.full(self.topic, number): at for number, at in self._positions.items()}
            ends = await self._ask("end_offsets", list(positions))
            lag = sum(max(0, int(ends[place]) - at) for place, at in positions.items())
            beyond = {place: at for place, at in positions.items() if at > ends[place]}
            if beyond:
                await self._go_on_at_oldest(beyond)
        except PeerUnavailable:
            lag = None
        if self._progress.compared(monotonic_ms(), lag):
            async with self._changing:
                log.warning("a reader of %s has lag %s and no progress; opening a new client", self.topic, lag)
                self.rebuilds += 1
                if lag is not None:
                    self._connection.was_given_nothing(self._wait_ms)
                try:
                    await self._rebuild(self.partitions, {})
                except PeerUnavailable as error:
                    log.warning("%s", error)
