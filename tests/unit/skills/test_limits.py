"""Places for calls: counted, fair, and given back whatever happens."""

from __future__ import annotations

import asyncio

import pytest

from workers.skills.limits import Limits

pytestmark = pytest.mark.asyncio


class Caller:
    """A call that holds its place until it is told to leave."""

    def __init__(self, limits: Limits, skill: str, concurrency: int = 2, tenant: str = "a", turn: str = "t") -> None:
        self.inside = False
        self.leave = asyncio.Event()
        self.task = asyncio.create_task(self._run(limits, skill, concurrency, tenant, turn))

    async def _run(self, limits: Limits, skill: str, concurrency: int, tenant: str, turn: str) -> None:
        async with limits.place(skill, concurrency, tenant, turn):
            self.inside = True
            await self.leave.wait()
        self.inside = False


async def settle() -> None:
    """Every task runs as far as it can."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_a_skill_has_its_number_of_places() -> None:
    limits = Limits()
    callers = [Caller(limits, "s") for _ in range(4)]
    await settle()
    assert [caller.inside for caller in callers] == [True, True, False, False]
    callers[1].leave.set()
    await settle()
    assert [caller.inside for caller in callers] == [True, False, True, False]
    for caller in callers:
        caller.leave.set()
    await asyncio.gather(*(caller.task for caller in callers))
    assert (limits.running("skill:s"), limits.running("tenant:a"), limits.waiting) == (0, 0, 0)


async def test_a_waiting_call_holds_nothing_and_holds_up_nobody() -> None:
    limits = Limits(per_tenant=2)
    first, waits, other = Caller(limits, "s", 1), Caller(limits, "s", 1), Caller(limits, "o")
    await settle()
    assert (first.inside, waits.inside, other.inside) == (True, False, True)
    for caller in (first, waits, other):
        caller.leave.set()
    await asyncio.gather(first.task, waits.task, other.task)


@pytest.mark.parametrize("which", ["tenant", "turn"])
async def test_tenants_and_turns_have_their_number_too(which: str) -> None:
    limits = Limits(per_tenant=1) if which == "tenant" else Limits(per_turn=1)
    one, same, different = Caller(limits, "x"), Caller(limits, "y"), Caller(limits, "z", tenant="b", turn="u")
    await settle()
    assert (one.inside, same.inside, different.inside) == (True, False, True)
    for caller in (one, same, different):
        caller.leave.set()
    await asyncio.gather(one.task, same.task, different.task)


async def test_a_cancelled_call_gives_its_place_back_wherever_it_was() -> None:
    limits = Limits()
    inside, waiting, last = (Caller(limits, "s", 1) for _ in range(3))
    await settle()
    waiting.task.cancel()
    await settle()
    assert limits.waiting == 1
    inside.task.cancel()
    await settle()
    assert last.inside
    last.leave.set()
    await last.task
    assert limits.running("skill:s") == 0


async def test_a_place_that_comes_in_the_moment_of_the_cancel_is_passed_on() -> None:
    limits = Limits()
    inside, cancelled, last = (Caller(limits, "s", 1) for _ in range(3))
    await settle()
    inside.leave.set()
    await asyncio.sleep(0)  # the first one leaves; the second is given its place and has not run yet
    assert (inside.inside, cancelled.inside, limits.running("skill:s")) == (False, False, 1)
    cancelled.task.cancel()
    await settle()
    assert (cancelled.inside, last.inside) == (False, True)
    last.leave.set()
    await last.task
    assert limits.running("skill:s") == 0
