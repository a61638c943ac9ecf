"""Backoff, acknowledgements, held frames, errors and addresses."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headstart.client import socket_url
from headstart.client_acks import ACK_BYTES, Acknowledgements
from headstart.client_backoff import Backoff
from headstart.client_errors import error_of, error_of_close, error_of_handshake, error_of_response
from headstart.client_held import HeldFrames
from headstart.client_readers import Reader, earliest_place
from streams.errors import (
    CallerError,
    HeadstartError,
    InvalidInput,
    NotFound,
    NotPermitted,
    OurError,
    PeerError,
    PeerTimeout,
    Refused,
)
from streams.offsets import Cursor
from tests.support.frame_log import conversation_name


def cursor(offset: int, conversation: int = 1, epoch: int = 7) -> Cursor:
    return Cursor(offset, 0, conversation_name(conversation), 0, epoch)


def test_the_ceiling_doubles_up_to_the_longest_wait() -> None:
    backoff = Backoff(first_ms=100, longest_ms=1_000)
    assert [backoff.ceiling_ms(attempt) for attempt in range(6)] == [100, 200, 400, 800, 1_000, 1_000]
    assert backoff.ceiling_ms(10_000) == 1_000


@given(st.integers(0, 1_000), st.floats(0, 1))
def test_the_jitter_is_full(attempt: int, draw: float) -> None:
    backoff = Backoff()
    assert backoff.delay_ms(attempt, 0.0) == 0
    assert 0 <= backoff.delay_ms(attempt, draw) <= backoff.delay_ms(attempt, 1.0) == backoff.ceiling_ms(attempt)


def test_giving_up_is_a_choice() -> None:
    assert Backoff(attempts=3).exhausted(3)
    assert not Backoff(attempts=3).exhausted(2)
    assert not Backoff(attempts=None).exhausted(1 << 30)


def test_everything_received_is_acknowledged_by_bytes_over_all_conversations() -> None:
    acks = Acknowledgements()
    assert acks.received(cursor(5, 1), ACK_BYTES // 2, ends=False) == []
    assert acks.received(cursor(4, 1), 1, ends=False) == []  # older: the newest stands
    frames = acks.received(cursor(9, 2), ACK_BYTES // 2, ends=False)
    assert {frame["cursor"] for frame in frames} == {cursor(5, 1).encode(), cursor(9, 2).encode()}
    assert acks.received(cursor(6, 1), 1, ends=True) == [{"type": "headstart.ack", "cursor": cursor(6, 1).encode()}]


def test_a_new_connection_owes_nothing() -> None:
    acks = Acknowledgements()
    acks.received(cursor(5), 1, ends=False)
    acks.reset()
    assert acks.received(cursor(2), 1, ends=True) == [{"type": "headstart.ack", "cursor": cursor(2).encode()}]


def test_held_frames_are_bounded_and_given_once() -> None:
    held = HeldFrames(limit_bytes=100)
    held.hold("a", {"n": 1}, cursor(1), 60)
    held.hold("b", {"n": 2}, cursor(2), 60)  # over the bound: b is left in the log
    held.hold("b", {"n": 3}, cursor(3), 1)
    assert held.take("b") is None
    frames = held.take("a")
    assert frames is not None
    assert [frame for frame, _, _ in frames] == [{"n": 1}]
    assert held.take("a") == []
    held.hold("c", {"n": 4}, cursor(4), 100)
    assert held.take("c") is not None


def test_one_feed_serves_the_earliest_reader() -> None:
    late, early = Reader(key=0, turn=True, last=cursor(9)), Reader(key=1, turn=True, last=cursor(4))
    live = Reader(key=2, turn=False, start="live")
    start = Reader(key=3, turn=False, start="start")
    assert earliest_place([late, early, live]) == cursor(4).encode()
    assert earliest_place([early, late]) == cursor(4).encode()
    assert earliest_place([live]) == "live"
    assert earliest_place([live, early, start]) == "start"


@pytest.mark.parametrize(
    ("facts", "kind"),
    [
        ({"code": "not_found"}, NotFound),
        ({"code": "conversation_not_found"}, NotFound),
        ({"code": "unknown_skill"}, NotFound),
        ({"code": "conversation_busy"}, Refused),
        ({"code": "rate_limit_exceeded"}, Refused),
        ({"code": "invalid_api_key"}, NotPermitted),
        ({"code": "invalid_cursor"}, InvalidInput),
        ({"code": "frame_too_large"}, InvalidInput),
        ({"code": "peer_timeout"}, PeerTimeout),
        ({"code": "model_lost", "fault": "peer"}, PeerError),
        ({"code": "deadline", "fault": "ours"}, OurError),
        ({"code": "something_new"}, CallerError),
        ({}, CallerError),
    ],
)
def test_an_error_frame_becomes_the_typed_error(facts: dict[str, str], kind: type[HeadstartError]) -> None:
    error = error_of({"type": "error", "message": "so it is", "hint": "do this", "param": "input", **facts})
    assert type(error) is kind
    assert (error.message, error.hint) == ("so it is", "do this")
    assert error.facts["param"] == "input"


def test_an_error_frame_with_an_error_object_reads_the_same() -> None:
    body = {"type": "server_error", "code": "no_worker", "message": "none took it", "param": None, "retriable": True}
    error = error_of({"type": "error", "error": body, "status": 503, "event_id": "e1"})
    assert isinstance(error, PeerError)
    assert (error.code, error.message, error.facts) == (
        "no_worker", "none took it", {"status": 503, "event_id": "e1", "retriable": True},
    )  # fmt: skip


def test_a_failed_response_says_its_own_code() -> None:
    error = error_of_response({
        "id": "resp_1",
        "error": {"code": "server_error", "message": "the model is gone"},
        "headstart": {"code": "peer_unavailable", "hint": None, "fault": "peer"},
    })  # fmt: skip
    assert isinstance(error, PeerError)
    assert (error.code, error.message, error.facts["response_id"]) == (
        "peer_unavailable",
        "the model is gone",
        "resp_1",
    )
    assert isinstance(error_of_response({}), OurError)


def test_close_codes_say_whether_to_come_again() -> None:
    assert all(error_of_close(code, "") is None for code in (1000, 1001, 1005, 1006, 1011, 1012, 1013, 1015))
    assert isinstance(error_of_close(1008, "no"), NotPermitted)
    assert isinstance(error_of_close(1009, ""), InvalidInput)
    assert isinstance(error_of_close(4_001, ""), Refused)


def test_handshakes_say_whether_to_come_again() -> None:
    assert all(error_of_handshake(status) is None for status in (408, 429, 500, 503))
    assert isinstance(error_of_handshake(401), NotPermitted)
    assert isinstance(error_of_handshake(404), NotFound)
    assert isinstance(error_of_handshake(400), InvalidInput)


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("ws://h:8080", "ws://h:8080/v1/responses"),
        ("http://h:8080/", "ws://h:8080/v1/responses"),
        ("https://h/v1", "wss://h/v1/responses"),
        ("wss://h/base/v1/responses", "wss://h/base/v1/responses"),
        ("localhost:8080", "ws://localhost:8080/v1/responses"),
        ("ws://h/v1?zone=a", "ws://h/v1/responses?zone=a"),
    ],
)
def test_any_form_of_a_gateways_url_will_do(url: str, address: str) -> None:
    assert socket_url(url) == address


@pytest.mark.parametrize("url", ["ftp://h", "ws://", "http:///v1"])
def test_other_urls_are_refused(url: str) -> None:
    with pytest.raises(InvalidInput):
        socket_url(url)
