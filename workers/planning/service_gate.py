"""What a service's record has to be before a turns worker acts on it: signed, for its own tenant, new, small enough,
within its quota.

In this order, each refusal by name: the signature and the key's scope (services.py), the tenant, the size
(`fact_too_large`), whether this record's id was taken before (`replayed`), the quota of its key (`over_quota`).

A key speaks for its tenant. With the scope `every_tenant` it may also answer calls for the turns of every tenant, and
nothing else of them.

An id is taken at one place of `turns` only: the first place is claimed in the store, so a record that is read again
from there passes, and the same record put on the bus once more does not, however much later. A sender that does not
know whether its record arrived may send it again: one of the two is refused, and it is set aside by name.

The quota is a token bucket for each key: a minute's worth may come at once. It counts turns and facts, in each turns
worker for itself, so it bounds what one worker takes from a service.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from memory.keys import EVERY_TENANT_SCOPE, QUOTA_SCOPE
from memory.store import Store
from streams.codec import Record
from streams.errors import InvalidInput, NotPermitted, Refused
from streams.events.intake import FACT_BYTES, CallResult, FactPublish
from streams.signing import KEY_HEADER
from workers.planning.services import signer

QUOTA_PER_MINUTE: Final = 600
BUCKETS: Final = 10_000  # keys whose use is remembered; the longest unused is forgotten, and starts full
CHARGED: Final = 1_000
CLAIM_LEASE_MS: Final = 1  # a claim with the same number is never taken over; the lease is not used


class ServiceGate:
    """A `Check` (services.py). log: names the log that offsets are about (Bus.epoch); None while it is not known.

    quota_per_minute: for keys whose scopes name none (`quota=N`). allow_unsigned: a development profile, in which a
    record without a signature is taken as it is.
    """

    def __init__(
        self, log: Callable[[], int], clock_ms: Callable[[], float], *, quota_per_minute: int = QUOTA_PER_MINUTE,
        allow_unsigned: bool = False,
    ) -> None:  # fmt: skip
        self._log, self._clock_ms = log, clock_ms
        self._quota, self._allow_unsigned = quota_per_minute, allow_unsigned
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()  # key id -> (tokens, at_ms)
        self._charged: OrderedDict[str, None] = OrderedDict()  # places: asked about again when a peer was away

    async def __call__(self, store: Store, record: Record, tenant: str) -> str:
        """The user of the key that signed the record, "" for one that is not signed where that is allowed. tenant: the
        one that the event speaks for. Raises NotPermitted, InvalidInput, Refused as said above, and what the store
        raises."""
        if self._allow_unsigned and record.header(KEY_HEADER) is None:
            return ""
        principal = await signer(store, record)
        anywhere = record.type == CallResult.TYPE and EVERY_TENANT_SCOPE in principal.scopes
        if principal.tenant != tenant and not anywhere:
            raise NotPermitted("the key belongs to another tenant", code="wrong_tenant", key_id=principal.key_id)
        if record.type == CallResult.TYPE:
            return principal.user  # told apart by the call it answers, and as many as were asked for
        if record.type == FactPublish.TYPE and len(record.value) > FACT_BYTES:
            raise InvalidInput(
                f"a fact has at most {FACT_BYTES} bytes", code="fact_too_large", size_bytes=len(record.value),
                hint="publish where the rest can be found",
            )  # fmt: skip
        place = f"{self._log():08x}/{record.partition}/{record.offset}"
        await self._once(store, record, place)
        if place not in self._charged:
            self._take(principal.key_id, _quota(principal.scopes, self._quota), record)
            self._charged[place] = None
            if len(self._charged) > CHARGED:
                _ = self._charged.popitem(last=False)
        return principal.user

    async def _once(self, store: Store, record: Record, place: str) -> None:
        """Raises NotPermitted (`replayed`) when this id was taken at another place before."""
        name = hashlib.sha256(f"{record.header(KEY_HEADER)} {record.event_id}".encode()).hexdigest()[:32]
        first = await store.claim(
            f"record_{name}", 0, "", 1, CLAIM_LEASE_MS, place, int(self._clock_ms())
        )  # fmt: skip
        if not first:
            raise NotPermitted("this record was taken before", code="replayed", type=record.type)

    def _take(self, key_id: str, quota: int, record: Record) -> None:
        """Raises Refused (`over_quota`)."""
        now_ms = self._clock_ms()
        tokens, at_ms = self._buckets.pop(key_id, (float(quota), now_ms))
        tokens = min(float(quota), tokens + max(0.0, now_ms - at_ms) * quota / 60_000)
        self._buckets[key_id] = (tokens - 1 if tokens >= 1 else tokens, now_ms)
        if len(self._buckets) > BUCKETS:
            _ = self._buckets.popitem(last=False)
        if tokens < 1:
            wait_ms = round((1 - tokens) * 60_000 / quota)
            raise Refused(
                f"the service's quota is {quota} turns and facts a minute", code="over_quota",
                hint=f"send it again in {wait_ms} ms, under another id", type=record.type, retry_after_ms=wait_ms,
            )  # fmt: skip


def _quota(scopes: tuple[str, ...], usual: int) -> int:
    named = [scope.removeprefix(QUOTA_SCOPE) for scope in scopes if scope.startswith(QUOTA_SCOPE)]
    return max(1, int(named[0])) if named and named[0].isdecimal() else usual
