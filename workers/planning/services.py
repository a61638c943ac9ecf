"""Who may say what on `turns`: a service what it has signed, for its own tenant; a gateway what members ask for.

Both sign (streams/signing.py). Without HEADSTART_SIGNING_KEY, which is for development, a gateway's commands are not
signed and whoever may write to `turns` is believed to be one.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from memory.rows import Principal
from memory.store import Store
from streams.codec import Record
from streams.errors import NotPermitted
from streams.events import Event
from streams.events.intake import CallResult, FactPublish, TurnSubmit
from streams.signing import GATEWAY, KEY_HEADER, verify

Check = Callable[[Store, Record, str], Awaitable[str]]
"""Gives who signed a service's record: `check_service`, a ServiceGate, or a recording's word for it."""


def from_service(event: Event) -> bool:
    """Whether the event is one that only a service sends."""
    return isinstance(event, FactPublish | CallResult) or (isinstance(event, TurnSubmit) and event.origin == "service")


def from_gateway(record: Record, secret: bytes | None) -> bool:
    """Whether the record carries a gateway's signature; without a secret every record that no service signed does.

    Raises NotPermitted (`signature_missing`, `signature_wrong`) for one that says so and is not.
    """
    signer = record.header(KEY_HEADER)
    if secret is None:
        return signer in (None, GATEWAY)
    if signer != GATEWAY:
        return False
    verify(record, secret)
    return True


async def check_service(store: Store, record: Record, tenant: str) -> str:
    """The user of the key that signed the record. tenant: the one that the event speaks for, "" when it names none.

    Raises as `signer`, NotPermitted (`wrong_tenant`), and what the store raises.
    """
    principal = await signer(store, record)
    if tenant and principal.tenant != tenant:
        raise NotPermitted("the key belongs to another tenant", code="wrong_tenant", key_id=principal.key_id)
    return principal.user


async def signer(store: Store, record: Record) -> Principal:
    """Who signed the record. Raises NotPermitted: `signature_missing`, `signature_wrong`, `key_unknown` (or revoked),
    `not_a_service` (the key may not publish); and what `Store.signing_secret` raises."""
    key_id = record.header(KEY_HEADER)
    if key_id is None:
        raise NotPermitted("a service's record is signed", code="signature_missing", type=record.type)
    found = await store.signing_secret(key_id)
    if found is None:
        raise NotPermitted("the service's key is unknown or revoked", code="key_unknown", key_id=key_id)
    principal, secret = found
    verify(record, secret)
    if not principal.service:
        raise NotPermitted("the key may not publish", code="not_a_service", key_id=key_id)
    return principal
