"""What a gateway says went wrong, as the typed errors of `streams.errors`.

Three places say it: an `error` frame or a failed response, the close code of the socket, and the HTTP status of a
refused handshake. Each becomes one error whose class tells whose fault it was; for the last two, None means that
connecting again is what helps.

Pure.
"""

from __future__ import annotations

from typing import Any, Final

from streams.errors import (
    CallerError,
    HeadstartError,
    InvalidInput,
    NotFound,
    NotPermitted,
    OurError,
    PeerError,
    PeerTimeout,
    PeerUnavailable,
    Refused,
)

_BY_CODE: Final[dict[str, type[HeadstartError]]] = {
    kind.default_code: kind
    for kind in (InvalidInput, NotPermitted, NotFound, Refused, PeerError, PeerTimeout, PeerUnavailable, OurError)
}
_BY_FAULT: Final[dict[str, type[HeadstartError]]] = {"caller": CallerError, "peer": PeerError, "ours": OurError}
_PERMITTED_WORDS: Final = ("not_permitted", "unauthorized", "invalid_api_key", "forbidden")
_REFUSED_WORDS: Final = (
    "busy",
    "quota",
    "rate_limit",
    "too_many",
    "draining",
    "already_completed",
    "not_active",
    "expired",
)
_NOT_FACTS: Final = frozenset({"type", "code", "message", "hint", "fault", "sequence_number", "cursor"})
# RFC 6455 7.4.1: the endpoint said why it will not talk on; the same frames on a new socket end the same way.
_FINAL_CLOSE: Final[dict[int, type[HeadstartError]]] = {
    1002: OurError,
    1003: InvalidInput,
    1007: InvalidInput,
    1008: NotPermitted,
    1009: InvalidInput,
    1010: OurError,
}


def error_of(frame: dict[str, Any]) -> HeadstartError:
    """The error that an `error` frame, or an error object, describes: `code`, `message`, `hint`, `fault`, `status`.

    Unknown codes become the class of their fault, or of their HTTP status when they do not say whose fault it was.
    Other plain fields (ids, `param`) are the error's `facts`.
    """
    inner = frame.get("error")
    facts = {**frame, **inner} if isinstance(inner, dict) else frame
    code = str(facts.get("code") or "error")
    message = str(facts.get("message") or code)
    hint = facts.get("hint")
    status = facts.get("status")
    fault = facts.get("fault") or ("peer" if isinstance(status, int) and status >= 500 else "caller")
    kind = _BY_CODE.get(code) or _class_by_words(code) or _BY_FAULT.get(str(fault), CallerError)
    rest = {
        name: value
        for name, value in facts.items()
        if name not in _NOT_FACTS and isinstance(value, str | int | float | bool)
    }
    return kind(message, code=code, hint=str(hint) if hint else None, **rest)


def error_of_response(response: dict[str, Any]) -> HeadstartError:
    """The error of a failed response: its own code and fault from `headstart`, the standard's otherwise."""
    facts: dict[str, Any] = {"fault": "ours", "code": "internal_error", "message": "the response failed"}
    for part in (response.get("error"), response.get("headstart")):
        facts.update(part if isinstance(part, dict) else {})
    return error_of({**facts, "response_id": str(response.get("id", ""))})


def history_gone(response: str) -> PeerError:
    """A turn whose beginning has aged out of the log can not be told whole any more."""
    return PeerError(
        "the log no longer holds the rest of this turn", code="history_gone",
        hint="attach to the conversation from 'start'", response_id=response,
    )  # fmt: skip


def frames_missing(response: str, expected: int, received: int) -> PeerError:
    """The numbers of a response's frames have a hole that does not close."""
    return PeerError(
        "the gateway leaves out frames of this turn", code="frames_missing", response_id=response, expected=expected,
        received=received,
    )  # fmt: skip


def error_of_close(code: int, reason: str) -> HeadstartError | None:
    """What a close code says, or None when the client should connect again (also for 1000: a server that ends in
    good order is one that another replaces)."""
    kind = _FINAL_CLOSE.get(code)
    if kind is None and not 4000 <= code <= 4999:
        return None
    return (kind or Refused)(reason or f"the gateway closed the socket with code {code}", close_code=code)


def error_of_handshake(status: int) -> HeadstartError | None:
    """What the HTTP status of a refused handshake says, or None when trying again may help."""
    if status in (401, 403):
        return NotPermitted("the gateway refused the key", hint="pass a key made by `headstart keys`", status=status)
    if status == 404:
        return NotFound("no Headstart gateway answers at this address", hint="the URL ends in /v1", status=status)
    if status in (408, 425, 429) or status >= 500:
        return None
    return InvalidInput(f"the gateway answered the handshake with HTTP status {status}", status=status)


def _class_by_words(code: str) -> type[HeadstartError] | None:
    if any(word in code for word in _PERMITTED_WORDS):
        return NotPermitted
    if code.endswith("_not_found") or code.startswith("unknown_"):
        return NotFound
    if any(word in code for word in _REFUSED_WORDS):
        return Refused
    if code.startswith("invalid_") or code.endswith("_too_large"):
        return InvalidInput
    return None
