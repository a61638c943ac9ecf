"""One behaviour suite for the bus port: in memory, on the embedded broker, on Apache Kafka."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import pytest
import pytest_asyncio

from streams.bus import Bus, GroupReader, Place, Reader, Start
from streams.codec import Record, decode
from streams.dead_letters import DeadLetter, dead_letter, original_headers
from streams.errors import InvalidInput, PeerUnavailable
from streams.events.turn import TurnFailed, TurnHeartbeat
from streams.topology import RECORD_SIZE_BYTES, TOPICS
from streams.writer import StageWriter
from tests.support.buses import KINDS, PARTITIONS, OpenBus, open_buses

pytestmark = pytest.mark.timeout(120)
CONVERSATION = "conv_0002" + "0" * 32


@pytest_asyncio.fixture(params=KINDS)
async def open_bus(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[OpenBus]:
    async with open_buses(request.param, tmp_path, namespace="check") as opener:
        yield opener


async def say(bus: Bus, number: int, partition: int = 1, topic: str = "events") -> int:
    return await bus.publish(topic, partition, "key", TurnHeartbeat(at_ms=number), f"t/s/1/{number}", "tester")


def numbers(records: list[Record]) -> list[int]:
    found = []
    for record in records:
        event = decode(record)
        assert isinstance(event, TurnHeartbeat)
        found.append(event.at_ms)
    return found


async def take(reader: Reader | GroupReader, count: int) -> list[Record]:
    records: list[Record] = []
    while len(records) < count:
        records.extend(await reader.batch())
    return records


async def forget_nothing(places: frozenset[Place]) -> None:
    """on_revoked of a member that has nothing to do then."""


async def begin_as_stored(places: frozenset[Place]) -> Mapping[Place, Start] | None:
    return None


async def hold(*members: GroupReader, places: int) -> None:
    """Polls all members until together they hold that many places, and no member has none."""
    while sum(len(member.assignment) for member in members) != places or not all(m.assignment for m in members):
        await asyncio.gather(*[member.batch(wait_ms=20) for member in members])


@pytest.mark.asyncio
async def test_records_positions_and_topics(open_bus: OpenBus) -> None:
    """Everything about one connection and its readers; one test, since a broker takes seconds to start."""
    bus, other = await open_bus(), await open_bus()

    # The log is one: same partitions, same epoch, all topics of the topology.
    assert bus.partitions == other.partitions == PARTITIONS
    assert bus.epoch == other.epoch
    assert 0 <= bus.epoch < 1 << 32
    await (await bus.reader("events", {1: 0})).close()  # at once, before its client has done anything
    for topic in TOPICS:
        assert await bus.partitions_of(topic.name) == (topic.partitions or PARTITIONS)

    # A record comes back whole, in order, with its offset; topics are named without the namespace.
    assert [await say(bus, number) for number in range(3)] == [0, 1, 2]
    reader = await other.reader("events", {1: "earliest"})
    records = await take(reader, 3)
    assert [(r.topic, r.partition, r.offset, r.key) for r in records] == [("events", 1, n, b"key") for n in range(3)]
    assert numbers(records) == [0, 1, 2]
    assert records[0].event_id == "t/s/1/0"
    assert records[0].source == "tester"
    assert records[0].timestamp_ms > 0
    assert (reader.position(1), await reader.start_offset(1), await reader.end_offset(1)) == (3, 0, 3)

    # Nothing there: an empty batch after the wait. A second reader has positions of its own.
    assert await reader.batch(wait_ms=20) == []
    again = await bus.reader("events", {1: 1})
    assert numbers(await take(again, 2)) == [1, 2]
    late = await bus.reader("events", {1: "latest"})
    assert late.position(1) == 3

    # Partitions are added and removed while it reads, and no position is forgotten.
    await say(bus, 3)
    await say(bus, 100, partition=2)
    await reader.add(2, "earliest")
    assert reader.partitions == {1, 2}
    assert sorted(numbers(await take(reader, 2))) == [3, 100]
    await reader.remove(1)
    await say(bus, 4)
    await say(bus, 101, partition=2)
    assert numbers(await take(reader, 1)) == [101]
    with pytest.raises(KeyError):
        reader.position(1)
    await reader.add(1, 4)
    assert numbers(await take(reader, 1)) == [4]
    await reader.add(1, 3)  # one that is read already moves
    assert numbers(await take(reader, 2)) == [3, 4]
    await reader.add_all({1: 4, 2: "earliest"})
    assert sorted(numbers(await take(reader, 3))) == [4, 100, 101]

    # A batch that is cancelled loses nothing.
    waiting = asyncio.ensure_future(reader.batch(wait_ms=5_000))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    await say(bus, 5)
    assert numbers(await take(reader, 1)) == [5]

    # Time finds offsets: the first record at or after it.
    first_ms = records[0].timestamp_ms
    assert await reader.offset_for_time(1, first_ms) == 0
    assert await reader.offset_for_time(1, first_ms + 3_600_000) is None

    # A position outside the log: what is missed is noted, and it goes on at the oldest record.
    await reader.add(1, 1_000)
    assert numbers(await take(reader, 6)) == [0, 1, 2, 3, 4, 5]
    assert [(gap.place, gap.wanted, gap.resumed_at) for gap in reader.gaps] == [(Place("events", 1), 1_000, 0)]

    # Posted records stand in the order of the posts, and each future has its own offset.
    futures = [
        await bus.post("turns", 3, "key", TurnHeartbeat(at_ms=number), str(number), "tester") for number in range(50)
    ]
    assert await asyncio.gather(*futures) == list(range(50))
    turns = await bus.reader("turns", {3: "earliest"})
    assert numbers(await take(turns, 50)) == list(range(50))

    # The limit of a topic is refused at the door, and what comes near it passes.
    huge = TurnFailed(at_ms=1, code="c", message="x" * RECORD_SIZE_BYTES)
    with pytest.raises(InvalidInput) as refused:
        await bus.publish("events", 0, "key", huge, "t/turn/1/0", "tester")
    assert refused.value.code == "record_too_large"
    large = TurnFailed(at_ms=1, code="c", message="x" * (RECORD_SIZE_BYTES - 4_096))
    assert await bus.publish("events", 0, "key", large, "t/turn/1/0", "tester") == 0
    largest = await bus.reader("events", {0: "earliest"})
    (record,) = await take(largest, 1)

    # A dead letter is the record itself with the reason beside it.
    await dead_letter(bus, record, InvalidInput("not like this", code="odd"), "tests")
    graves = await bus.reader("dead_letters", dict.fromkeys(range(4), "earliest"))
    (dead,) = await take(graves, 1)
    assert (dead.value, dead.key) == (record.value, record.key)
    assert original_headers(dead) == list(record.headers)
    letter = DeadLetter.of(dead)
    assert (letter.topic, letter.partition, letter.offset) == ("events", 0, 0)
    assert (letter.stage, letter.code, letter.fault, letter.reason) == ("tests", "odd", "caller", "not like this")
    assert "InvalidInput" in letter.trace

    # A stage's facts, written by several tasks, are dense and in order.
    writer = StageWriter(bus, CONVERSATION, "turn_x", "answer", 1, "tester")
    await asyncio.gather(*[writer.write(TurnHeartbeat(at_ms=number)) for number in range(20)])
    stage = await bus.reader("events", {2: 2})
    assert [record.event_id for record in await take(stage, 20)] == [f"turn_x/answer/1/{n}" for n in range(20)]

    # Closed is closed.
    for opened in (reader, again, late, turns, largest, graves, stage):
        await opened.close()
        await opened.close()
    with pytest.raises(PeerUnavailable):
        await reader.batch()
    await other.stop()
    with pytest.raises(PeerUnavailable):
        await say(other, 1)


@pytest.mark.asyncio
async def test_a_group_shares_partitions_and_positions(open_bus: OpenBus) -> None:
    bus, other = await open_bus(), await open_bus()
    for partition in range(PARTITIONS):
        await say(bus, partition, partition, "turns")
    story: list[str] = []

    async def assigned(places: frozenset[Place]) -> Mapping[Place, Start] | None:
        story.append(f"assigned {len(places)}")
        return {place: "latest" for place in places if place.topic == "events"}

    async def revoked(places: frozenset[Place]) -> None:
        story.append(f"revoked {len(places)}")

    await say(bus, 7, partition=0)
    first = await bus.group(["turns", "events"], "workers", assigned, revoked)
    records = await take(first, PARTITIONS)
    assert first.assignment == {Place(topic, n) for topic in ("turns", "events") for n in range(PARTITIONS)}
    assert sorted(numbers(records)) == list(range(PARTITIONS))  # from the oldest; `events` from where it was told
    assert story == ["assigned 8"]
    assert await first.committed(Place("turns", 0)) is None

    # A pause holds back at once, and a resume gives what was held back.
    paused = frozenset({Place("turns", 0)})
    first.pause(paused)
    await say(bus, 10, 0, "turns")
    await say(bus, 11, 1, "turns")
    assert numbers(await take(first, 1)) == [11]
    assert await first.batch(wait_ms=50) == []
    first.resume(paused)
    assert numbers(await take(first, 1)) == [10]

    # A seek moves, and what had been fetched for the old position is not given out.
    await first.seek(Place("turns", 0), 0)
    assert numbers(await take(first, 2)) == [0, 10]
    assert first.position(Place("turns", 0)) == 2
    assert await first.end_offset(Place("turns", 0)) == 2

    # So does a seek while a poll waits: what that poll brings stands at the new offset, and all of it is given out.
    assert await first.batch(wait_ms=1) == []
    await first.seek(Place("turns", 0), 0)
    assert numbers(await take(first, 2)) == [0, 10]

    # Commits are kept for places that are held, whoever asks later.
    await first.commit({Place("turns", n): 1 for n in range(PARTITIONS)} | {Place("calls", 0): 9})
    assert await first.committed(Place("turns", 0)) == 1

    # Range: the topics are split alike, so a partition of both is with the same member.
    second = await other.group(["turns", "events"], "workers", begin_as_stored, forget_nothing)
    await hold(first, second, places=2 * PARTITIONS)
    for member in (first, second):
        by_topic = {
            topic: {place.partition for place in member.assignment if place.topic == topic}
            for topic in ("turns", "events")
        }
        assert by_topic["turns"] == by_topic["events"]
        assert len(by_topic["turns"]) == PARTITIONS // 2
    assert first.assignment.isdisjoint(second.assignment)
    assert story[:3] == ["assigned 8", "revoked 8", "assigned 4"]

    # A commit of a place that is not held is left out; a clean leave gives everything to the other.
    stranger = next(iter(second.assignment))
    await first.commit({stranger: 77})
    await first.close()
    await first.close()
    assert story[-1] == "revoked 4"
    await hold(second, places=2 * PARTITIONS)
    assert await second.committed(stranger) != 77
    assert await second.committed(Place("turns", 1)) == 1
    await second.seek(Place("turns", 1), 1)
    again: list[int] = []
    while 11 not in again:
        again.extend(numbers(await second.batch()))
    await second.rebuild()
    await hold(second, places=2 * PARTITIONS)
    await second.close()
    with pytest.raises(PeerUnavailable):
        await second.batch()
