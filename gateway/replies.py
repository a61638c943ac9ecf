"""Typed errors as a client meets them: an `error` frame on a socket, a body with a status over HTTP. Pure."""

from __future__ import annotations

from typing import Any, Final

from gateway.frame import control
from streams.errors import (
    CallerError,
    HeadstartError,
    NotFound,
    NotPermitted,
    PeerError,
    PeerTimeout,
    Refused,
)

_STATUS_OF_CODE: Final = {
    "unauthorized": 401,
    "rate_limited": 429,
    "too_many_requests": 429,
    "frame_too_large": 413,
    "body_too_large": 413,
    "body_too_slow": 408,
    "no_worker": 503,
    "draining": 503,
    "deadline": 504,
}


def status_of(error: HeadstartError) -> int:
    """The HTTP status that says the same."""
    if error.code in _STATUS_OF_CODE:
        return _STATUS_OF_CODE[error.code]
    if isinstance(error, NotPermitted):
        return 403
    if isinstance(error, NotFound):
        return 404
    if isinstance(error, Refused):
        return 409
    if isinstance(error, CallerError):
        return 400
    if isinstance(error, PeerTimeout):
        return 504
    return 503 if isinstance(error, PeerError) else 500


def error_body(error: HeadstartError) -> dict[str, Any]:
    """The `error` object of OpenAI's API, with a hint and whether trying again helps."""
    status = status_of(error)
    kind = "invalid_request_error" if status < 500 else "server_error"
    if status == 401:
        kind = "authentication_error"
    elif status == 429:
        kind = "rate_limit_error"
    return {
        "type": kind,
        "code": error.code,
        "message": error.message,
        "param": error.facts.get("param"),
        "hint": error.hint,
        "fault": error.fault,
        "retriable": error.retriable or status in (429, 503),
    }


def error_frame(
    error: HeadstartError, event_id: str = "", stream_id: str | None = None, response_id: str = ""
) -> bytes:
    """The `error` frame for one socket: without a cursor, since the log does not hold it."""
    fields: dict[str, Any] = {"error": error_body(error), "status": status_of(error)}
    if event_id:
        fields["event_id"] = event_id
    if response_id:
        fields["response_id"] = response_id
    return control("error", fields, stream_id)
