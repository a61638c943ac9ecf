"""Our consumer of the comparison, as a process: `python -m tests.bench.gateway.consumer_lanes TASK`."""

from __future__ import annotations

import asyncio
import os
import sys

import msgspec

from streams.codec import Record
from streams.kafka_bus import KafkaBus
from streams.lanes import Lanes, LaneWork
from streams.process import new_event_loop
from streams.settings import Settings
from streams.topology import EVENTS
from tests.bench.gateway.consumed import Handler, Task


class Work(LaneWork):
    """quickly: as a step that has nothing to wait for; else as one that may, which gets a task of its own."""

    def __init__(self, handler: Handler, quickly: bool) -> None:
        self.handler = handler
        self.quickly = quickly
        self.done = asyncio.Event()

    def quick(self, record: Record) -> bool:
        if self.quickly:
            self._handle(record)
        return self.quickly

    async def handle(self, record: Record) -> None:
        self._handle(record)

    def _handle(self, record: Record) -> None:
        if not self.done.is_set() and self.handler.handle(record):
            self.handler.say()
            self.done.set()


async def consume(task: Task) -> None:
    bus = KafkaBus.from_settings(Settings.from_env(os.environ), namespace=task.namespace, client="bench-lanes")
    await bus.start()
    work = Work(Handler(task), task.kind == "quick")
    lanes = Lanes(bus, [EVENTS.name], task.kind, work, stage="bench")
    running = asyncio.create_task(lanes.run())
    try:
        await asyncio.wait([running, asyncio.ensure_future(work.done.wait())], return_when=asyncio.FIRST_COMPLETED)
        lanes.stop()
        await running
    finally:
        await bus.stop()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(consume(msgspec.json.decode(sys.argv[1], type=Task)))
