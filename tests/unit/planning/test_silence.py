"""Who is taken for silent, and what is read before that is said of anybody."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from streams import ids
from streams.events.generating import GenerationRequested, Sampling
from streams.events.turn import TurnAccepted
from streams.memory_bus import MemoryBroker, MemoryBus
from streams.taken import Taken
from workers.planning import leases
from workers.planning.commands import Input, Tick, WakeAt
from workers.planning.holding import HeldPartition
from workers.planning.live import LiveTurn
from workers.planning.model_calls import Stage
from workers.planning.outbox import Outbox

DEADLINE_MS = 60_000
CONVERSATION = ids.conversation_id(0, 0, bytes(10))
ACCEPTED = TurnAccepted(
    turn=ids.turn_id(CONVERSATION, 0, bytes(10)), conversation=CONVERSATION, tenant="t", user="u", input=(), at_ms=0,
    deadline_at_ms=DEADLINE_MS,
)  # fmt: skip


def stage(epoch: int, heard_at_ms: float) -> Stage:
    request = GenerationRequested(
        conversation=CONVERSATION, turn=ACCEPTED.turn, tenant="t", user="u", step="answer", epoch=epoch, model="m",
        messages=(), sampling=Sampling(max_tokens=8), at_ms=0, deadline_at_ms=DEADLINE_MS, turn_offset=0,
    )  # fmt: skip
    return Stage("answer", epoch, request, heard_at_ms=heard_at_ms)


@pytest.mark.parametrize(("epoch", "lease_ms"), [(1, 2_000.0), (2, 4_000.0), (3, 8_000.0)])
def test_each_further_attempt_has_twice_the_lease(epoch: int, lease_ms: float) -> None:
    attempt = stage(epoch, 100.0)
    assert not leases.silent(attempt, 99.0 + lease_ms)
    assert leases.silent(attempt, 100.0 + lease_ms)
    assert leases.look_again_at_ms(attempt, None, DEADLINE_MS) == 100.0 + lease_ms


def test_a_stage_that_nobody_took_up_only_waits() -> None:
    assert not leases.silent(stage(1, -1.0), 1e9)
    assert leases.look_again_at_ms(stage(1, -1.0), None, DEADLINE_MS) == DEADLINE_MS


@pytest.mark.asyncio
async def test_a_reader_waits_for_what_stands_before_the_end() -> None:
    partition = HeldPartition(0, -1)
    partition.read(6)
    await partition.read_up_to(7)
    waiting = asyncio.ensure_future(partition.read_up_to(9))
    partition.read(7)
    await asyncio.sleep(0)
    assert not waiting.done()
    partition.read(8)
    await waiting


class Suspicious:
    """A machine that suspects somebody or not, and keeps what it is fed."""

    def __init__(self) -> None:
        self.suspicion = True
        self.fed: list[Input] = []

    def suspects(self, now_ms: float) -> bool:
        return self.suspicion

    def receive(self, item: Input, now_ms: float) -> list[object]:
        self.fed.append(item)
        return []


class Reading:
    """Effects of which only the reading up is wanted: it ends when `read` is set."""

    def __init__(self) -> None:
        self.read = asyncio.Event()

    async def catch_up(self, accepted: TurnAccepted) -> None:
        await self.read.wait()


class Clock:
    """The turn's clock and its one timer."""

    def __init__(self) -> None:
        self.now_ms = 0.0
        self.callback: Callable[[], None] = lambda: None

    def later(self, delay_s: float, callback: Callable[[], None]) -> Clock:
        self.callback = callback
        return self

    def cancel(self) -> None:
        self.callback = lambda: None

    def ring(self, now_ms: float) -> None:
        self.now_ms = now_ms
        self.callback()


async def watched() -> tuple[Clock, Suspicious, Reading]:
    clock, machine, reading = Clock(), Suspicious(), Reading()
    bus = MemoryBus(MemoryBroker())
    await bus.start()
    live = LiveTurn(
        ACCEPTED, 1, bus=bus, outbox=Outbox(), effects=reading, writer="turns/1", place=lambda request: 0,  # type: ignore[arg-type]
        clock_ms=lambda: clock.now_ms, ended=lambda live: None, later=clock.later,
    )  # fmt: skip
    live.begin(machine, [WakeAt(2_000.0)], Taken("begin", 0.0))  # type: ignore[arg-type]
    return clock, machine, reading


@pytest.mark.asyncio
async def test_nobody_is_taken_for_silent_before_the_log_was_read() -> None:
    clock, machine, reading = await watched()
    clock.ring(2_000.0)
    await asyncio.sleep(0)
    assert machine.fed == []
    reading.read.set()
    for _ in range(5):
        await asyncio.sleep(0)
    assert machine.fed == [Tick()]


@pytest.mark.asyncio
async def test_a_timer_that_suspects_nobody_reads_nothing() -> None:
    clock, machine, _ = await watched()
    machine.suspicion = False
    clock.ring(2_000.0)
    assert machine.fed == [Tick()]


@pytest.mark.asyncio
async def test_the_deadline_waits_for_no_reading() -> None:
    clock, machine, _ = await watched()
    clock.ring(float(DEADLINE_MS))
    assert machine.fed == [Tick()]
