"""The part of the store in memory that has nothing to do with what was said: keys, what services may write, claims of
calls, skills."""

from __future__ import annotations

import math
import secrets
from collections.abc import Sequence

import msgspec

from memory.keys import SERVICE_SCOPE, hash_key, new_key
from memory.rows import Admission, ClaimRow, KeyRow, Principal, Vector
from streams.events.registering import SkillManifest

replace = msgspec.structs.replace


class RegistryMemory:
    """Half of memory_store.MemoryStore; memory.store.Store says what each method does."""

    def __init__(self, dimensions: int) -> None:
        self.dimensions = dimensions
        self._keys: dict[bytes, KeyRow] = {}
        self._claims: dict[tuple[str, int], ClaimRow] = {}
        self._skills: dict[str, tuple[SkillManifest, Vector]] = {}
        self._records: dict[str, tuple[str, int, float]] = {}  # record -> place, taken_at_ms, wait_ms
        self._quotas: dict[str, tuple[float, int]] = {}  # key -> tokens, at_ms

    # keys

    async def create_key(self, tenant: str, user: str, name: str, scopes: Sequence[str], now_ms: int) -> str:
        key_id, key = new_key(secrets.token_bytes)
        self._keys[hash_key(key)] = KeyRow(
            key_id=key_id, tenant=tenant, user=user, name=name, scopes=tuple(scopes), created_at_ms=now_ms
        )
        return key

    async def verify_key(self, key: str) -> Principal | None:
        row = self._keys.get(hash_key(key))
        return None if row is None or row.revoked_at_ms is not None else _principal(row)

    async def keys(self, tenant: str = "") -> list[KeyRow]:
        rows = [row for row in self._keys.values() if tenant in ("", row.tenant)]
        return sorted(rows, key=lambda row: (row.created_at_ms, row.key_id))

    async def revoke_key(self, key_id: str, now_ms: int) -> bool:
        for hashed, row in self._keys.items():
            if row.key_id == key_id and row.revoked_at_ms is None:
                self._keys[hashed] = replace(row, revoked_at_ms=now_ms)
                return True
        return False

    async def signing_secret(self, key_id: str) -> tuple[Principal, bytes] | None:
        for hashed, row in self._keys.items():
            if row.key_id == key_id and row.revoked_at_ms is None:
                return _principal(row), hashed
        return None

    # services

    async def admit(self, record: str, place: str, key_id: str, per_minute: int, now_ms: int) -> Admission:
        if (known := self._records.get(record)) is not None:
            return Admission(known[0] != place, known[2])
        tokens, at_ms = self._quotas.get(key_id, (float(per_minute), now_ms))
        have = min(float(per_minute), tokens + max(0, now_ms - at_ms) * per_minute / 60_000)
        wait_ms = 0.0 if have >= 1 else (1 - have) * 60_000 / per_minute
        self._quotas[key_id] = (have if wait_ms else have - 1, max(at_ms, now_ms))
        self._records[record] = (place, now_ms, wait_ms)
        return Admission(False, wait_ms)

    async def forget_records(self, before_ms: int) -> int:
        old = [record for record, (_, taken_at_ms, _) in self._records.items() if taken_at_ms < before_ms]
        for record in old:
            del self._records[record]
        return len(old)

    # calls

    async def claim(
        self, turn: str, call: int, argument_hash: str, number: int, lease_ms: int, writer: str, now_ms: int
    ) -> bool:
        known = self._claims.get((turn, call))
        if known is not None and not may_claim(known, argument_hash, number, writer, now_ms):
            return False
        self._claims[turn, call] = ClaimRow(
            turn=turn, call=call, argument_hash=argument_hash, number=number, writer=writer,
            lease_until_ms=now_ms + lease_ms, outcome=None,
        )  # fmt: skip
        return True

    async def settle(self, turn: str, call: int, number: int, outcome: str) -> bool:
        known = self._claims.get((turn, call))
        if known is None or known.number != number or known.outcome not in (None, outcome):
            return False
        self._claims[turn, call] = replace(known, outcome=outcome)
        return True

    async def claimed(self, turn: str, call: int) -> ClaimRow | None:
        return self._claims.get((turn, call))

    # skills

    async def upsert_skill(self, manifest: SkillManifest, vector: Vector) -> None:
        self._check(vector)
        self._skills[manifest.name] = (manifest, vector)

    async def withdraw_skill(self, name: str) -> None:
        self._skills.pop(name, None)

    async def nearest_skills(self, tenant: str, vector: Vector, limit: int) -> list[tuple[str, float]]:
        self._check(vector)
        scored = [
            (manifest.id, cosine(stored, vector))
            for manifest, stored in self._skills.values()
            if not manifest.tenants or tenant in manifest.tenants
        ]
        return sorted(scored, key=lambda pair: (-pair[1], pair[0]))[:limit]

    def _check(self, vector: Vector) -> None:
        if len(vector) != self.dimensions:
            raise ValueError(f"a vector of {len(vector)} numbers where {self.dimensions} are stored")


def may_claim(known: ClaimRow, argument_hash: str, number: int, writer: str, now_ms: int) -> bool:
    """Whether a claim may take the place of `known`: the rule that Store.claim states."""
    same_arguments = known.argument_hash == argument_hash
    if known.outcome is not None:
        return number > known.number and not same_arguments
    if number == known.number:
        return same_arguments and writer == known.writer
    return number > known.number and known.lease_until_ms <= now_ms


def cosine(one: Vector, other: Vector) -> float:
    """Cosine of the angle between two vectors, 0.0 when one of them has no length."""
    norm = math.sqrt(sum(a * a for a in one)) * math.sqrt(sum(b * b for b in other))
    return sum(a * b for a, b in zip(one, other, strict=True)) / norm if norm else 0.0


def _principal(row: KeyRow) -> Principal:
    return Principal(
        tenant=row.tenant, user=row.user, service=SERVICE_SCOPE in row.scopes, scopes=row.scopes, key_id=row.key_id
    )
