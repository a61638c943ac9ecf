"""Enforcing an Idempotency-Key: the first request with a key does the work, every other one gets its outcome."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from streams.errors import CallerError, InvalidInput

KEPT_KEYS: Final = 10_000
KEEP_MS: Final = 24 * 3_600_000


class KeyLedger:
    """The keys one process has seen. now_ms: wall clock.

    Kept for `keep_ms`, the newest `kept_keys` of them; a skill whose effects must outlive its process keeps its own.
    """

    def __init__(self, now_ms: Callable[[], int], keep_ms: int = KEEP_MS, kept_keys: int = KEPT_KEYS) -> None:
        self._now_ms, self._keep_ms, self._kept_keys = now_ms, keep_ms, kept_keys
        self._seen: dict[str, tuple[int, bytes, asyncio.Task[bytes]]] = {}

    async def run(self, key: str, body: bytes, work: Callable[[], Awaitable[bytes]]) -> bytes:
        """The outcome of the key's one run of `work`, its error too; a request that is cancelled does not stop it.

        A refusal (CallerError) had no effect and is forgotten. Raises InvalidInput: `key_missing`, or `key_reused`
        when the key came with another body.
        """
        if not key:
            raise InvalidInput("this skill needs an Idempotency-Key", code="key_missing")
        self._forget()
        known = self._seen.get(key)
        if known is None:
            known = self._seen[key] = (self._now_ms(), body, asyncio.ensure_future(self._work(key, work)))
        _, first_body, task = known
        if first_body != body:
            raise InvalidInput("this Idempotency-Key came with other arguments before", code="key_reused")
        return await asyncio.shield(task)

    async def _work(self, key: str, work: Callable[[], Awaitable[bytes]]) -> bytes:
        try:
            return await work()
        except CallerError:
            del self._seen[key]
            raise

    def _forget(self) -> None:
        oldest_ms = self._now_ms() - self._keep_ms
        while self._seen:
            key, (at_ms, _, task) = next(iter(self._seen.items()))
            if not task.done() or (at_ms > oldest_ms and len(self._seen) < self._kept_keys):
                return
            del self._seen[key]
