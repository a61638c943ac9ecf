"""A candidate beside live turns: it runs every turn that ends, into topics of its own, and live turns do not know."""

from __future__ import annotations

import asyncio

import pytest

from headstart.replay.changing import Change
from headstart.replay.live import LiveReplay
from headstart.replay.shadow import Shadow
from headstart.shadow_commands import compared
from streams.codec import Record
from streams.errors import NotFound
from streams.memory_bus import MemoryBroker, MemoryBus
from streams.topology import EVENTS
from tests.flows.test_replay_live import BETTER, models, pirate
from tests.support.traffic import T0_MS, Traffic
from tests.support.traffic_cases import BY_NAME, Case
from tests.support.virtual_time import run_virtually
from workers.generation.engine import EngineRequest, EngineUnavailable
from workers.generation.models import Models

CASES = (BY_NAME["two_calls"], BY_NAME["chat"], BY_NAME["one_call"])
NAME = "candidate"


class Beside:
    """Traffic and a shadow on one log in memory, on a virtual clock."""

    def __init__(self, served: Models, change: Change, cases: tuple[Case, ...] = CASES) -> None:
        self._served, self._change = served, change
        self._loop = asyncio.get_running_loop()
        self.broker = MemoryBroker(4, now_ms=lambda: int(self.now_ms()))
        self.traffic = Traffic(self.bus, self.now_ms, seed=4, cases=cases)

    def now_ms(self) -> float:
        return T0_MS + self._loop.time() * 1000

    async def bus(self, namespace: str = "") -> MemoryBus:
        bus = MemoryBus(self.broker, namespace=namespace)
        await bus.start()
        return bus

    async def open(self) -> None:
        await self.traffic.open()
        await self._served.start()
        self.shadow = Shadow(
            await self.bus(), await self.bus(NAME), NAME,
            lambda setups, manifests: LiveReplay(self._served, setups, manifests, change=self._change), at_once=2,
        )  # fmt: skip
        self.task = asyncio.create_task(self.shadow.run())
        await asyncio.sleep(0.1)

    async def close(self) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)
        await self.traffic.close()
        await self._served.close()

    async def idle(self) -> None:
        await asyncio.sleep(1.0)
        while self.shadow.lag:  # noqa: ASYNC110 - the clock is virtual
            await asyncio.sleep(1.0)

    def records(self, namespace: str = "") -> list[Record]:
        topic = f"{namespace}.{EVENTS.name}" if namespace else EVENTS.name
        return [record for partition in range(4) for record in self.broker.log_of(topic, partition).records]


async def run_beside(served: Models, change: Change, turns: int = 12) -> Beside:
    beside = Beside(served, change)
    await beside.open()
    try:
        await beside.traffic.run(turns)
        await beside.idle()
    finally:
        await beside.close()
    return beside


def test_every_turn_that_ends_is_run_and_compared() -> None:
    async def walk() -> None:
        beside = await run_beside(models(pirate), Change(prompts={"recruiter/answer": BETTER}))
        assert (beside.shadow.done, beside.shadow.failed, beside.shadow.skipped) == (len(beside.traffic.turns), 0, 0)
        found = await compared(await beside.bus(), await beside.bus(NAME), NAME, -1)
        assert len(found.turns) == len(beside.traffic.turns)
        assert {change.step for turn in found.turns for change in turn.changes} == {"prompt", "answer"}

    run_virtually(walk())


def test_nothing_of_it_stands_on_productions_topics() -> None:
    async def walk() -> None:
        beside = await run_beside(models(), Change())
        assert not any(record.source.startswith("replay/") for record in beside.records())
        assert all(record.source.startswith("replay/") for record in beside.records(NAME))
        found = await compared(await beside.bus(), await beside.bus(NAME), NAME, -1)
        assert found.same

    run_virtually(walk())


def away(request: EngineRequest) -> str:
    raise EngineUnavailable("the candidate's model is away")


def test_a_candidate_that_fails_is_counted_and_live_turns_complete() -> None:
    async def walk() -> None:
        beside = await run_beside(models(away), Change(models={"": "large"}), turns=5)
        ends = [record.type for record in beside.records() if "turn.completed" in record.type]
        assert len(ends) == len(beside.traffic.turns)
        found = await compared(await beside.bus(), await beside.bus(NAME), NAME, -1)
        assert all(any(change.step == "end" for change in turn.changes) for turn in found.turns)
        wrong = await run_beside(models(), Change(models={"": "huge"}), turns=5)
        assert wrong.shadow.failed == len(wrong.traffic.turns)
        assert not wrong.records(NAME)

    run_virtually(walk())


def test_killing_it_changes_nothing_for_users() -> None:
    async def walk() -> None:
        beside = Beside(models(), Change())
        await beside.open()
        try:
            await beside.traffic.run(5)
            beside.task.cancel()  # in the middle of whatever it does
            await asyncio.gather(beside.task, return_exceptions=True)
            taken = beside.shadow.done
            await beside.traffic.run(5)
            assert beside.shadow.done == taken
            ended = [record.type for record in beside.records() if "turn.completed" in record.type]
            assert len(ended) == len(beside.traffic.turns) == 10
        finally:
            await beside.close()

    run_virtually(walk())


def test_it_begins_with_what_comes_and_a_report_needs_something() -> None:
    async def walk() -> None:
        beside = Beside(models(), Change())
        await beside.traffic.open()
        await beside.traffic.run(3)
        try:
            with pytest.raises(NotFound, match="ran no turn"):
                await compared(await beside.bus(), await beside.bus(NAME), NAME, -1)
        finally:
            await beside.traffic.close()
        with pytest.raises(ValueError, match="namespace of its own"):
            Shadow(
                await beside.bus(),
                await beside.bus(),
                NAME,
                lambda setups, manifests: LiveReplay(models(), setups, manifests),
            )

    run_virtually(walk())
