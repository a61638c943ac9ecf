"""The signed header by which a skill knows for whom it works: `Headstart-Context`.

    Headstart-Context: <base64url of JSON>.<base64url of HMAC-SHA256 over the base64url text>

The JSON names the member (tenant, user), the locale, the deadline, the turn, the call and its claim, the skill, the
Idempotency-Key, the SHA-256 of the body and when it was made. So a skill can authorise the member without asking
back, and a header that was seen once fits no other arguments, skill or key. Base64url without padding (RFC 4648, 5).

Pure: time is an argument.
"""

from __future__ import annotations

import base64
import binascii
import functools
import hashlib
import hmac
from typing import Final

import msgspec

from streams.errors import NotPermitted

HEADER: Final = "Headstart-Context"
_URL_SAFE: Final = bytes.maketrans(b"+/", b"-_")
CLOCK_SKEW_MS: Final = 30_000  # how far a skill's clock may be from ours


class CallContext(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Who a call is for. deadline_at_ms: wall clock by which the turn has to end, 0 when there is none.

    key: sent as Idempotency-Key. claim: the claim's number, from 1. traceparent: W3C trace context, "" when none.
    conversation: where the turn lives. sent_before: a worker that is gone may have sent the request already and a
    second one could do harm, so only its result is waited for (over HTTP nothing can come back, and it is not set).
    """

    turn: str
    call: int
    tenant: str
    user: str
    claim: int = 1
    key: str = ""
    locale: str = ""
    deadline_at_ms: int = 0
    traceparent: str = ""
    conversation: str = ""
    sent_before: bool = False


class SignedContext(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the header says. at_ms: the sender's wall clock. body_sha256: hex digest of the request's body."""

    tenant: str
    user: str
    skill: str
    turn: str
    call: int
    claim: int
    at_ms: int
    body_sha256: str
    key: str = ""
    locale: str = ""
    deadline_at_ms: int = 0


def sign(context: CallContext, skill: str, body: bytes, now_ms: int, secret: str) -> str:
    """The header's value for one request. skill: the name in the url. secret: shared with the skill's owner."""
    payload = msgspec.json.encode(
        SignedContext(
            tenant=context.tenant, user=context.user, skill=skill, turn=context.turn, call=context.call,
            claim=context.claim, at_ms=now_ms, body_sha256=hashlib.sha256(body).hexdigest(), key=context.key,
            locale=context.locale, deadline_at_ms=context.deadline_at_ms,
        )
    )  # fmt: skip
    text = _base64(payload)
    return f"{text}.{_base64(_mac(text, secret))}"


def verify(header: str, skill: str, body: bytes, key: str, now_ms: int, secret: str) -> SignedContext:
    """The context of a request, when the header was made with `secret` for this skill, body and Idempotency-Key.

    Raises NotPermitted: `context_missing` ("" was given), `context_forged` (malformed, or another secret),
    `context_mismatched` (made for another request), `context_expired` (the turn's deadline is past, or a header
    without one is older than CLOCK_SKEW_MS).
    """
    if not header:
        raise NotPermitted(f"the {HEADER} header is missing", code="context_missing")
    text, _, signature = header.partition(".")
    forged = NotPermitted(f"the {HEADER} header is not signed with this service's key", code="context_forged")
    try:
        given = _unbase64(signature)
        if not hmac.compare_digest(given, _mac(text, secret)):
            raise forged
        context = msgspec.json.decode(_unbase64(text), type=SignedContext)
    except (ValueError, msgspec.DecodeError) as error:
        raise forged from error
    if (context.skill, context.key) != (skill, key) or context.body_sha256 != hashlib.sha256(body).hexdigest():
        raise NotPermitted(f"the {HEADER} header was made for another request", code="context_mismatched")
    last_ms = context.deadline_at_ms or context.at_ms
    if now_ms > last_ms + CLOCK_SKEW_MS:
        raise NotPermitted("the call came after its turn's deadline", code="context_expired")
    return context


@functools.lru_cache(64)
def _keyed(secret: str) -> hmac.HMAC:
    """HMAC-SHA256 with the secret taken in; half of a short text's signature is that."""
    return hmac.new(secret.encode(), digestmod="sha256")


def _mac(text: str, secret: str) -> bytes:
    mac = _keyed(secret).copy()
    mac.update(text.encode())
    return mac.digest()


def _base64(data: bytes) -> str:
    return binascii.b2a_base64(data, newline=False).translate(_URL_SAFE, b"=").decode()


def _unbase64(text: str) -> bytes:
    """Raises ValueError on anything but unpadded base64url."""
    if "+" in text or "/" in text:
        raise ValueError("not base64url")
    return base64.b64decode(text.encode("ascii") + b"=" * (-len(text) % 4), altchars=b"-_", validate=True)
