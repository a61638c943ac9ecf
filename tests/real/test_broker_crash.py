"""Apache Kafka is killed and comes back while facts are written and read: none lost, order kept, repeats fenced."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path

import pytest

from streams.bus import Place, Start
from streams.codec import Record, decode, identity
from streams.events.turn import TurnHeartbeat
from streams.fence import Fence
from streams.kafka_bus import KafkaBus
from streams.writer import StageWriter
from tests.support.buses import kafka_broker

CONVERSATION = "conv_0001" + "0" * 32
FACTS = 600

pytestmark = [pytest.mark.kafka, pytest.mark.slow, pytest.mark.timeout(180)]


@pytest.mark.asyncio
async def test_a_broker_that_is_killed_while_facts_are_written(tmp_path: Path) -> None:
    async with kafka_broker(tmp_path) as broker:
        bus = KafkaBus(broker.bootstrap, partitions=4, replication=1, idempotent=broker.idempotent)
        await bus.start()
        reader = await bus.reader("events", {1: "earliest"})

        async def assigned(places: frozenset[Place]) -> Mapping[Place, Start] | None:
            return None

        async def revoked(places: frozenset[Place]) -> None:
            return None

        member = await bus.group(["events"], "watchers", assigned, revoked)
        followed: list[Record] = []
        shared: list[Record] = []
        enough = asyncio.Event()

        async def follow() -> None:
            while len({record.event_id for record in followed}) < FACTS:
                followed.extend(await reader.batch())
            enough.set()

        async def share() -> None:
            while len({record.event_id for record in shared}) < FACTS:
                shared.extend(await member.batch())

        following, sharing = asyncio.create_task(follow()), asyncio.create_task(share())
        writer = StageWriter(bus, CONVERSATION, "turn_x", "answer", 1, "generation/a")
        posted = []
        for number in range(FACTS):
            posted.append(await writer.post(TurnHeartbeat(at_ms=number)))
            if number == FACTS // 3:
                await posted[-1]
                broker.kill()
                await broker.stop()
            if number == 2 * FACTS // 3:
                await broker.start()
            await asyncio.sleep(0)
        offsets = await asyncio.gather(*posted)
        assert offsets == sorted(offsets)
        await asyncio.gather(following, sharing)
        for seen in (followed, shared):
            fence = Fence()
            counted = [
                event.at_ms
                for record in seen
                if fence.judge(identity(record), record.source, record.type) == "counts"
                and isinstance(event := decode(record), TurnHeartbeat)
            ]
            assert counted == list(range(FACTS))
            assert fence.dropped["gap"] == fence.dropped["fenced"] == 0
        assert reader.gaps == []
        await reader.close()
        await member.close()
        await bus.stop()
