"""What a service puts on the bus is signed with its key: two CloudEvents extension attributes beside the others.

    ce_keyid       the id of the service's API key, `key_` + 12 hex digits; it is no secret
    ce_signature   hex HMAC-SHA256, with the SHA-256 of the whole key as the secret, over the event's type, its id, the
                   topic, the record's key and the value, each preceded by its length as 4 bytes

A gateway signs its commands the same way: `ce_keyid` is `gateway`, the secret is made of HEADSTART_SIGNING_KEY, which
gateways and workers share. So whoever may write to `turns` and has no more than a service's key can not speak for a
member of another tenant.

Only the key's SHA-256 is stored on the other side, and it is enough to check a signature. The owner of the partition
asks for it by `ce_keyid`, checks, and compares the key's tenant with the one that the event names.
Pure.
"""

from __future__ import annotations

import hashlib
import hmac
import re

from streams.codec import Headers, Record, encode
from streams.errors import InvalidInput, NotPermitted
from streams.events import Event

KEY_HEADER = "ce_keyid"
SIGNATURE_HEADER = "ce_signature"
GATEWAY = "gateway"
_KEY = re.compile(r"hs_([0-9a-f]{12})_[A-Za-z0-9_-]{43}")


def key_id(api_key: str) -> str:
    """The id of a plain API key. Raises InvalidInput (`invalid_key`) when it is not one."""
    match = _KEY.fullmatch(api_key)
    if match is None:
        raise InvalidInput("an API key is 'hs_', 12 hex digits, '_' and 43 characters", code="invalid_key")
    return f"key_{match[1]}"


def signed(event: Event, event_id: str, topic: str, record_key: str, api_key: str) -> Headers:
    """The extra headers for `Bus.publish` with these same arguments. Raises InvalidInput (`invalid_key`)."""
    return _signed(event, event_id, topic, record_key, key_id(api_key), hashlib.sha256(api_key.encode()).digest())


def command_secret(signing_key: str) -> bytes:
    """What gateways sign their commands with. Another secret than what HEADSTART_SIGNING_KEY signs elsewhere."""
    return hmac.digest(signing_key.encode(), b"headstart: commands of gateways", "sha256")


def signed_by_gateway(event: Event, event_id: str, topic: str, record_key: str, secret: bytes) -> Headers:
    """The extra headers for `Bus.publish` with these same arguments. secret: of `command_secret`."""
    return _signed(event, event_id, topic, record_key, GATEWAY, secret)


def _signed(event: Event, event_id: str, topic: str, record_key: str, name: str, secret: bytes) -> Headers:
    _, value = encode(event, event_id, "")
    signature = _mac(secret, event.TYPE, event_id, topic, record_key.encode(), value)
    return [(KEY_HEADER, name.encode()), (SIGNATURE_HEADER, signature.encode())]


def verify(record: Record, secret: bytes) -> None:
    """Raises NotPermitted (`signature_missing`, `signature_wrong`) unless the record was signed with this secret, the
    32 bytes that Store.signing_secret gives for the record's `ce_keyid`, or `command_secret`."""
    given = record.header(SIGNATURE_HEADER)
    if given is None:
        raise NotPermitted("the record is not signed", code="signature_missing", type=record.type)
    expected = _mac(secret, record.type, record.event_id, record.topic, record.key or b"", record.value)
    if not hmac.compare_digest(given.encode(), expected.encode()):
        raise NotPermitted("the record's signature is wrong", code="signature_wrong", type=record.type)


def _mac(secret: bytes, kind: str, event_id: str, topic: str, record_key: bytes, value: bytes) -> str:
    parts = (kind.encode(), event_id.encode(), topic.encode(), record_key, value)
    return hmac.digest(secret, b"".join(len(part).to_bytes(4, "big") + part for part in parts), "sha256").hex()
