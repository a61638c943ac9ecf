"""Lanes: first in, first out within one, independent of each other, bounded."""

from __future__ import annotations

import pytest

from gateway.limits import Limits
from gateway.requests import CreateRequest, parse_create
from gateway.session import Lanes
from streams.errors import Refused


def request(text: str, stream_id: str | None = None, **fields: object) -> CreateRequest:
    body = {"input": text, **({"stream_id": stream_id} if stream_id else {}), **fields}
    return parse_create(body)


def text(asked: CreateRequest | None) -> str | None:
    return asked.input[0].text if asked else None


def test_one_lane_runs_first_in_first_out() -> None:
    lanes = Lanes(Limits())
    assert lanes.request(request("a"))
    assert not lanes.request(request("b"))
    assert not lanes.request(request("c"))
    assert text(lanes.finished(None)) == "b"
    assert text(lanes.finished(None)) == "c"
    assert lanes.finished(None) is None
    assert len(lanes) == 0
    assert lanes.request(request("d"))


def test_lanes_are_independent() -> None:
    lanes = Lanes(Limits())
    assert lanes.request(request("a", "one"))
    assert lanes.request(request("b", "two"))
    assert not lanes.request(request("c", "one"))
    assert lanes.finished("two") is None
    assert text(lanes.finished("one")) == "c"


def test_a_request_about_the_running_turn_does_not_wait() -> None:
    lanes = Lanes(Limits())
    assert lanes.request(request("a"))
    assert not lanes.request(request("b"))
    assert lanes.request(request("c", on_busy="interrupt"))
    assert lanes.finished(None) is None
    assert text(lanes.finished(None)) == "b"


def test_lanes_and_waiting_requests_are_bounded() -> None:
    lanes = Lanes(Limits(lanes=2, lane_requests=1))
    assert lanes.request(request("a", "one"))
    assert lanes.request(request("b", "two"))
    with pytest.raises(Refused):
        lanes.request(request("c", "three"))
    assert not lanes.request(request("d", "one"))
    with pytest.raises(Refused):
        lanes.request(request("e", "one"))
    assert text(lanes.finished("one")) == "d"
    assert lanes.finished("one") is None
    assert lanes.request(request("f", "three"))


def test_an_end_nobody_waited_for_is_nothing() -> None:
    assert Lanes(Limits()).finished("unknown") is None


def test_bytes_that_wait_on_a_socket_are_bounded() -> None:
    lanes = Lanes(Limits(waiting_bytes=100))
    assert lanes.request(request("a", "one"), 1000)
    assert not lanes.request(request("b", "one"), 60)
    with pytest.raises(Refused):
        lanes.request(request("c", "one"), 60)
    assert text(lanes.finished("one")) == "b"
    assert lanes.waiting_bytes == 0
    assert not lanes.request(request("d", "one"), 100)
