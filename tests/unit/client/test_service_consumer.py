"""What a service commits when: by the order in which records are finished."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aiokafka import TopicPartition
from faststream.kafka import KafkaBroker, TestKafkaBroker

from headstart.service_consumer import Consumer, Delivery

pytestmark = pytest.mark.asyncio
PLACE = TopicPartition("calls", 0)


class Working:
    """A consumer whose records are finished when the test says so."""

    def __init__(self, broker: KafkaBroker, concurrency: int) -> None:
        self.begun: list[str] = []
        self.claimed: list[str] = []
        self._gates: dict[str, asyncio.Event] = {}
        self.consumer = Consumer(broker, "calls", "group", self._take, concurrency=concurrency)

    async def _take(self, delivery: Delivery) -> None:
        name = delivery.record.value.decode()
        self.begun.append(name)
        if name.startswith("once"):
            assert await delivery.claim()
            self.claimed.append(name)
        await self._gates.setdefault(name, asyncio.Event()).wait()

    async def finish(self, name: str) -> None:
        self._gates.setdefault(name, asyncio.Event()).set()
        for _ in range(5):
            await asyncio.sleep(0)

    @property
    def unfinished(self) -> int:
        return len(self.consumer._lanes[PLACE]._begun)


async def test_a_partition_is_done_up_to_its_first_unfinished_record() -> None:
    broker = KafkaBroker("memory:9092", apply_types=False, logger=None)
    async with TestKafkaBroker(broker, connect_only=True) as test_broker:
        working = Working(test_broker, 3)
        await test_broker.start()
        for name in ("a", "b", "c"):
            _ = await test_broker.publish(name.encode(), "calls", partition=0)
        await working.finish("c")
        assert (working.begun, working.unfinished) == (["a", "b", "c"], 3)
        await working.finish("a")
        assert working.unfinished == 2
        await working.finish("b")
        assert working.unfinished == 0
        await working.consumer.stop()


async def test_what_may_be_taken_once_waits_for_all_before_it() -> None:
    broker = KafkaBroker("memory:9092", apply_types=False, logger=None)
    async with TestKafkaBroker(broker, connect_only=True) as test_broker:
        working = Working(test_broker, 4)
        await test_broker.start()
        for name in ("a", "once b", "c"):
            _ = await test_broker.publish(name.encode(), "calls", partition=0)
        await working.finish("c")
        assert (working.begun, working.claimed) == (["a", "once b", "c"], [])
        await working.finish("a")
        assert working.claimed == ["once b"]
        await working.finish("once b")
        assert working.unfinished == 0
        await working.consumer.stop()


async def test_one_at_a_time_is_strictly_in_order_and_a_full_house_holds_the_next() -> None:
    broker = KafkaBroker("memory:9092", apply_types=False, logger=None)
    async with TestKafkaBroker(broker, connect_only=True) as test_broker:
        working = Working(test_broker, 1)
        await test_broker.start()
        coming: list[asyncio.Task[Any]] = [
            asyncio.create_task(test_broker.publish(name.encode(), "calls", partition=0)) for name in ("a", "b")
        ]
        for _ in range(20):
            await asyncio.sleep(0)
        assert working.begun == ["a"]
        await working.finish("a")
        await working.finish("b")
        await asyncio.gather(*coming)
        assert (working.begun, working.unfinished) == (["a", "b"], 0)
        await working.consumer.stop()


async def test_a_record_whose_work_raised_stays_unfinished() -> None:
    broker = KafkaBroker("memory:9092", apply_types=False, logger=None)

    async def fail(delivery: Delivery) -> None:
        raise RuntimeError("no")

    async with TestKafkaBroker(broker, connect_only=True) as test_broker:
        consumer = Consumer(test_broker, "calls", "group", fail)
        await test_broker.start()
        _ = await test_broker.publish(b"a", "calls", partition=0)
        await asyncio.sleep(0)
        assert len(consumer._lanes[PLACE]._begun) == 1
        await consumer.stop()
