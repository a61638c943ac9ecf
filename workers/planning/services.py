"""What a service says on `turns` counts only with its signature, for its own tenant.

A gateway's records are not signed: who may produce to `turns` as a gateway is the broker's to say (its access rules).
A record that says it comes from a service is held to that.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from memory.store import Store
from streams.codec import Record
from streams.errors import NotPermitted
from streams.events import Event
from streams.events.intake import CallResult, FactPublish, TurnSubmit
from streams.signing import KEY_HEADER, verify

Check = Callable[[Store, Record, str], Awaitable[str]]
"""`check_service`, or a recording's word for it."""


def from_service(event: Event) -> bool:
    """Whether the event is one that only a service sends."""
    return isinstance(event, FactPublish | CallResult) or (isinstance(event, TurnSubmit) and event.origin == "service")


async def check_service(store: Store, record: Record, tenant: str) -> str:
    """The id of the key that signed the record. tenant: the one that the event speaks for, "" when it names none.

    Raises NotPermitted: `signature_missing`, `signature_wrong`, `key_unknown` (or revoked), `not_a_service` (the key
    may not publish), `wrong_tenant`; and what `Store.signing_secret` raises.
    """
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
    if tenant and principal.tenant != tenant:
        raise NotPermitted("the key belongs to another tenant", code="wrong_tenant", key_id=key_id)
    return key_id
