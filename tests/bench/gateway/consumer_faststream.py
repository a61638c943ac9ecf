"""FastStream's consumers of the comparison, as a process: `python -m tests.bench.gateway.consumer_faststream TASK`.

The decoder gives the bytes as they are, so that FastStream parses no JSON that the handler parses again.
"""

from __future__ import annotations

import asyncio
import os
import sys
from typing import Any

import msgspec
import uvloop
from aiokafka import ConsumerRecord
from faststream import AckPolicy, Context
from faststream.kafka import KafkaBroker

from streams.codec import Record
from tests.bench.gateway.consumed import Handler, Task

TOPIC = "events"
BATCH = 500
RAW = Context("message.raw_message")


def record_of(message: ConsumerRecord) -> Record:
    return Record(
        TOPIC, message.partition, message.offset, message.timestamp, message.key, message.headers, message.value or b""
    )


async def as_it_is(message: Any) -> Any:
    return message.body


async def consume(task: Task) -> None:
    broker = KafkaBroker(os.environ["HEADSTART_KAFKA"], logger=None, decoder=as_it_is)
    handler, done = Handler(task), asyncio.Event()

    def handle(message: ConsumerRecord) -> None:
        if not done.is_set() and handler.handle(record_of(message)):
            handler.say()
            done.set()

    promise: dict[str, Any] = {"group_id": task.kind, "auto_offset_reset": "earliest"}
    if not task.kind.endswith("default"):
        promise["ack_policy"] = AckPolicy.NACK_ON_ERROR
    topic = f"{task.namespace}.{TOPIC}"
    in_batches = task.kind.startswith("batch")
    if in_batches:
        promise |= {"batch": True, "max_records": BATCH}

    async def each(body: Any, raw: Any = RAW) -> None:
        for message in raw if in_batches else (raw,):
            handle(message)

    broker.subscriber(topic, **promise)(each)
    await broker.start()
    await done.wait()
    await broker.stop()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(consume(msgspec.json.decode(sys.argv[1], type=Task)))
