"""Records of one topic for one group of a service's processes, through FastStream, at least once.

FastStream gives the client, its life cycle and its test broker; what is acknowledged when is decided here, because
each of its own policies commits the consumer's whole position and so either loses what is in work or holds the poll:

- ack policy MANUAL. A record is begun in the order of its partition and finished in any; what is committed, every
  half second and when a partition is given away, is the first record of it that is not finished.
- `concurrency` records are in work at a time; at 1 they are taken strictly one after the other. Until then the poll
  waits, for which the group allows MAX_POLL_MS.
- `Delivery.claim` turns a record into one that is taken at most once: it waits until everything before it is finished
  and commits past it before its work begins. Where the commit fails, another process has the partition and the record.

A process that is killed leaves what it had not finished to the next one, `session_timeout_ms` after its last sign of
life. Under FastStream's TestKafkaBroker there are no positions, so nothing is committed.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING, Any, Final, Literal

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import KafkaError

from streams.bus import Bus
from streams.codec import Record
from streams.dead_letters import dead_letter
from streams.errors import PeerError
from streams.kafka_readers import SESSION_TIMEOUT_MS
from streams.topology import prefixed

if TYPE_CHECKING:  # the extra `service`: needed, and imported, only where a service reads the bus
    from faststream.kafka import KafkaBroker, KafkaMessage

log = logging.getLogger("headstart.service")
COMMIT_EVERY_S: Final = 0.5
PEER_PAUSE_S: Final = 0.5
STOP_S: Final = 5.0
MAX_POLL_MS: Final = 660_000  # longer than a skill may take (manifest.MAX_TIMEOUT_MS)
HEARTBEATS: Final = 4  # in one session time-out
Take = Callable[["Delivery"], Awaitable[None]]


class Delivery:
    """One record in work."""

    def __init__(self, record: Record, lane: _Lane, commit: Callable[[int], Awaitable[bool]]) -> None:
        self.record = record
        self.finished = False
        self.first = asyncio.Event()
        self._lane, self._commit = lane, commit

    async def claim(self) -> bool:
        """Commits past this record before its work begins; False when it is another process' to do now."""
        self._lane.look()
        await self.first.wait()
        return await self._commit(self.record.offset + 1)


class _Lane:
    """The unfinished records of one partition, in the order they came. Offsets are not compared: a partition that was
    given back may begin again at an earlier one."""

    def __init__(self) -> None:
        self._begun: deque[Delivery] = deque()
        self.position = -1  # what may be committed; -1: nothing yet
        self.committed = -1

    def begin(self, delivery: Delivery) -> None:
        self._begun.append(delivery)

    def finish(self, delivery: Delivery) -> None:
        delivery.finished = True
        self.look()

    def look(self) -> None:
        while self._begun and self._begun[0].finished:
            self.position = self._begun.popleft().record.offset + 1
        if self._begun:
            self._begun[0].first.set()


