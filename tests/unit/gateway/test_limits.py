"""The token bucket: a burst at once, a rate in the long run, and how long to wait."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway.limits import TokenBucket


def test_a_burst_then_the_rate() -> None:
    bucket = TokenBucket(per_second=10, burst=3, now_ms=0)
    assert [bucket.take(0) for _ in range(3)] == [0, 0, 0]
    wait_ms = bucket.take(0)
    assert 0 < wait_ms <= 101
    assert bucket.take(wait_ms) == 0
    assert bucket.take(wait_ms) > 0


def test_rest_fills_it_no_further_than_the_burst() -> None:
    bucket = TokenBucket(per_second=1, burst=2, now_ms=0)
    assert [bucket.take(3_600_000) for _ in range(3)][:2] == [0, 0]
    assert bucket.take(3_600_000) > 0


def test_a_clock_that_goes_back_gives_nothing() -> None:
    bucket = TokenBucket(per_second=1000, burst=1, now_ms=1000)
    assert bucket.take(1000) == 0
    assert bucket.take(0) > 0


@given(st.lists(st.integers(0, 500), max_size=100))
def test_never_more_than_burst_and_rate_allow(steps: list[int]) -> None:
    bucket = TokenBucket(per_second=5, burst=4, now_ms=0)
    now_ms = taken = 0
    for step in steps:
        now_ms += step
        taken += bucket.take(now_ms) == 0
        assert taken <= 4 + now_ms * 5 / 1000
