"""A consumer is at work while its loop comes round and its reader gets what there is."""

from __future__ import annotations

import pytest

from streams.progress import Progress
from streams.pulse import QUIET_MS, Pulse


class Hand:
    """A clock and a reader that a test moves."""

    def __init__(self) -> None:
        self.now_ms = 1_000.0
        self.stalled = False

    def __call__(self) -> float:
        return self.now_ms


def test_a_pulse_is_missing_once_the_loop_is_late() -> None:
    hand = Hand()
    pulse = Pulse(hand)
    hand.now_ms += QUIET_MS
    assert pulse.missing() == ""
    hand.now_ms += 1
    assert pulse.missing() == "its loop has not come round for 5001 ms"
    pulse.beat()
    assert pulse.missing() == ""


def test_a_loop_that_comes_round_without_being_given_anything_has_no_pulse_either() -> None:
    hand = Hand()
    pulse = Pulse(hand)
    hand.now_ms += 2 * QUIET_MS
    pulse.follow(hand)
    assert pulse.missing() == ""
    hand.stalled = True
    pulse.beat()
    assert pulse.missing() == "there are records and its reader gets none"


@pytest.mark.parametrize(("records", "lag"), [(1, None), (0, 0)])
def test_a_reader_is_stalled_from_its_rebuilding_until_something_comes_or_nothing_is_there(
    records: int, lag: int | None
) -> None:
    progress = Progress(stall_ms=100)
    said = [progress.stalled]
    for now_ms, behind in ((100, 7), (200, None), (300, 7)):  # the first may be records on their way
        progress.compared(now_ms, behind)
        progress.polled(now_ms + 1, 0)
        said.append(progress.stalled)
    if records:
        progress.polled(350, records)
    else:
        progress.compared(400, lag)
    assert [*said, progress.stalled] == [False, False, True, True, False]
