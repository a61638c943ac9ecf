"""The circuit breaker, fed by hand."""

from __future__ import annotations

from workers.skills.breaker import FAILURES, FIRST_PAUSE_MS, LONGEST_PAUSE_MS, Breaker


def opened(now_ms: int = 0) -> Breaker:
    breaker = Breaker()
    for _ in range(FAILURES):
        assert breaker.ask(now_ms) is None
        breaker.failed(now_ms)
    return breaker


def test_it_opens_after_a_run_of_failures_and_says_for_how_long() -> None:
    breaker = opened(100)
    assert breaker.state == "open"
    assert breaker.ask(100) == FIRST_PAUSE_MS
    assert breaker.ask(99 + FIRST_PAUSE_MS) == 1


def test_a_success_in_between_starts_the_run_anew() -> None:
    breaker = Breaker()
    for _ in range(10 * FAILURES):
        for _ in range(FAILURES - 1):
            breaker.failed(0)
        breaker.succeeded()
    assert breaker.state == "closed"


def test_one_request_tries_after_the_pause_and_the_others_wait() -> None:
    breaker = opened()
    assert breaker.ask(FIRST_PAUSE_MS) is None
    assert breaker.ask(FIRST_PAUSE_MS) == 1
    breaker.succeeded()
    assert breaker.ask(FIRST_PAUSE_MS) is None
    assert breaker.ask(FIRST_PAUSE_MS) is None


def test_each_failed_try_doubles_the_pause_up_to_a_bound() -> None:
    breaker = opened()
    now_ms, pauses = 0, []
    for _ in range(8):
        wait_ms = breaker.ask(now_ms)
        assert wait_ms is not None
        pauses.append(wait_ms)
        now_ms += wait_ms
        assert breaker.ask(now_ms) is None
        breaker.failed(now_ms)
    assert pauses == [1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000, LONGEST_PAUSE_MS]


def test_a_recovered_host_begins_with_the_short_pause_again() -> None:
    breaker = opened()
    breaker.ask(1_000)
    breaker.failed(1_000)
    assert breaker.ask(3_000) is None
    breaker.succeeded()
    for _ in range(FAILURES):
        breaker.failed(5_000)
    assert breaker.ask(5_000) == FIRST_PAUSE_MS


def test_an_abandoned_try_lets_the_next_one_try() -> None:
    breaker = opened()
    assert breaker.ask(1_000) is None
    breaker.abandoned(1_000)
    assert breaker.ask(1_000) is None
    assert breaker.state == "trying"


def test_an_abandoned_request_of_a_closed_circuit_changes_nothing() -> None:
    breaker = Breaker()
    breaker.abandoned(0)
    assert breaker.state == "closed"


def test_failures_that_come_late_do_not_prolong_an_open_circuit() -> None:
    breaker = opened()
    breaker.failed(900)
    assert breaker.ask(1_000) is None
