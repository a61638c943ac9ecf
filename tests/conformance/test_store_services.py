"""Records of services: taken once, charged once, whichever store it is and however many ask at the same time."""

from __future__ import annotations

import asyncio

import pytest

from memory.store import Store

pytestmark = pytest.mark.asyncio
T0 = 1_763_700_000_000


async def test_a_record_has_one_place_and_one_verdict(store: Store) -> None:
    first = await store.admit("r1", "7/1/5", "key_a", 1, T0)
    assert (first.replayed, first.wait_ms) == (False, 0.0)
    assert await store.admit("r1", "7/1/5", "key_a", 1, T0) == first, "it costs nothing again"
    assert (await store.admit("r1", "7/1/6", "key_a", 1, T0)).replayed
    over = await store.admit("r2", "7/1/7", "key_a", 1, T0)
    assert (over.replayed, over.wait_ms) == (False, 60_000.0)
    assert await store.admit("r2", "7/1/7", "key_a", 1, T0 + 60_000) == over
    assert (await store.admit("r3", "7/1/8", "key_a", 1, T0 + 30_000)).wait_ms == 30_000.0
    assert (await store.admit("r4", "7/1/9", "key_a", 1, T0 + 60_000)).wait_ms == 0.0
    assert (await store.admit("r5", "7/1/10", "key_b", 1, T0)).wait_ms == 0.0, "each key has its own"


async def test_at_most_a_minutes_worth_at_once_and_time_never_runs_back(store: Store) -> None:
    async def granted(name: str, now_ms: int) -> list[bool]:
        return [not (await store.admit(f"{name}{n}", f"{name}{n}", "key", 3, now_ms)).wait_ms for n in range(4)]

    assert await granted("a", T0) == [True, True, True, False]
    assert await granted("b", T0 - 3_600_000) == [False] * 4, "another worker's clock is behind"
    assert await granted("c", T0 + 3_600_000) == [True, True, True, False]


async def test_workers_that_ask_together_share_one_bucket(store: Store) -> None:
    asked = [store.admit(f"r{n}", f"7/1/{n}", "key", 10, T0) for n in range(40)]
    assert sum(not one.wait_ms for one in await asyncio.gather(*asked)) == 10


async def test_one_place_wins_where_two_ask_together(store: Store) -> None:
    asked = [store.admit("r", f"7/1/{n}", "key", 10, T0) for n in range(8)]
    assert sum(not one.replayed for one in await asyncio.gather(*asked)) == 1


async def test_old_records_are_forgotten(store: Store) -> None:
    for number in range(4):
        await store.admit(f"r{number}", "place", "key", 10, T0 + number)
    assert await store.forget_records(T0 + 2) == 2
    assert await store.forget_records(T0 + 2) == 0
    assert (await store.admit("r2", "elsewhere", "key", 10, T0)).replayed
    assert not (await store.admit("r1", "elsewhere", "key", 10, T0)).replayed
