"""Calls of skills outside a turn, through the very executors that turns use: arguments checked, hosts guarded, limits
kept, calls over the bus signed and their results taken from their owners only.

What a turn adds is missing here, so less may be done: nobody can be asked, so a skill that wants approval is refused;
there is no claim, so a call that was sent and has no result is in doubt and is never sent again, unless that does no
harm; and by default only pure skills are called at all.

Each call is a turn of its own as far as skills can tell: an id on one partition of `turns`, whose results are read
here. The turns worker of that partition sees a result for a turn that is none of its, and passes over it.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from headstart.mcp.live_catalog import LiveCatalog
from memory.rows import Principal
from memory.store import Store
from streams import ids
from streams.bus import Bus, Reader
from streams.codec import Record, decode
from streams.errors import HeadstartError, InvalidInput, NotPermitted, PeerError
from streams.events.intake import CallResult
from streams.events.registering import SkillManifest
from streams.topology import TURNS
from workers.planning.services import Check
from workers.skills.bus_executor import BusExecutor
from workers.skills.context import CallContext
from workers.skills.execution import Executors, Outcome
from workers.skills.executor import HttpExecutor
from workers.skills.manifest import validate_arguments

log = logging.getLogger("headstart.mcp")
RETRY_S: Final = 1.0
GRACE_MS: Final = 1_000  # the skill's own time ends first, and the error says so


class DirectCalls:
    """Belongs to one event loop, between `start` and `close`.

    http: its signing key, limits and clock are shared with the calls over the bus. check: judges results as a turns
    worker does (ServiceGate). every_effect: skills that are not pure may be called too.
    """

    def __init__(
        self, bus: Bus, store: Store, http: HttpExecutor, check: Check, *, every_effect: bool = False,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
        random_bytes: Callable[[int], bytes] = os.urandom,
    ) -> None:  # fmt: skip
        self.catalog = LiveCatalog(bus)
        self._bus, self._store, self._check, self._every_effect = bus, store, check, every_effect
        self._over_bus = BusExecutor(
            bus, signing_key=http.signing_key, source=f"mcp/{random_bytes(6).hex()}", limits=http.limits
        )
        self._executors = Executors(http, self._over_bus)
        self._now_ms, self._random_bytes = now_ms, random_bytes
        self._partition = int.from_bytes(random_bytes(4), "big") % bus.partitions
        self._reader: Reader | None = None
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Raises what the bus raises."""
        await self.catalog.start()
        self._reader = await self._bus.reader(TURNS.name, {self._partition: "latest"})
        self._task = asyncio.create_task(self._results(self._reader), name="results of direct calls")

    async def close(self) -> None:
        """Calls over the bus that wait get no result any more. Safe twice."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self._reader is not None:
            await self._reader.close()
        self._task = self._reader = None
        await self.catalog.close()

    def offered(self, principal: Principal) -> list[SkillManifest]:
        """The skills that this principal may call, by name."""
        return [one for one in self.catalog.in_force(principal.tenant) if self._refusal(one) is None]

    async def call(self, principal: Principal, name: str, arguments: Mapping[str, Any]) -> Outcome:
        """Raises InvalidInput (`unknown_skill`, and as validate_arguments), NotPermitted (`approval_required`,
        `effect_not_offered`), and the errors of failures.py. After a cancel its effect may have happened."""
        manifest = self.catalog.by_name(name, principal.tenant)
        if manifest is None:
            raise InvalidInput("there is no such skill in force", code="unknown_skill")
        refusal = self._refusal(manifest)
        if refusal is not None:
            raise refusal
        validate_arguments(manifest, arguments)
        now_ms = self._now_ms()
        conversation = ids.conversation_id(self._partition, now_ms, self._random_bytes(10))
        turn = ids.turn_id(conversation, now_ms, self._random_bytes(10))
        context = CallContext(
            turn=turn, call=0, tenant=principal.tenant, user=principal.user, key=self._random_bytes(16).hex(),
            conversation=conversation, deadline_at_ms=now_ms + manifest.timeout_ms + GRACE_MS,
        )  # fmt: skip
        work = asyncio.ensure_future(self._executors.call(manifest, arguments, context))
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            self._over_bus.abandon(turn, 0)  # while the call is still known
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)
            raise
        finally:
            self._over_bus.forget(turn)

    def _refusal(self, manifest: SkillManifest) -> NotPermitted | None:
        if manifest.effect != "pure" and not self._every_effect:
            return NotPermitted(f"{manifest.name} changes something, which is not offered", code="effect_not_offered")
        if manifest.approval:
            return NotPermitted(
                f"{manifest.name} needs a person's approval",
                code="approval_required",
                hint="ask the assistant to do it",
            )
        return None

    async def _results(self, reader: Reader) -> None:
        while True:
            try:
                records = await reader.batch()
            except PeerError as error:
                log.warning("results wait for the bus: %s", error.code)
                await asyncio.sleep(RETRY_S)
                continue
            for record in records:
                if record.type == CallResult.TYPE:
                    await self._result(record)

    async def _result(self, record: Record) -> None:
        """Takes a result that a call here waits for; others are none of ours."""
        try:
            event = decode(record)
        except HeadstartError:
            return
        while isinstance(event, CallResult) and self._over_bus.awaits(event):
            try:
                signer = await self._check(self._store, record, event.tenant)
                _ = self._over_bus.take(event, record.event_id, signer, lambda: None)
                return
            except PeerError as error:
                log.warning("a result waits for a peer: %s", error.code)
                await asyncio.sleep(RETRY_S)
            except HeadstartError as error:
                log.warning("a result was refused: %s", error.code)
                return
