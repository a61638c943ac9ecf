"""Placement: prefixes kept, loads bounded, the dead forgotten."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.events.registering import WorkerAlive
from workers.generation.placement import FORGET_MS, LOAD_BOUND, Placement

PARTITIONS = 32


def alive(number: int, running: int = 0, capacity: int = 10, workers: int = 4, **changes: object) -> WorkerAlive:
    share = PARTITIONS // workers
    fields = {
        "worker": f"generation/{number}", "stage": "generation", "at_ms": 0, "running": running, "capacity": capacity,
        "partitions": tuple(range(number * share, (number + 1) * share)), "models": ("default",),
    }  # fmt: skip
    return WorkerAlive(**{**fields, **changes})  # type: ignore[arg-type]


def holder(partition: int, workers: int = 4) -> int:
    return partition // (PARTITIONS // workers)


def fleet(*workers: WorkerAlive, now_ms: float = 0.0) -> Placement:
    placement = Placement()
    for worker in workers:
        placement.hear(worker, now_ms)
    return placement


def test_a_conversation_stays_with_its_worker() -> None:
    placement = fleet(*[alive(number) for number in range(4)])
    chosen: dict[str, set[int]] = {}
    for number in range(40):
        now = number * 2_000.0
        for worker in range(4):
            placement.hear(alive(worker), now)
        for name in ("conv_a", "conv_b", "conv_c"):
            chosen.setdefault(name, set()).add(placement.choose(name, "default", now, PARTITIONS))
    assert all(len(partitions) == 1 for partitions in chosen.values())


def test_a_worker_that_goes_moves_only_its_own() -> None:
    names = [f"conv_{number}" for number in range(300)]

    def choices(workers: list[int]) -> dict[str, int]:
        heard = [alive(number, capacity=10_000) for number in workers]
        return {name: holder(fleet(*heard).choose(name, "default", 0.0, PARTITIONS)) for name in names}

    before, after = choices([0, 1, 2, 3]), choices([0, 1, 3])
    assert {before[name] for name in names if before[name] != after[name]} == {2}
    assert set(Counter(before.values())) == {0, 1, 2, 3}


@given(st.integers(1, 200), st.integers(1, 4))
def test_no_worker_is_loaded_past_its_bound(requests: int, workers: int) -> None:
    placement = fleet(*[alive(number, capacity=1_000, workers=4) for number in range(workers)])
    placed: Counter[int] = Counter()
    for number in range(requests):
        placed[holder(placement.choose(f"conv_{number}", "default", 1.0, PARTITIONS))] += 1
    assert max(placed.values()) <= LOAD_BOUND * requests / workers + 1


def test_a_full_worker_gives_way_and_when_all_are_full_the_least_loaded_takes_it() -> None:
    placement = fleet(alive(0, running=10), alive(1, running=2))
    assert {holder(placement.choose(f"conv_{n}", "default", 0.0, PARTITIONS)) for n in range(3)} == {1}
    placement = fleet(alive(0, running=30), alive(1, running=20))
    assert holder(placement.choose("conv_a", "default", 0.0, PARTITIONS)) == 1


def test_capacity_weighs() -> None:
    placement = fleet(alive(0, capacity=100), alive(1, capacity=10))
    placed = Counter(holder(placement.choose(f"conv_{n}", "default", 0.0, PARTITIONS)) for n in range(55))
    assert placed[0] >= 4 * placed[1]


def test_the_silent_and_the_leaving_get_nothing() -> None:
    placement = fleet(alive(0), alive(1))
    placement.hear(alive(1), FORGET_MS + 1.0)
    assert {holder(placement.choose(f"conv_{n}", "default", FORGET_MS + 1.0, PARTITIONS)) for n in range(9)} == {1}
    placement.hear(alive(2), FORGET_MS + 1.0)
    placement.hear(alive(1, leaving=True), FORGET_MS + 1.0)
    assert {holder(placement.choose(f"conv_{n}", "default", FORGET_MS + 1.0, PARTITIONS)) for n in range(9)} == {2}


def test_only_generation_workers_with_the_model_and_a_partition_count() -> None:
    placement = fleet(
        alive(0, stage="turns"), alive(1, models=("other",)), alive(2, partitions=()), alive(3)
    )  # fmt: skip
    assert {holder(placement.choose(f"conv_{n}", "default", 0.0, PARTITIONS)) for n in range(9)} == {3}


def test_what_was_placed_counts_until_the_worker_says_so_itself() -> None:
    placement = fleet(alive(0, capacity=2), alive(1, capacity=2))
    placed = Counter(holder(placement.choose("conv_a", "default", 1.0, PARTITIONS)) for _ in range(4))
    assert placed == {0: 2, 1: 2}
    placement.hear(alive(0, capacity=2, running=0), 2.0)  # all done there
    placement.hear(alive(1, capacity=2, running=2), 2.0)
    assert holder(placement.choose("conv_a", "default", 3.0, PARTITIONS)) == 0


@pytest.mark.parametrize("partitions", [1, 4, 32])
def test_with_nobody_there_a_partition_is_chosen_all_the_same(partitions: int) -> None:
    chosen = {fleet().choose(f"conv_{number}", "default", 0.0, partitions) for number in range(200)}
    assert chosen == set(range(partitions))


def test_what_has_probably_ended_frees_its_place() -> None:
    """Ten places, always in use, an answer a second each: half a second after its last word five are free."""
    placement = fleet(alive(0, running=10, workers=2), alive(1, running=10, workers=2))
    for second in (1, 2):
        placement.hear(alive(0, running=10, workers=2, ended=10 * second), second * 1_000.0)
        placement.hear(alive(1, running=10, workers=2), second * 1_000.0)
    chosen = [holder(placement.choose(f"conv_{n}", "default", 2_500.0, PARTITIONS), 2) for n in range(5)]
    assert chosen == [0] * 5


def test_when_all_are_full_the_one_with_a_place_soonest_takes_it() -> None:
    """Worker 1 is five times slower, and so its shorter queue is the longer wait."""
    placement = fleet(alive(0, running=10, waiting=3, workers=2), alive(1, running=10, waiting=1, workers=2))
    placement.hear(alive(0, running=10, waiting=3, workers=2, ended=50), 1_000.0)
    placement.hear(alive(1, running=10, waiting=1, workers=2, ended=10), 1_000.0)
    assert holder(placement.choose("conv_a", "default", 1_000.0, PARTITIONS), 2) == 0


def test_what_waits_for_a_place_counts() -> None:
    placement = fleet(alive(0, running=4, waiting=6), alive(1, running=4))
    assert {holder(placement.choose(f"conv_{n}", "default", 0.0, PARTITIONS)) for n in range(4)} == {1}


def test_a_worker_that_came_back_has_no_pace_yet() -> None:
    """Its count began again; that is no negative pace."""
    placement = fleet(alive(0, running=1, ended=500))
    placement.hear(alive(0, running=9, ended=3), 500.0)
    placement.hear(alive(1, running=1), 500.0)
    assert holder(placement.choose("conv_a", "default", 600.0, PARTITIONS)) == 1
