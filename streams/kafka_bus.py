"""The bus on Kafka (aiokafka): one producer, and as many readers as are asked for.

Order holds without an idempotent producer too. aiokafka's sender keeps one produce request per node and mutes every
partition in it until the request is answered; a batch that is to be retried is put back at the head of its partition's
queue before the partition is unmuted (producer/sender.py: `_in_flight`, `_muted_partitions`, `_to_reenqueue`). So a
partition never has two batches on the way, and a retry repeats records but never overtakes others. A batch that is
given up (its time is over, or the broker refused it for good) leaves a hole, which is why a `StageWriter` stops at its
first failure.

The log's epoch is a random 32-bit value on `prompts`, under a key of its own for each process that proposed one, so
that compaction keeps them all; the one that stands first counts, whoever reads it and whenever.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Mapping, Sequence
from typing import Any, Final

from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import (
    ClusterAuthorizationFailedError,
    GroupAuthorizationFailedError,
    KafkaConnectionError,
    KafkaError,
    KafkaTimeoutError,
    MessageSizeTooLargeError,
    RequestTimedOutError,
    TopicAuthorizationFailedError,
    for_code,
)

from streams.broker_access import OPEN, BrokerAccess
from streams.bus import AssignedCallback, Headers, RevokedCallback, Start
from streams.codec import decode_as, encode
from streams.errors import (
    HeadstartError,
    InvalidInput,
    Misconfigured,
    NotPermitted,
    PeerError,
    PeerTimeout,
    PeerUnavailable,
)
from streams.events import Event
from streams.events.registering import TopicEpoch
from streams.kafka_group import KafkaGroupReader
from streams.kafka_readers import REQUEST_TIMEOUT_MS, SESSION_TIMEOUT_MS, KafkaConnection, KafkaReader
from streams.settings import Settings
from streams.topology import DEAD_LETTERS, EVENTS, PROMPTS, TOPICS, by_name, prefixed

log = logging.getLogger(__name__)
EPOCH_KEY: Final = "epoch:events"
BATCH_BYTES: Final = 128 * 1024  # one batch per partition is on the way at a time, so a small one would cap throughput
START_TIMEOUT_S: Final = 60.0
REFUSALS: Final = (TopicAuthorizationFailedError, GroupAuthorizationFailedError, ClusterAuthorizationFailedError)
RECORD_OVERHEAD_BYTES: Final = 4096  # of the batch and record headers around key, value and our headers


class KafkaBus:
    """A `Bus` on a Kafka cluster. Belongs to the event loop that called `start`."""

    def __init__(
        self,
        bootstrap: str,
        *,
        namespace: str = "",
        partitions: int = 32,
        replication: int = -1,
        idempotent: bool = True,
        fetch_max_wait_ms: int = 500,
        client: str = "headstart",
        access: BrokerAccess = OPEN,
        session_timeout_ms: int = SESSION_TIMEOUT_MS,
        request_timeout_ms: int = REQUEST_TIMEOUT_MS,
    ) -> None:
        """access: who this is, where the broker asks. partitions, replication: only for topics that are missing.
        fetch_max_wait_ms, idempotent: facts about the broker (streams/embedded.py). session_timeout_ms: how long a
        silent member keeps its partitions. request_timeout_ms: how long an answer of the broker is waited for."""
        self.namespace = namespace
        self.connection = KafkaConnection(
            bootstrap, namespace, fetch_max_wait_ms, client, access, session_timeout_ms, request_timeout_ms
        )  # fmt: skip
        self._wanted_partitions = partitions
        self._replication = replication
        self._idempotent = idempotent
        self._producer: AIOKafkaProducer | None = None
        self._counts: dict[str, int] = {}
        self._epoch: int | None = None

    @classmethod
    def from_settings(cls, settings: Settings, *, namespace: str = "", client: str = "headstart") -> KafkaBus:
        """Raises Misconfigured when no broker is set."""
        settings.require("kafka")
        assert settings.kafka is not None
        return cls(
            settings.kafka, namespace=namespace, partitions=settings.partitions, replication=settings.replication,
            idempotent=settings.idempotent, fetch_max_wait_ms=settings.fetch_max_wait_ms, client=client,
            session_timeout_ms=settings.session_timeout_ms, access=BrokerAccess.from_settings(settings),
        )  # fmt: skip

    @property
    def partitions(self) -> int:
        return self._counts[EVENTS.name]

    @property
    def epoch(self) -> int:
        if self._epoch is None:
            raise RuntimeError(f"the bus has not been started, or its user may not read {PROMPTS.name}")
        return self._epoch

    async def start(self) -> None:
        producer = AIOKafkaProducer(
            **self.connection.options(),
            acks="all",
            enable_idempotence=self._idempotent,
            linger_ms=0,
            max_batch_size=BATCH_BYTES,
            max_request_size=DEAD_LETTERS.record_size_bytes + RECORD_OVERHEAD_BYTES,
        )
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                await self._create_topics()
                await producer.start()
                self._producer = producer
                try:
                    self._epoch = await self._find_epoch()
                except TopicAuthorizationFailedError:
                    log.debug("this user may not read %s, so the log's epoch is not known", PROMPTS.name)
        except BaseException as error:
            self._producer = None
            await producer.stop()
            if isinstance(error, (KafkaError, TimeoutError)):
                raise PeerUnavailable(
                    f"the broker at {self.connection.bootstrap} does not answer as it should: {error!r}"
                ) from error
            raise

    async def stop(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            await producer.stop()

    async def partitions_of(self, topic: str) -> int:
        return self._counts[topic]

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
        producer = self._producer
        if producer is None:
            raise PeerUnavailable("the bus is not running")
        size = len(value) + len(key or b"") + sum(len(name) + len(data) for name, data in headers)
        limit = by_name(topic).record_size_bytes
        if size > limit:
            raise InvalidInput(f"a record of {size} bytes is over the limit", code="record_too_large", limit=limit)
        result: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        try:
            sent = await producer.send(
                prefixed(topic, self.namespace), value, key=key, partition=partition, headers=list(headers)
            )
        except (KafkaError, AssertionError) as error:  # aiokafka asserts that the partition exists
            raise as_peer_error(error, topic) from error

        def answered(done: asyncio.Future[Any]) -> None:
            if result.done():
                return
            if done.cancelled():
                result.cancel()
            elif (error := done.exception()) is not None:
                result.set_exception(as_peer_error(error, topic))
                result.exception()  # a caller that drops the future has chosen not to hear of it
            else:
                result.set_result(done.result().offset)

        sent.add_done_callback(answered)
        return result

    async def reader(self, topic: str, start: Mapping[int, Start], *, gather_ms: int = 0) -> KafkaReader:
        made = KafkaReader(self.connection, topic, gather_ms)
        try:
            await made.open(start)
        except KafkaError as error:
            await made.close()
            raise as_peer_error(error, topic) from error
        return made

    async def group(
        self, topics: Sequence[str], group: str, on_assigned: AssignedCallback, on_revoked: RevokedCallback,
        *, gather_ms: int = 0,
    ) -> KafkaGroupReader:  # fmt: skip
        made = KafkaGroupReader(
            self.connection, topics, prefixed(group, self.namespace), on_assigned, on_revoked, gather_ms
        )
        try:
            await made.open()
        except KafkaError as error:
            await made.close()
            raise as_peer_error(error, ",".join(topics)) from error
        return made

    async def _create_topics(self) -> None:
        """Make what is missing, then wait until every partition has a leader: a topic just made answers
        NotLeaderForPartition for a moment. The topics that hold conversations must have equally many partitions."""
        admin = AIOKafkaAdminClient(**self.connection.options())
        await self._until_connected(admin.start)
        try:
            counts = await self._ready_partitions(admin)
            missing = [topic for topic in TOPICS if counts.get(topic.name) is None]
            # `events` first where conversations live: the others follow the count it has.
            shared = counts.get(EVENTS.name) or self._wanted_partitions
            new = [
                NewTopic(
                    prefixed(topic.name, self.namespace), topic.partitions or shared, self._replication,
                    topic_configs=topic.config(),
                )
                for topic in missing
            ]  # fmt: skip
            if new:
                answer = await admin.create_topics(new)
                for name, code, *_ in answer.topic_errors:
                    if code not in (0, 36):  # 36: somebody else was faster
                        raise Misconfigured(f"topic {name} cannot be made: {for_code(code).__name__}")
            while len(counts) < len(TOPICS) or None in counts.values():
                await asyncio.sleep(0.05)
                counts = await self._ready_partitions(admin)
        finally:
            await admin.close()
        self._counts = {name: count for name, count in counts.items() if count is not None}
        for topic in TOPICS:
            if topic.partitions is None and self._counts[topic.name] < self.partitions:
                raise Misconfigured(
                    f"{topic.name} has {self._counts[topic.name]} partitions and events {self.partitions}",
                    hint="grow it: the topics that hold conversations have equally many",
                )

    async def _until_connected(self, connect: Any) -> None:
        while True:
            try:
                return await connect()  # type: ignore[no-any-return]
            except KafkaConnectionError:
                await asyncio.sleep(0.2)

    async def _ready_partitions(self, admin: AIOKafkaAdminClient) -> dict[str, int | None]:
        """Partitions of each topic of ours that exists; None where one of them has no leader yet."""
        ours = {prefixed(topic.name, self.namespace): topic.name for topic in TOPICS}
        counts: dict[str, int | None] = {}
        for found in await admin.describe_topics():
            name = ours.get(found["topic"])
            if name is None or found["error_code"] == 3:  # 3: unknown topic
                continue
            parts = found["partitions"]
            led = bool(parts) and all(part["leader"] >= 0 and part["error_code"] == 0 for part in parts)
            counts[name] = len(parts) if led else None
        return counts

    async def _find_epoch(self) -> int:
        """The first epoch on `prompts`; proposes one when there is none."""
        reader = await self.reader(PROMPTS.name, {0: "earliest"})
        try:
            proposed = False
            while True:
                end = await reader.end_offset(0)
                while reader.position(0) < end:
                    for record in await reader.batch(wait_ms=self.connection.fetch_max_wait_ms):
                        if (record.key or b"").startswith(EPOCH_KEY.encode()):
                            return decode_as(record, TopicEpoch).epoch
                if proposed:
                    raise PeerUnavailable("the log's epoch was written and cannot be read")
                value = secrets.randbits(32)
                key = f"{EPOCH_KEY}/{value:08x}"
                await self.publish(PROMPTS.name, 0, key, TopicEpoch(topic=EVENTS.name, epoch=value), key, "bus")
                proposed = True
        finally:
            await reader.close()


def as_peer_error(error: BaseException, topic: str) -> HeadstartError:
    """What a client error means to a caller of the bus."""
    if isinstance(error, HeadstartError):
        return error
    if isinstance(error, REFUSALS):
        return NotPermitted(
            f"the broker does not permit this: {error!r}", topic=topic, hint="its access rules: python -m streams.acls"
        )
    if isinstance(error, MessageSizeTooLargeError):
        return InvalidInput("the broker refuses a record of this size", code="record_too_large", topic=topic)
    kind: type[PeerError] = PeerUnavailable
    if isinstance(error, (KafkaTimeoutError, RequestTimedOutError)):
        kind = PeerTimeout
    return kind(f"the broker did not take a record: {error!r}", topic=topic)