class Consumer(ConsumerRebalanceListener):  # type: ignore[misc]
    """One subscription. Make it before the broker starts; `start` after, `stop` before it stops."""

    def __init__(
        self, broker: KafkaBroker, topic: str, group: str, take: Take, *, namespace: str = "", concurrency: int = 1,
        begin_at: Literal["earliest", "latest"] = "earliest", session_timeout_ms: int = SESSION_TIMEOUT_MS,
        fetch_max_wait_ms: int = 500,
    ) -> None:  # fmt: skip
        """take: does the work of one record; a record whose work raised stays unfinished, and is read again by the
        next process. begin_at: where a group that was never here begins."""
        from faststream import AckPolicy

        self._topic, self._take, self._concurrency = topic, take, concurrency
        self._places = asyncio.Semaphore(concurrency)
        self._lanes: dict[TopicPartition, _Lane] = {}
        self._working: set[asyncio.Task[None]] = set()
        self._committing: asyncio.Task[None] | None = None
        self._stopping = False
        self._subscriber = broker.subscriber(
            prefixed(topic, namespace), group_id=group, ack_policy=AckPolicy.MANUAL, auto_offset_reset=begin_at,
            decoder=_raw, listener=self, session_timeout_ms=session_timeout_ms,
            heartbeat_interval_ms=session_timeout_ms // HEARTBEATS, max_poll_interval_ms=MAX_POLL_MS,
            fetch_max_wait_ms=fetch_max_wait_ms, no_reply=True,
        )  # fmt: skip
        self._subscriber(self._deliver)

    def start(self) -> None:
        """From now on positions are committed."""
        self._committing = asyncio.get_running_loop().create_task(self._commit_often())

    async def stop(self) -> None:
        """Begins nothing more, waits up to 5 s for what is in work, and commits. Safe twice."""
        self._stopping = True
        if self._working:
            await asyncio.wait(self._working, timeout=STOP_S)
        for task in self._working:
            task.cancel()
        if self._committing is not None:
            self._committing.cancel()
            await asyncio.wait({self._committing})
            self._committing = None
        await self._commit(self._lanes)

    # -- records ---------------------------------------------------------------------------------------------------

    async def _deliver(self, message: Any) -> None:
        """One record from FastStream; returns when the next may come."""
        place = TopicPartition(message.topic, message.partition)
        lane = self._lanes.setdefault(place, _Lane())
        delivery = Delivery(_record(self._topic, message), lane, lambda offset: self._commit_one(place, lane, offset))
        lane.begin(delivery)
        await self._places.acquire()
        if self._stopping:
            self._places.release()
            return
        task = asyncio.get_running_loop().create_task(self._work(lane, delivery))
        self._working.add(task)
        task.add_done_callback(self._worked)
        if self._concurrency == 1:
            await asyncio.wait({task})

    async def _work(self, lane: _Lane, delivery: Delivery) -> None:
        await self._take(delivery)
        lane.finish(delivery)

    def _worked(self, task: asyncio.Task[None]) -> None:
        self._working.discard(task)
        self._places.release()
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("a record of %s stays unfinished: %r", self._topic, error)

    # -- positions -------------------------------------------------------------------------------------------------

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        """Called by the client before a rebalance: what was done is said, and the rest is the next owner's."""
        await self._commit(revoked)
        for place in revoked:
            self._lanes.pop(place, None)

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        """Called by the client after a rebalance."""

    async def _commit_often(self) -> None:
        while True:
            await asyncio.sleep(COMMIT_EVERY_S)
            await self._commit(self._lanes)

    async def _commit(self, places: Iterable[TopicPartition]) -> None:
        """Says how far these partitions are done. A failure is logged: the records will be read again."""
        ready = {place: lane for place in places if (lane := self._lanes.get(place)) and lane.position > lane.committed}
        consumer = self._subscriber.consumer
        if not ready or not isinstance(consumer, AIOKafkaConsumer):
            return
        positions = {place: lane.position for place, lane in ready.items()}
        try:
            await consumer.commit(positions)
        except KafkaError as error:
            log.info("positions of %s were not committed, records will be read again: %s", self._topic, error)
            return
        for place, lane in ready.items():
            lane.committed = max(lane.committed, positions[place])

    async def _commit_one(self, place: TopicPartition, lane: _Lane, offset: int) -> bool:
        consumer = self._subscriber.consumer
        if self._lanes.get(place) is not lane:
            return False
        if not isinstance(consumer, AIOKafkaConsumer):
            return True
        try:
            await consumer.commit({place: offset})
        except KafkaError as error:
            log.warning("a record that may be taken once is left to another process: %s", error)
            return False
        lane.committed = max(lane.committed, offset)
        return self._lanes.get(place) is lane


async def set_aside(bus: Bus, record: Record, error: BaseException, stage: str) -> None:
    """Keeps a record that can not be processed on `dead_letters`; waits as long as the bus is away."""
    while True:
        try:
            _ = await dead_letter(bus, record, error, stage)
            return
        except PeerError as away:
            log.warning("a dead letter waits for the bus: %s", away)
            await asyncio.sleep(PEER_PAUSE_S)


async def _raw(message: KafkaMessage) -> Any:
    """FastStream's decoder: the client's own record, since headers, key and place are wanted too."""
    return message.raw_message


def _record(topic: str, message: Any) -> Record:
    return Record(
        topic=topic, partition=message.partition, offset=message.offset, timestamp_ms=message.timestamp,
        key=message.key, headers=list(message.headers), value=message.value or b"",
    )  # fmt: skip
