"""The small pure cores: watermark, lane queue, coalescer, backoff, progress."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.coalesce import SPACING_MS, Coalescer
from streams.lane_queue import LaneQueue
from streams.progress import Progress
from streams.retry import FOREVER, Backoff
from streams.watermark import Watermark


@given(
    st.lists(st.integers(0, 200), min_size=1, unique=True).map(sorted),
    st.randoms(use_true_random=False),
)
def test_the_watermark_never_passes_an_unfinished_record(offsets: list[int], random: object) -> None:
    mark = Watermark()
    assert mark.position is None
    for offset in offsets:
        assert mark.begin(offset)
        assert not mark.begin(offset)
    order = list(offsets)
    random.shuffle(order)  # type: ignore[attr-defined]
    unfinished = set(offsets)
    for offset in order:
        mark.finish(offset)
        mark.finish(offset)
        unfinished.discard(offset)
        assert mark.position == (min(unfinished) if unfinished else offsets[-1] + 1)
    assert mark.open == 0
    assert mark.next == offsets[-1] + 1


def test_a_finish_of_something_never_begun_changes_nothing() -> None:
    mark = Watermark()
    mark.finish(3)
    assert mark.begin(5)
    mark.finish(4)
    assert (mark.position, mark.open) == (5, 1)


@given(
    st.integers(1, 4),
    st.lists(st.tuples(st.sampled_from("abcd"), st.booleans()), max_size=60),
)
def test_lanes_keep_order_and_the_limit(limit: int, moves: list[tuple[str, bool]]) -> None:
    """Each move puts an item into a lane, or ends the oldest running one."""
    queue: LaneQueue[tuple[str, int]] = LaneQueue(limit)
    running: list[tuple[str, int]] = []
    started: list[tuple[str, int]] = []
    put: list[tuple[str, int]] = []

    def pump() -> None:
        for lane, item in queue.take():
            assert lane not in [lane for lane, _ in running]
            running.append(item)
            started.append(item)
        assert len(running) <= limit
        assert queue.running == len(running)

    for number, (lane, ends) in enumerate(moves):
        if ends and running:
            queue.finish(running.pop(0)[0])
        else:
            queue.put(lane, (lane, number))
            put.append((lane, number))
        pump()
    while running:
        queue.finish(running.pop(0)[0])
        pump()
    assert sorted(started) == sorted(put)
    assert queue.waiting == 0
    for lane in "abcd":
        assert [item for item in started if item[0] == lane] == [item for item in put if item[0] == lane]


def test_dropped_items_do_not_start() -> None:
    queue: LaneQueue[int] = LaneQueue(1)
    for number in range(4):
        queue.put("even" if number % 2 == 0 else "odd", number)
    assert [item for _, item in queue.take()] == [0]
    assert sorted(queue.drop(lambda item: item in (1, 2, 3))) == [1, 2, 3]
    queue.finish("even")
    assert list(queue.take()) == []
    assert (queue.waiting, queue.running) == (0, 0)


def test_a_queue_that_lets_nothing_run_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        LaneQueue[int](0)


def test_the_first_delta_never_waits_and_a_slow_stream_is_not_delayed() -> None:
    spaced = Coalescer()
    assert spaced.due_at_ms() is None
    spaced.add("a", (1,), 0)
    assert spaced.due_at_ms() == float("-inf")
    assert spaced.take(100.0) == ("a", (1,), 0)
    spaced.add("b", (2,), 1)
    due = spaced.due_at_ms()
    assert due == 100.0 + SPACING_MS
    spaced.add("c", (3, 4), 2)
    assert spaced.due_at_ms() == due  # more text does not put it off
    assert spaced.take(due) == ("bc", (2, 3, 4), 1)
    assert spaced.empty
    with pytest.raises(ValueError, match="no delta"):
        spaced.take(200.0)


@given(st.lists(st.floats(0, 30), min_size=1, max_size=50))
def test_deltas_are_spaced_and_whole(gaps: list[float]) -> None:
    """Tokens arrive after these gaps; a delta leaves the moment it is due."""
    spaced, now, left, texts = Coalescer(), 0.0, [], []
    for number, gap in enumerate(gaps):
        until = now + gap
        due = spaced.due_at_ms()
        if due is not None and due <= until:
            left.append(max(due, now))
            texts.append(spaced.take(left[-1])[0])
        now = until
        spaced.add(f"{number},", (number,), number)
        due = spaced.due_at_ms()
        assert due is not None
        if due <= now:
            left.append(now)
            texts.append(spaced.take(now)[0])
    if not spaced.empty:
        texts.append(spaced.take(now)[0])
    assert "".join(texts) == "".join(f"{number}," for number in range(len(gaps)))
    assert all(after - before >= SPACING_MS - 1e-9 for before, after in itertools.pairwise(left))


@given(st.integers(1, 100), st.floats(0, 1))
def test_waits_are_bounded_and_never_hot(failures: int, chance: float) -> None:
    wait = FOREVER.wait_ms(failures, chance)
    assert wait is not None
    assert FOREVER.least_ms <= wait <= FOREVER.limit_ms


def test_backoff_gives_up_after_its_attempts() -> None:
    backoff = Backoff(first_ms=10, limit_ms=35, least_ms=1, attempts=4)
    assert [backoff.wait_ms(failures, 1.0) for failures in (1, 2, 3, 4)] == [10, 20, 35, None]
    assert backoff.wait_ms(1, 0.0) == 1
    with pytest.raises(ValueError, match="first failure"):
        backoff.bound_ms(0)


def test_a_reader_is_stuck_after_two_stalls_with_lag() -> None:
    progress = Progress(stall_ms=100)
    assert not progress.polled(0, 5)
    assert not progress.polled(99, 0)
    assert progress.polled(100, 0)
    assert not progress.compared(100, lag=3)  # they may be on their way
    assert not progress.polled(199, 0)
    assert progress.polled(200, 0)
    assert progress.compared(200, lag=3)
    assert not progress.compared(300, lag=None)  # it begins anew


@pytest.mark.parametrize(("lag", "stuck"), [(0, False), (1, True), (None, True)])
def test_only_lag_or_silence_about_it_is_suspicious(lag: int | None, stuck: bool) -> None:
    progress = Progress(stall_ms=100)
    assert not progress.polled(0, 0)
    assert progress.polled(100, 0)
    assert not progress.compared(100, lag)
    assert progress.polled(200, 0)
    assert progress.compared(200, lag) is stuck


def test_a_record_clears_the_suspicion() -> None:
    progress = Progress(stall_ms=100)
    progress.polled(0, 0)
    assert not progress.compared(100, 4)
    assert not progress.polled(150, 1)
    assert progress.polled(250, 0)
    assert not progress.compared(250, 4)
