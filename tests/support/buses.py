"""The buses that conformance suites run on: in memory, on the embedded broker, on Apache Kafka.

`open_buses` gives a function that opens further connections to one log; each call is another process as far as the
log can tell. A part that is not there is skipped by name, with the reason.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from streams.apache_kafka import ApacheKafka, find_kafka
from streams.bus import Bus
from streams.embedded import EmbeddedBroker
from streams.kafka_bus import KafkaBus
from streams.memory_bus import MemoryBroker, MemoryBus

OpenBus = Callable[[], Awaitable[Bus]]
KINDS = (
    "memory",
    pytest.param("tansu", id="tansu"),
    pytest.param("kafka", id="kafka", marks=pytest.mark.kafka),
)
PARTITIONS = 4


def kafka_broker(data_dir: Path, **options: Any) -> ApacheKafka:
    """One Apache Kafka node, not started; skips the test where none is installed. options: of ApacheKafka."""
    home = os.environ.get("KAFKA_HOME")
    if not home:
        pytest.skip("Apache Kafka: KAFKA_HOME is not set")
    found = find_kafka(Path(home), os.environ)
    if isinstance(found, str):
        pytest.skip(f"Apache Kafka: {found}")
    return ApacheKafka(found, data_dir, **options)


@asynccontextmanager
async def open_buses(kind: str, data_dir: Path, namespace: str = "") -> AsyncIterator[OpenBus]:
    """Opens buses of one kind on one log, and stops them and the broker at the end."""
    opened: list[Bus] = []
    if kind == "memory":
        memory = MemoryBroker(PARTITIONS)

        async def open_memory() -> Bus:
            bus = MemoryBus(memory, namespace=namespace)
            await bus.start()
            opened.append(bus)
            return bus

        yield open_memory
        return
    broker = kafka_broker(data_dir) if kind == "kafka" else EmbeddedBroker(data_dir)
    async with broker:

        async def open_kafka() -> Bus:
            bus = KafkaBus(
                broker.bootstrap, namespace=namespace, partitions=PARTITIONS, replication=1,
                idempotent=broker.idempotent, fetch_max_wait_ms=broker.fetch_max_wait_ms,
            )  # fmt: skip
            await bus.start()
            opened.append(bus)
            return bus

        try:
            yield open_kafka
        finally:
            for bus in opened:
                await bus.stop()
