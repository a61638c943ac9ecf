"""What a service's record has to be before a turns worker acts on it: signed, for its own tenant, new, small enough,
within its quota.

In this order, each refusal by name: the signature and the key's scope (services.py), the tenant, the size
(`fact_too_large`), its time (`out_of_time`), whether this record's id was taken before (`replayed`), the quota of its
key (`over_quota`).

A key speaks for its tenant. With the scope `every_tenant` it may also answer calls for the turns of every tenant, and
nothing else of them.

An id is taken at one place of `turns` only: the first place is kept in the store, so a record that is read again from
there passes, and the same record put on the bus once more does not. A sender that does not know whether its record
arrived may send it again: one of the two is refused, and it is set aside by name. What was taken is forgotten after
KEPT_MS; by then the record's own time, which its signature covers, is out of bounds (`out_of_time`).

The quota is a token bucket for each key, kept in the store, so that all workers together take no more: a minute's worth
may come at once. It counts turns and facts, each once, whoever reads it again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Final

import msgspec

from memory.keys import EVERY_TENANT_SCOPE, QUOTA_SCOPE
from memory.store import Store
from streams.codec import Record
from streams.errors import InvalidInput, NotPermitted, Refused
from streams.events.intake import FACT_BYTES, CallResult, FactPublish
from streams.signing import KEY_HEADER
from streams.topology import DAY_MS
from workers.planning.services import signer

QUOTA_PER_MINUTE: Final = 600
AGE_MS: Final = 13 * DAY_MS  # at most between a record's own time and its reading; `turns` is kept for 7 days
AHEAD_MS: Final = DAY_MS  # at most that a sender's clock may be ahead
KEPT_MS: Final = AGE_MS + AHEAD_MS + DAY_MS  # longer than any record can be read
FORGET_EVERY_MS: Final = 600_000


class _Dated(msgspec.Struct):
    """What every record that counts against a quota says of its time."""

    at_ms: int


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
        self._forget_at_ms = 0.0

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
        self._in_time(record)
        place = f"{self._log():08x}/{record.partition}/{record.offset}"
        name = hashlib.sha256(f"{record.header(KEY_HEADER)} {record.event_id}".encode()).hexdigest()[:32]
        quota, now_ms = _quota(principal.scopes, self._quota), int(self._clock_ms())
        admitted = await store.admit(name, place, principal.key_id, quota, now_ms)
        if admitted.replayed:
            raise NotPermitted("this record was taken before", code="replayed", type=record.type)
        if admitted.wait_ms:
            wait_ms = round(admitted.wait_ms)
            raise Refused(
                f"the service's quota is {quota} turns and facts a minute", code="over_quota",
                hint=f"send it again in {wait_ms} ms, under another id", type=record.type, retry_after_ms=wait_ms,
            )  # fmt: skip
        if now_ms >= self._forget_at_ms:
            self._forget_at_ms = now_ms + FORGET_EVERY_MS
            _ = await store.forget_records(now_ms - KEPT_MS)
        return principal.user

    def _in_time(self, record: Record) -> None:
        """Raises InvalidInput (`out_of_time`)."""
        age_ms = self._clock_ms() - msgspec.json.decode(record.value, type=_Dated).at_ms
        if not -AHEAD_MS <= age_ms <= AGE_MS:
            raise InvalidInput(
                "a record is taken up to 13 days after its `at_ms`, and one day before", code="out_of_time",
                age_ms=round(age_ms), hint="at_ms is when it was published, in milliseconds since the epoch",
            )  # fmt: skip


def _quota(scopes: tuple[str, ...], usual: int) -> int:
    named = [scope.removeprefix(QUOTA_SCOPE) for scope in scopes if scope.startswith(QUOTA_SCOPE)]
    return max(1, int(named[0])) if named and named[0].isdecimal() else usual
