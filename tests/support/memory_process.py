"""`python -m tests.support.memory_process KAFKA POSTGRES IDEMPOTENT WAIT_MS`: a memory worker as a process of its own.

It is the worker of `python -m workers memory` with an embedder that needs no model, so that it starts at once.
"""

from __future__ import annotations

import asyncio
import sys

from memory.embed import HashEmbedder
from memory.postgres import PostgresStore
from streams.kafka_bus import KafkaBus
from workers.remembering.worker import MemoryWorker

DIMENSIONS = 64


async def work(kafka: str, postgres: str, idempotent: bool, fetch_max_wait_ms: int) -> None:
    """Works until the process is ended."""
    bus = KafkaBus(kafka, idempotent=idempotent, fetch_max_wait_ms=fetch_max_wait_ms)
    store = PostgresStore(postgres, DIMENSIONS)
    await store.open()
    await bus.start()
    store.follow(bus.epoch)
    worker = MemoryWorker(bus, store, HashEmbedder(DIMENSIONS))
    await worker.start()
    await worker.failed()


if __name__ == "__main__":
    asyncio.run(work(sys.argv[1], sys.argv[2], sys.argv[3] == "True", int(sys.argv[4])))
