"""Progress, not a living task, is health: who has lag and makes none is rebuilt, and meanwhile the doors say so."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import pytest

from memory.embed import HashEmbedder
from memory.memory_store import MemoryStore
from streams import ids
from streams.bus import Reader, Start
from streams.codec import Record
from streams.errors import PeerUnavailable
from streams.events.intake import TurnCancel
from streams.events.registering import WorkerAlive
from streams.following import WorkersFollower
from streams.memory_bus import MemoryBroker, MemoryBus
from streams.progress import STALL_MS, Progress
from streams.pulse import QUIET_MS
from streams.settings import Settings
from streams.topology import TURNS, WORKERS
from tests.support.gateways import PATIENCE_S, Rig, text_of
from tests.support.generations import HandClock, ask, make_worker, read_until, request, seen
from workers.generation.engine import EngineUnavailable
from workers.generation.scripted_engine import ScriptedEngine
from workers.planning.holding import HeldPartition
from workers.planning.worker import TurnsWorker

WATCH_MS = 5


class DeafBus(MemoryBus):
    """Readers of `events` opened while `deaf` never give a record again, though they are asked and answer."""

    deaf = False
    broken = False

    async def reader(self, topic: str, start: Mapping[int, Start], *, gather_ms: int = 0) -> Reader:  # type: ignore[override]
        made: Reader = await super().reader(topic, start)
        batch, deaf = made.batch, self.deaf

        async def heard(max_records: int = 500, wait_ms: int = 500) -> list[Record]:
            if self.broken and start:
                raise ZeroDivisionError("a defect of the client")
            if deaf and len(start) > 1:  # the one that follows the live log
                await asyncio.sleep(0)
                return []
            return await batch(max_records, wait_ms)

        made.batch = heard  # type: ignore[method-assign]
        return made


@pytest.mark.asyncio
async def test_a_reader_that_hears_nothing_is_rebuilt_and_the_doors_say_so() -> None:
    buses: list[DeafBus] = []
    broker = MemoryBroker(4)

    async def open_bus() -> DeafBus:
        bus = DeafBus(broker)
        bus.deaf = len(buses) == 1  # the gateway's; the rig's own comes first
        await bus.start()
        buses.append(bus)
        return bus

    async with Rig(open_bus=open_bus) as rig, asyncio.timeout(PATIENCE_S):
        gateway = await rig.gateway()
        feed = gateway.services.feed
        # Looked after often from its next look on; that one is made to come now.
        watch = feed._tasks[1]
        watch.cancel()
        feed._watch_ms = WATCH_MS
        feed._tasks[1] = asyncio.create_task(feed._watch())
        async with rig.socket(gateway) as socket, rig.http(gateway) as http:
            await socket.create("is anybody there?")
            while feed.healthy() or feed.rebuilt < 3:  # noqa: ASYNC110 - the watch has no event for it
                await asyncio.sleep(0.001)
            health, ready = await http.get("/healthz"), await http.get("/readyz")
            assert (health.status_code, health.json()["status"]) == (503, "stuck")
            assert (ready.status_code, ready.json()["failing"]) == (503, ["log"])
            buses[1].deaf = False  # the next one that is opened hears
            assert text_of(await socket.until_end()) == "is anybody there?"
            assert feed.rebuilt > 0
            while not feed.healthy():  # noqa: ASYNC110 - as above
                await asyncio.sleep(0.001)
            assert (await http.get("/readyz")).status_code == 200


@pytest.mark.asyncio
async def test_a_reader_that_fails_in_a_way_nobody_knows_does_not_leave_the_gateway_deaf() -> None:
    buses: list[DeafBus] = []
    broker = MemoryBroker(4)

    async def open_bus() -> DeafBus:
        bus = DeafBus(broker)
        await bus.start()
        buses.append(bus)
        return bus

    async with Rig(open_bus=open_bus) as rig, asyncio.timeout(PATIENCE_S):
        gateway = await rig.gateway()
        buses[1].broken = True
        while not gateway.services.feed.rebuilt:  # noqa: ASYNC110 - as above
            await asyncio.sleep(0.001)
        buses[1].broken = False
        async with rig.socket(gateway) as socket:
            await socket.create("still here")
            assert text_of(await socket.until_end()) == "still here"


@pytest.mark.asyncio
@pytest.mark.parametrize("error", [ZeroDivisionError("a defect"), PeerUnavailable("the broker is away")])
async def test_workers_are_heard_again_after_a_read_that_failed(error: Exception) -> None:
    bus = MemoryBus(MemoryBroker(2))
    await bus.start()
    heard: asyncio.Queue[WorkerAlive] = asyncio.Queue()
    follower = WorkersFollower(bus, heard.put_nowait, gather_ms=0, retry_s=0)
    await follower.start()
    reader, failed = follower._reader, asyncio.Event()
    assert reader is not None
    batch = reader.batch

    async def once(max_records: int = 500, wait_ms: int = 500) -> list[Record]:
        reader.batch = batch  # type: ignore[method-assign]
        failed.set()
        raise error

    async def say(number: int) -> None:
        alive = WorkerAlive(worker="turns/1", stage="turns", at_ms=number)
        await bus.publish(WORKERS.name, 0, alive.worker, alive, f"turns/1/{number}", alive.worker)

    async with asyncio.timeout(PATIENCE_S):
        reader.batch = once  # type: ignore[method-assign]
        await say(1)
        await failed.wait()
        await say(2)
        assert [(await heard.get()).at_ms for _ in range(2)] == [1, 2]
        await follower.stop()
        await follower.stop()


@pytest.mark.asyncio
async def test_a_generation_worker_ends_with_its_engine() -> None:
    """It would take every request otherwise: whoever places them sees a worker with nothing to do."""

    class Mortal(ScriptedEngine):
        why = ""

        def broken(self) -> str:
            return self.why

    bus = MemoryBus(MemoryBroker(2))
    await bus.start()
    engine = Mortal(lambda _: "text")
    worker = await make_worker(bus, engine, HandClock())
    async with asyncio.timeout(PATIENCE_S):
        ended = asyncio.create_task(worker.failed())
        await ask(bus, request())
        await read_until(bus, seen("answer.finished"))
        assert not ended.done()
        engine.why = "its process was killed"
        with pytest.raises(EngineUnavailable, match="its process was killed") as caught:
            await ended
        assert (caught.value.code, caught.value.facts["model"]) == ("engine_broken", "default")
        await worker.stop(0)


@pytest.mark.asyncio
async def test_a_turns_worker_whose_loop_stands_still_is_silent_until_it_moves() -> None:
    """One record is never done with: its task lives, its event loop turns, and nothing is taken."""
    now_ms = 0.0
    bus, store = MemoryBus(MemoryBroker(2)), MemoryStore(dimensions=HashEmbedder().dimensions)
    await bus.start()
    await store.open()
    store.follow(bus.epoch)
    settings = Settings.from_env({"HEADSTART_DEV": "true"})
    worker = TurnsWorker(bus, store, HashEmbedder(), settings, clock_ms=lambda: now_ms)
    liveness = worker._liveness
    liveness._period_ms = 1e9  # asked here, and not by its own timer
    signs = await bus.reader(WORKERS.name, {0: "latest"})
    entered, released = asyncio.Event(), asyncio.Event()

    async def take(partition: HeldPartition, record: Record) -> None:
        entered.set()
        await released.wait()

    async def send(number: int) -> None:
        conversation = ids.conversation_id(1, 1_000, number.to_bytes(10, "big"))
        cancel = TurnCancel(turn=ids.turn_id(conversation, 2_000, bytes(10)), tenant="acme", user="ada", at_ms=2_000)
        await bus.publish(TURNS.name, 1, conversation, cancel, f"cancel-{number}", "gateway/test")

    async with asyncio.timeout(PATIENCE_S):
        await worker.start()
        try:
            assert len(await signs.batch()) == 1
            assert worker.owner is not None
            worker.owner._intake.take = take  # type: ignore[method-assign]
            now_ms += QUIET_MS + 1
            await send(1)
            await entered.wait()
            for _ in range(100):
                await asyncio.sleep(0)
            assert not await liveness.look()
            assert await signs.batch(wait_ms=0) == []
            released.set()
            while not await liveness.look():  # noqa: ASYNC110 - as above
                await asyncio.sleep(0)
            assert len(await signs.batch()) == 1
            for number in range(2, 5):  # and a clock that has gone on is no illness while the loop comes round
                now_ms += QUIET_MS + 1
                await send(number)
                while not await liveness.look():  # noqa: ASYNC110 - as above
                    await asyncio.sleep(0)
        finally:
            await worker.stop()


@pytest.mark.asyncio
async def test_a_generation_worker_whose_reader_gets_nothing_is_silent() -> None:
    bus = MemoryBus(MemoryBroker(2))
    await bus.start()
    engine = ScriptedEngine(lambda _: "text")
    async with asyncio.timeout(PATIENCE_S):
        worker = await make_worker(bus, engine, HandClock())
        while (group := worker._lanes._group) is None:  # noqa: ASYNC110 - as above
            await asyncio.sleep(0)
        assert await worker._liveness.look()
        group.stalled = True  # type: ignore[misc]
        assert not await worker._liveness.look()
        group.stalled = False  # type: ignore[misc]
        assert await worker._liveness.look()
        await worker.stop(0)


def test_lag_without_progress_twice_means_that_a_reader_is_stuck() -> None:
    progress = Progress()
    assert not progress.polled(0, 5)
    assert not progress.polled(STALL_MS - 1, 0)
    assert progress.polled(STALL_MS, 0)  # time to ask how far the log goes
    assert not progress.compared(STALL_MS, 7)  # lag once may be records on their way
    assert not progress.polled(STALL_MS + 1, 0)
    assert progress.polled(2 * STALL_MS, 0)
    assert progress.compared(2 * STALL_MS, 7)


@pytest.mark.parametrize("between", [(0, 0), (3, None)])
def test_what_is_no_lag_and_what_is_progress_begin_anew(between: tuple[int, int | None]) -> None:
    records, lag = between
    progress = Progress()
    progress.polled(0, 1)
    assert progress.polled(STALL_MS, 0)
    assert not progress.compared(STALL_MS, 7)
    if records:
        assert not progress.polled(STALL_MS + 1, records)
    else:
        assert progress.polled(2 * STALL_MS, 0)
        assert not progress.compared(2 * STALL_MS, lag)
    assert progress.polled(4 * STALL_MS, 0)
    assert not progress.compared(4 * STALL_MS, 7)


def test_a_broker_that_does_not_say_how_far_the_log_goes_counts_as_lag() -> None:
    progress = Progress()
    progress.polled(0, 1)
    for look in (1, 2):
        assert progress.polled(look * STALL_MS, 0)
        assert progress.compared(look * STALL_MS, None) == (look == 2)
