"""A group member on aiokafka: range assignor, eager rebalances, commits by hand.

aiokafka hands out records of a new assignment as soon as it has it, while `on_assigned` may still be seeking. So a poll
is a task of its own whose result is taken only when the callbacks are done, and not at all when its assignment is over
or its place was moved meanwhile. A cancel of `batch` leaves that task to the next call.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from typing import Any

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.errors import KafkaError

from streams.bus import DEFAULT_WAIT_MS, AssignedCallback, Gap, Place, RevokedCallback, Start
from streams.codec import Record
from streams.errors import PeerUnavailable
from streams.kafka_readers import KafkaConnection, monotonic_ms, record_of
from streams.progress import Progress
from streams.rebalance import callback_failed
from streams.topology import prefixed

log = logging.getLogger(__name__)
HEARTBEAT_MS = 500  # a rebalance reaches the members with their next heartbeat
MAX_POLL_MS = 300_000

Fetched = dict[TopicPartition, list[Any]]


class KafkaGroupReader(ConsumerRebalanceListener):  # type: ignore[misc]
    """A `GroupReader` on a Kafka cluster."""

    def __init__(
        self,
        connection: KafkaConnection,
        topics: Sequence[str],
        group: str,
        on_assigned: AssignedCallback,
        on_revoked: RevokedCallback,
        gather_ms: int = 0,
    ) -> None:
        self._gather_ms = gather_ms
        self._wait_ms = connection.fetch_max_wait_ms  # when the client was opened
        self.gaps: list[Gap] = []
        self.rebuilds = 0
        self._connection = connection
        self._plain = {prefixed(topic, connection.namespace): topic for topic in topics}
        self._group = group
        self._assigned_callback = on_assigned
        self._revoked_callback = on_revoked
        self._consumer: AIOKafkaConsumer | None = None
        self._poll: asyncio.Task[tuple[int, Fetched]] | None = None
        self._held: frozenset[Place] = frozenset()
        self._positions: dict[Place, int] = {}
        self._paused: set[Place] = set()
        self._parked: list[Record] = []  # fetched before their place was paused
        self._sought: set[Place] = set()  # moved since the poll ended whose result is still to be taken
        self._steady = asyncio.Event()
        self._generation = 0
        self._progress = Progress()
        self._closed = False

    async def open(self) -> None:
        """Join; the callbacks run from here on. Raises KafkaError."""
        self._wait_ms = self._connection.fetch_max_wait_ms
        consumer = self._connection.consumer(
            self._gather_ms,
            group_id=self._group,
            auto_offset_reset="earliest",
            partition_assignment_strategy=(RangePartitionAssignor,),
            session_timeout_ms=self._connection.session_timeout_ms,
            heartbeat_interval_ms=HEARTBEAT_MS,
            max_poll_interval_ms=MAX_POLL_MS,
        )
        consumer.subscribe(list(self._plain), listener=self)
        self._consumer = consumer
        try:
            await consumer.start()
        except BaseException:
            self._consumer = None
            await consumer.stop()
            raise

    @property
    def assignment(self) -> frozenset[Place]:
        return self._held

    @property
    def stalled(self) -> bool:
        return self._progress.stalled

    async def on_partitions_revoked(self, revoked: set[TopicPartition]) -> None:
        await self._lose()

    async def on_partitions_assigned(self, assigned: set[TopicPartition]) -> None:
        self._held = frozenset(Place(self._plain[place.topic], place.partition) for place in assigned)
        try:
            starts = await self._assigned_callback(self._held) or {}
            for place, start in starts.items():
                await self.seek(place, start)
        except Exception as error:
            callback_failed("on_assigned", self._group, error)
        self._steady.set()

    async def _lose(self) -> None:
        self._steady.clear()
        self._generation += 1
        if self._held:
            try:
                await self._revoked_callback(self._held)  # which may still commit
            except Exception as error:
                callback_failed("on_revoked", self._group, error)
        self._held = frozenset()
        self._positions.clear()
        self._paused.clear()
        self._parked.clear()

    async def batch(self, max_records: int = 500, wait_ms: int = DEFAULT_WAIT_MS) -> list[Record]:
        if self._closed:
            raise PeerUnavailable("the reader has been closed")
        if self._consumer is None and not await self._joined_again(wait_ms):
            return []
        loop = asyncio.get_running_loop()
        deadline = loop.time() + wait_ms / 1000
        if self._parked and (ready := [record for record in self._parked if not self._is_paused(record)]):
            self._parked = [record for record in self._parked if self._is_paused(record)]
            return self._deliver(ready)
        if self._poll is None:
            self._sought.clear()
            self._poll = asyncio.create_task(self._fetch(max_records))
        poll = self._poll
        await asyncio.wait({poll}, timeout=wait_ms / 1000)
        if poll.done() and not self._steady.is_set():
            steady = asyncio.ensure_future(self._steady.wait())
            await asyncio.wait({steady}, timeout=max(0.0, deadline - loop.time()))
            steady.cancel()
        records: list[Record] = []
        if poll.done() and self._steady.is_set() and poll is self._poll:
            self._poll = None
            records = self._deliver(self._accepted(*poll.result()))
        if self._progress.polled(monotonic_ms(), len(records)):
            await self._look_for_lag()
        return records

    async def _joined_again(self, wait_ms: int) -> bool:
        """After a rebuild that failed: try again, at most once in `wait_ms`."""
        try:
            await self.open()
        except KafkaError as error:
            log.warning("group %s could not be joined: %r", self._group, error)
            await asyncio.sleep(wait_ms / 1000)
            return False
        return True

    async def _fetch(self, max_records: int) -> tuple[int, Fetched]:
        """One poll of the client; () when the client is stopped or the broker is not reachable."""
        consumer = self._consumer
        assert consumer is not None
        try:
            fetched: Fetched = await consumer.getmany(timeout_ms=DEFAULT_WAIT_MS, max_records=max_records)
        except KafkaError as error:
            log.warning("group %s could not poll: %r", self._group, error)
            await asyncio.sleep(0.1)
            fetched = {}
        return (self._generation if consumer is self._consumer else -1), fetched

    def _accepted(self, generation: int, fetched: Fetched) -> list[Record]:
        """What of a poll may be given out now; what its place's pause holds back is parked."""
        if generation != self._generation:
            return []
        records: list[Record] = []
        for full, messages in fetched.items():
            place = Place(self._plain[full.topic], full.partition)
            if place not in self._held or place in self._sought:
                continue
            found = [record_of(place.topic, message) for message in messages]
            (self._parked if place in self._paused else records).extend(found)
        return records

    def _deliver(self, records: list[Record]) -> list[Record]:
        place, expected = None, None
        for record in records:
            if place is None or record.partition != place.partition or record.topic != place.topic:
                if place is not None and expected is not None:
                    self._positions[place] = expected
                place = Place(record.topic, record.partition)
                expected = self._positions.get(place)
            if expected is not None and record.offset > expected:
                log.error("records %d to %d of %s/%d are gone", expected, record.offset, *place)
                self.gaps.append(Gap(place, expected, record.offset))
            expected = record.offset + 1
        if place is not None and expected is not None:
            self._positions[place] = expected
        return records

    def _is_paused(self, record: Record) -> bool:
        return Place(record.topic, record.partition) in self._paused

    async def commit(self, positions: Mapping[Place, int]) -> None:
        offsets = {self._full(place): position for place, position in positions.items() if place in self._held}
        if not offsets:
            return
        assert self._consumer is not None
        try:
            async with asyncio.timeout(self._connection.ask_timeout_s):
                await self._consumer.commit(offsets)
        except (KafkaError, TimeoutError) as error:
            raise PeerUnavailable(f"positions could not be stored: {error!r}", group=self._group) from error

    async def committed(self, place: Place) -> int | None:
        assert self._consumer is not None
        try:
            async with asyncio.timeout(self._connection.ask_timeout_s):
                found = await self._consumer.committed(self._full(place))
        except (KafkaError, TimeoutError) as error:
            raise PeerUnavailable(f"positions could not be read: {error!r}", group=self._group) from error
        return None if found is None else int(found)

    async def seek(self, place: Place, start: Start) -> None:
        assert self._consumer is not None
        if place not in self._held:
            return
        if start == "earliest":
            offset = int((await self._ask("beginning_offsets", place))[self._full(place)])
        else:
            offset = await self.end_offset(place) if start == "latest" else start
        self._consumer.seek(self._full(place), offset)
        if self._poll is not None and self._poll.done():
            self._sought.add(place)  # a poll that still waits gives what stands at the new offset
        self._parked = [record for record in self._parked if Place(record.topic, record.partition) != place]
        self._positions[place] = offset

    def position(self, place: Place) -> int | None:
        return self._positions.get(place)

    def pause(self, places: frozenset[Place]) -> None:
        held = places & self._held
        if held and self._consumer is not None:
            self._paused |= held
            self._consumer.pause(*map(self._full, held))

    def resume(self, places: frozenset[Place]) -> None:
        held = places & self._held & self._paused
        if held and self._consumer is not None:
            self._paused -= held
            self._consumer.resume(*map(self._full, held))

    async def end_offset(self, place: Place) -> int:
        return int((await self._ask("end_offsets", place))[self._full(place)])

    async def rebuild(self) -> None:
        await self._leave()
        self.rebuilds += 1
        try:
            await self.open()
        except KafkaError as error:
            raise PeerUnavailable(f"the group could not be joined again: {error!r}", group=self._group) from error

    async def close(self) -> None:
        if not self._closed:
            self._closed = True
            await self._leave()

    async def _leave(self) -> None:
        poll, self._poll = self._poll, None
        if self._consumer is not None:
            await self._lose()
            consumer, self._consumer = self._consumer, None
            await consumer.stop()
        if poll is not None:
            poll.cancel()
            await asyncio.gather(poll, return_exceptions=True)

    def _full(self, place: Place) -> TopicPartition:
        return self._connection.full(place.topic, place.partition)

    async def _ask(self, question: str, place: Place) -> Any:
        if self._consumer is None:
            raise PeerUnavailable("the reader has been closed", group=self._group)
        try:
            async with asyncio.timeout(self._connection.ask_timeout_s):
                return await getattr(self._consumer, question)([self._full(place)])
        except (KafkaError, TimeoutError) as error:
            raise PeerUnavailable(f"the broker does not say its offsets: {error!r}", group=self._group) from error

    async def _look_for_lag(self) -> None:
        lag: int | None = 0
        try:
            for place in self._held - self._paused:
                at = self._positions.get(place)
                if at is None:
                    at = await self.committed(place) or 0
                lag = (lag or 0) + max(0, await self.end_offset(place) - at)
        except PeerUnavailable:
            lag = None
        if self._progress.compared(monotonic_ms(), lag):
            log.warning("group %s has lag %s and no progress; joining again with a new client", self._group, lag)
            if lag is not None:
                self._connection.was_given_nothing(self._wait_ms)
            try:
                await self.rebuild()
            except PeerUnavailable as error:
                log.warning("%s", error)
