"""For how long a request that nobody can take at the moment is sent again."""

from __future__ import annotations

import pytest

from headstart.client_readers import Reader
from headstart.client_refusals import ELSEWHERE_TIMES, Patience, verdict
from streams.errors import CallerError, HeadstartError, PeerUnavailable, Refused

REQUEST = {"type": "response.create", "event_id": "e1"}


def waiting(response: str = "", refusals: int = 0) -> Reader:
    return Reader(key=1, turn=True, request=dict(REQUEST), response=response, refusals=refusals)


@pytest.mark.parametrize(
    ("reader", "error", "said"),
    [
        (waiting(), PeerUnavailable("x", code="no_worker"), "later"),
        (waiting("resp_1"), PeerUnavailable("x", code="no_worker"), "later"),
        (waiting(), PeerUnavailable("x", code="database_unavailable"), "later"),
        (waiting(), Refused("x", code="draining"), "elsewhere"),
        (waiting(), PeerUnavailable("x"), "elsewhere"),
        (waiting(refusals=ELSEWHERE_TIMES), PeerUnavailable("x"), "ends"),
        (waiting("resp_1"), PeerUnavailable("x"), "ends"),
        (waiting(), Refused("x", code="rate_limited"), "ends"),
        (waiting(), CallerError("x"), "ends"),
        (Reader(key=1, turn=True, response="resp_1"), PeerUnavailable("x", code="no_worker"), "ends"),
    ],
)
def test_what_becomes_of_a_refused_request(reader: Reader, error: HeadstartError, said: str) -> None:
    assert verdict(reader, error) == said


def test_pauses_grow_to_a_bound_and_are_never_shorter_than_half_of_it() -> None:
    patience = Patience()
    assert [patience.wait_ms(times, 0, 1.0) for times in range(1, 7)] == [500, 1_000, 2_000, 4_000, 5_000, 5_000]
    assert [patience.wait_ms(times, 0, 0.0) for times in (1, 2, 99)] == [250, 500, 2_500]


def test_the_last_try_is_within_the_limit() -> None:
    patience = Patience(limit_ms=10_000)
    assert patience.wait_ms(9, 5_000, 1.0) == 5_000
    assert patience.wait_ms(9, 5_001, 1.0) is None
    assert Patience(limit_ms=0).wait_ms(1, 0, 0.0) is None
