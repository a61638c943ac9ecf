"""Lanes on a log in memory: order, commits, pressure, dead letters, rebalances, stopping."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from streams.bus import Place, Start
from streams.codec import Record, decode
from streams.dead_letters import DeadLetter
from streams.errors import InvalidInput, PeerUnavailable
from streams.events.turn import TurnHeartbeat
from streams.lanes import Lanes, LaneWork
from streams.memory_bus import MemoryBroker, MemoryBus
from streams.retry import Backoff
from streams.topology import DEAD_LETTERS

QUICK = Backoff(first_ms=0.1, limit_ms=0.1, least_ms=0.0, attempts=3)


class Work(LaneWork):
    """Notes what it does; keys in `held` wait for their event."""

    def __init__(self) -> None:
        self.begun: list[tuple[str, int]] = []
        self.done: list[tuple[str, int]] = []
        self.held: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)
        self.waits: set[str] = set()
        self.fails: dict[int, list[Exception]] = {}
        self.gains: list[frozenset[Place]] = []
        self.losses: list[frozenset[Place]] = []
        self.starts: dict[Place, Start] = {}
        self.floors: dict[Place, int] = {}
        self.changed = asyncio.Event()

    async def handle(self, record: Record) -> None:
        event = decode(record)
        assert isinstance(event, TurnHeartbeat)
        key = (record.key or b"").decode()
        self.begun.append((key, event.at_ms))
        self.changed.set()
        if key in self.waits:
            await self.held[key].wait()
        if self.fails.get(event.at_ms):
            raise self.fails[event.at_ms].pop(0)
        self.done.append((key, event.at_ms))
        self.changed.set()

    def urgent(self, record: Record) -> bool:
        return record.event_id == "urgent"

    def floor(self, place: Place) -> int | None:
        return self.floors.get(place)

    async def gained(self, places: frozenset[Place]) -> Mapping[Place, Start]:
        self.gains.append(places)
        self.changed.set()
        return {place: start for place, start in self.starts.items() if place in places}

    async def lost(self, places: frozenset[Place]) -> None:
        self.losses.append(places)

    async def until(self, true: Callable[[], bool]) -> None:
        while not true():
            self.changed.clear()
            await self.changed.wait()


class Bench:
    """A bus, its lanes and their task."""

    def __init__(self, broker: MemoryBroker | None = None, **options: Any) -> None:
        self.bus = MemoryBus(broker or MemoryBroker(2))
        self.work = Work()
        self.lanes = Lanes(self.bus, ["turns"], "group", self.work, stage="tests", backoff=QUICK, **options)
        self.task: asyncio.Task[None] | None = None

    async def start(self) -> Bench:
        await self.bus.start()
        self.task = asyncio.create_task(self.lanes.run(drain_ms=1_000))
        await self.work.until(lambda: bool(self.work.gains))
        return self

    async def say(self, number: int, key: str = "k", partition: int = 0, event_id: str = "") -> None:
        await self.bus.publish("turns", partition, key, TurnHeartbeat(at_ms=number), event_id or str(number), "test")

    def committed(self, partition: int = 0) -> int | None:
        return self.bus.broker.commits.get(("group", "turns", partition))

    async def stop(self) -> None:
        self.lanes.stop()
        assert self.task is not None
        await self.task


@pytest.mark.asyncio
async def test_one_key_in_order_many_keys_side_by_side() -> None:
    bench = await Bench().start()
    bench.work.waits = {"slow"}
    await bench.say(1, "slow")
    await bench.say(2, "slow")
    await bench.say(3, "quick")
    await bench.say(4, "quick")
    await bench.work.until(lambda: ("quick", 4) in bench.work.done)
    assert bench.work.begun == [("slow", 1), ("quick", 3), ("quick", 4)]
    bench.work.held["slow"].set()
    await bench.work.until(lambda: ("slow", 2) in bench.work.done)
    await bench.lanes.idle()
    await bench.stop()
    assert bench.committed() == 4


@pytest.mark.asyncio
async def test_commits_stop_before_what_is_not_done_and_at_the_floor() -> None:
    bench = await Bench(commit_ms=0).start()
    bench.work.waits = {"slow"}
    bench.work.floors = {Place("turns", 1): 1}
    for number in range(3):
        await bench.say(number, "quick")
        await bench.say(100 + number, "other", partition=1)
    await bench.say(3, "slow")
    await bench.say(4, "quick")
    await bench.work.until(lambda: len(bench.work.done) == 7)
    bench.task.cancel()  # type: ignore[union-attr]
    await asyncio.gather(bench.task, return_exceptions=True)  # type: ignore[arg-type]
    assert bench.committed(0) == 3
    assert bench.committed(1) == 1
    assert ("slow", 3) not in bench.work.done


@pytest.mark.asyncio
async def test_what_is_urgent_does_not_queue() -> None:
    bench = await Bench(at_once=1).start()
    bench.work.waits = {"k"}
    await bench.say(1)
    await bench.work.until(lambda: len(bench.work.begun) == 1)
    await bench.say(2, "other")
    await bench.say(3, "now", event_id="urgent")
    await bench.work.until(lambda: ("now", 3) in bench.work.done)
    assert ("other", 2) not in bench.work.begun
    bench.work.held["k"].set()
    await bench.work.until(lambda: len(bench.work.done) == 3)
    await bench.stop()


@pytest.mark.asyncio
async def test_pressure_pauses_a_partition_and_relief_resumes_it() -> None:
    bench = await Bench(high=10, low=4).start()
    bench.work.waits = {"k"}
    for number in range(700):  # more than one batch
        await bench.say(number)
    await bench.say(1_000, "other", partition=1)
    await bench.work.until(lambda: ("other", 1_000) in bench.work.done)
    assert bench.lanes.waiting < 700
    bench.work.held["k"].set()
    await bench.work.until(lambda: len(bench.work.done) == 701)
    await bench.stop()
    assert [number for key, number in bench.work.done if key == "k"] == list(range(700))
    assert bench.committed() == 700


@pytest.mark.asyncio
async def test_poison_is_set_aside_and_its_lane_goes_on() -> None:
    bench = await Bench().start()
    bench.work.fails = {1: [InvalidInput("not like this", code="odd")], 2: [ZeroDivisionError("a defect")]}
    for number in range(4):
        await bench.say(number)
    await bench.work.until(lambda: ("k", 3) in bench.work.done)
    await bench.lanes.idle()
    await bench.stop()
    assert [number for _, number in bench.work.done] == [0, 3]
    assert bench.committed() == 4
    reader = await bench.bus.reader(DEAD_LETTERS.name, {0: "earliest"})
    letters = [DeadLetter.of(record) for record in await reader.batch()]
    assert [(letter.offset, letter.code, letter.stage) for letter in letters] == [
        (1, "odd", "tests"),
        (2, "defect", "tests"),
    ]
    assert "ZeroDivisionError" in letters[1].trace
    assert bench.lanes.dead_letters == 2


@pytest.mark.asyncio
async def test_a_peer_that_fails_is_asked_again_and_holds_up_its_lane_only() -> None:
    bench = await Bench().start()
    away = [PeerUnavailable("away"), PeerUnavailable("away")]
    bench.work.fails = {1: list(away), 2: [*away, PeerUnavailable("away for good")]}
    await bench.say(1)
    await bench.say(2)
    await bench.say(3, "other")
    await bench.work.until(lambda: ("other", 3) in bench.work.done)
    await bench.lanes.idle()
    await bench.stop()
    assert ("k", 1) in bench.work.done
    assert ("k", 2) not in bench.work.done
    assert (bench.lanes.retries, bench.lanes.dead_letters) == (4, 1)


@pytest.mark.asyncio
async def test_a_record_is_not_done_before_its_dead_letter_is_kept() -> None:
    bench = await Bench(commit_ms=0).start()
    bench.work.fails = {1: [InvalidInput("no")]}
    bench.work.waits = {"k"}
    await bench.say(1)
    await bench.work.until(lambda: len(bench.work.begun) == 1)
    bench.bus.broker.refuse = 2
    bench.work.held["k"].set()
    await bench.lanes.idle()
    await bench.stop()
    assert bench.lanes.dead_letters == 1
    assert bench.committed() == 1


@pytest.mark.asyncio
async def test_work_survives_a_rebalance_that_gives_the_partition_back() -> None:
    broker = MemoryBroker(2)
    bench = await Bench(broker).start()
    bench.work.waits = {"a"}
    await bench.say(1, "a", partition=0)
    await bench.say(2, "a", partition=0)
    await bench.say(3, "b", partition=1)
    await bench.work.until(lambda: ("b", 3) in bench.work.done)
    second = await Bench(broker).start()  # takes partition 1
    assert bench.lanes.assignment == {Place("turns", 0)}
    assert bench.work.losses == [frozenset({Place("turns", 1)})]
    bench.work.held["a"].set()
    await bench.work.until(lambda: ("a", 2) in bench.work.done)
    await second.say(4, "b", partition=1)
    await second.work.until(lambda: ("b", 4) in second.work.done)
    await second.stop()
    await bench.say(5, "b", partition=1)
    await bench.work.until(lambda: ("b", 5) in bench.work.done)
    await bench.stop()
    assert [number for _, number in bench.work.begun] == [1, 3, 2, 5]  # nothing twice
    assert second.work.done == [("b", 4)]  # 3 was committed when it was taken away
    assert (bench.committed(0), bench.committed(1)) == (2, 3)


@pytest.mark.asyncio
async def test_queued_work_of_a_lost_partition_is_left_to_its_new_owner() -> None:
    broker = MemoryBroker(2)
    bench = await Bench(broker).start()
    bench.work.waits = {"b"}
    for number in range(3):
        await bench.say(number, "b", partition=1)
    await bench.work.until(lambda: len(bench.work.begun) == 1)
    second = await Bench(broker).start()
    await second.work.until(lambda: len(second.work.done) == 3)
    bench.work.held["b"].set()
    await bench.work.until(lambda: len(bench.work.done) == 1)  # what ran goes on to its end
    assert bench.lanes.waiting == 0
    await bench.stop()
    await second.stop()
    assert [number for _, number in second.work.done] == [0, 1, 2]
    assert [number for _, number in bench.work.begun] == [0]


@pytest.mark.asyncio
async def test_a_partition_that_was_with_another_begins_at_the_stored_position() -> None:
    broker = MemoryBroker(2)
    bench = await Bench(broker).start()
    bench.work.waits = {"k"}
    for number in range(3):
        await bench.say(number)
    await bench.work.until(lambda: len(bench.work.begun) == 1)

    def pass_by(members: dict[str, Any]) -> None:
        broker.commits["group", "turns", 0] = 2  # another member had it, and got further

    await broker.rebalance("group", pass_by)
    bench.work.waits = set()
    bench.work.held["k"].set()
    await bench.work.until(lambda: ("k", 2) in bench.work.done)
    await bench.stop()
    assert [number for _, number in bench.work.begun] == [0, 2]
    assert bench.work.losses == [frozenset({Place("turns", 0)})]


@pytest.mark.asyncio
async def test_the_work_says_where_to_begin() -> None:
    bench = Bench()
    await bench.bus.start()
    for number in range(5):
        await bench.say(number)
    bench.work.starts = {Place("turns", 0): 3}
    await bench.start()
    await bench.work.until(lambda: len(bench.work.done) == 2)
    await bench.stop()
    assert [number for _, number in bench.work.done] == [3, 4]


@pytest.mark.asyncio
async def test_a_stop_lets_running_steps_end_and_starts_nothing() -> None:
    bench = await Bench(at_once=1).start()
    bench.work.waits = {"k"}
    await bench.say(1)
    await bench.say(2)
    await bench.work.until(lambda: len(bench.work.begun) == 1)
    bench.lanes.stop()
    bench.work.held["k"].set()
    await bench.stop()
    assert bench.work.done == [("k", 1)]
    assert bench.committed() == 1
    assert bench.bus.broker.members["group"] == {}


@pytest.mark.asyncio
async def test_a_step_that_does_not_end_is_cancelled_and_not_committed() -> None:
    bench = Bench()
    await bench.bus.start()
    bench.work.waits = {"k"}
    bench.task = asyncio.create_task(bench.lanes.run(drain_ms=1))
    await bench.say(1)
    await bench.work.until(lambda: len(bench.work.begun) == 1)
    await bench.stop()
    assert bench.work.done == []
    assert bench.committed() is None
    assert bench.lanes.running == 0


class QuickWork(Work):
    """Does what is not held where it is read; numbers in `trips` fail there."""

    def __init__(self) -> None:
        super().__init__()
        self.quickly: list[int] = []
        self.trips: set[int] = set()

    def quick(self, record: Record) -> bool:
        event = decode(record)
        assert isinstance(event, TurnHeartbeat)
        key = (record.key or b"").decode()
        if event.at_ms in self.trips:
            raise InvalidInput("not here")
        if key in self.waits:
            return False
        self.quickly.append(event.at_ms)
        self.done.append((key, event.at_ms))
        self.changed.set()
        return True


async def quick_bench(work: QuickWork, **options: Any) -> Bench:
    bench = Bench(**options)
    bench.work = work
    bench.lanes = Lanes(bench.bus, ["turns"], "group", work, stage="tests", backoff=QUICK, **options)
    return await bench.start()


@pytest.mark.asyncio
async def test_a_quick_step_never_overtakes_its_lane() -> None:
    work = QuickWork()
    bench = await quick_bench(work)
    work.waits = {"slow"}
    await bench.say(1, "slow")
    await work.until(lambda: ("slow", 1) in work.begun)
    work.waits = set()
    await bench.say(2, "slow")
    await bench.say(3, "other")
    await work.until(lambda: ("other", 3) in work.done)
    assert work.quickly == [3]
    work.held["slow"].set()
    await work.until(lambda: ("slow", 2) in work.done)
    await bench.say(4, "slow")
    await work.until(lambda: ("slow", 4) in work.done)
    await bench.stop()
    assert [number for key, number in work.done if key == "slow"] == [1, 2, 4]
    assert work.quickly == [3, 4]
    assert bench.committed() == 4


@pytest.mark.asyncio
async def test_a_quick_step_that_fails_is_left_to_handle() -> None:
    work = QuickWork()
    work.trips, work.fails = {1, 2}, {2: [InvalidInput("never")]}
    bench = await quick_bench(work)
    await bench.say(1)
    await bench.say(2)
    await bench.say(3)
    await work.until(lambda: ("k", 3) in work.done)
    await bench.lanes.idle()
    await bench.stop()
    assert [number for _, number in work.done] == [1, 3]
    assert bench.lanes.dead_letters == 1
    assert bench.committed() == 3


@pytest.mark.asyncio
async def test_an_urgent_quick_step_does_not_wait_for_its_lane() -> None:
    work = QuickWork()
    bench = await quick_bench(work)
    work.waits = {"k"}
    await bench.say(1)
    await work.until(lambda: ("k", 1) in work.begun)
    work.waits = set()
    await bench.say(2, event_id="urgent")
    await work.until(lambda: ("k", 2) in work.done)
    assert work.quickly == [2]
    work.held["k"].set()
    await bench.stop()
    assert bench.committed() == 2
