"""The bus face of a service: `call.requested` from `calls`, `call.result` to `turns`, signed with the service's key.

| what comes | what is done |
|---|---|
| a request for a skill of another service | passed over by its `ce_subject`, unparsed |
| a request whose deadline is past | passed over: nobody waits |
| a request without a right `Headstart-Context` | set aside on `dead_letters`; nothing is answered |
| wrong arguments, or the function raised CallerError | result with error "refused" |
| the function raised anything else | result with error "failed"; what it said is logged here and not sent |
| `call.abandoned` | a pure skill is cancelled; any other goes on |

An `irreversible` skill that does not enforce its key is taken at most once: the position is committed first
(`Delivery.claim`), so a process that dies in it leaves the call without a result, and the turn reports it as in doubt.
All others are taken at least once; the turn's owner drops a second result.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Final

import msgspec

from headstart.service_consumer import PEER_PAUSE_S, Delivery, set_aside
from headstart.service_host import NOBODY, ServedSkill, SkillHost
from streams import ids
from streams.bus import Bus
from streams.codec import Record, decode
from streams.errors import CallerError, HeadstartError, InvalidInput, NotPermitted, PeerError
from streams.events.calling import CallAbandoned, CallRequested
from streams.events.intake import CallResult
from streams.signing import signed
from streams.topology import TURNS
from workers.skills.bus_executor import CONTEXT_HEADER, SUBJECT_HEADER
from workers.skills.context import SignedContext, verify

log = logging.getLogger("headstart.service")
CONCURRENCY: Final = 64  # calls side by side in one process


class BusFace:
    """Answers the calls of one service. api_key: signs results; "" leaves them unsigned, which only a development
    profile takes. Its `take` is what a Consumer of `calls` is made with."""

    def __init__(self, host: SkillHost, bus: Bus, name: str, api_key: str) -> None:
        self._host, self._bus, self._name, self._api_key = host, bus, name, api_key
        self._running: dict[tuple[str, int, str], asyncio.Task[bytes]] = {}
        self._abandoned: set[tuple[str, int, str]] = set()

    async def take(self, delivery: Delivery) -> None:
        """One record of `calls`."""
        record = delivery.record
        subject = record.header(SUBJECT_HEADER)
        if subject is not None and subject.partition("@")[0] not in self._host.skills:
            return
        try:
            event = decode(record)
            if isinstance(event, CallAbandoned):
                self._stop(event)
            elif isinstance(event, CallRequested):
                await self._requested(delivery, event)
        except HeadstartError as error:
            log.warning("a record of calls was set aside: %s", error)
            await set_aside(self._bus, record, error, f"service/{self._name}")

    async def _requested(self, delivery: Delivery, request: CallRequested) -> None:
        name = request.skill.partition("@")[0]
        served = self._host.skills.get(name)
        if served is None:
            return
        if self._host.now_ms() > request.deadline_at_ms:
            log.info("a call of %s came after its deadline", name)
            return
        caller = self._caller(delivery.record, request, name)
        manifest = served.manifest
        if manifest.effect == "irreversible" and not manifest.idempotent_key and not await delivery.claim():
            return
        result = await self._run(served, request, caller)
        if result is not None:
            await self._publish(delivery.record, request, result)

    def _caller(self, record: Record, request: CallRequested, name: str) -> SignedContext:
        """Who the call is for. Raises NotPermitted."""
        secret = self._host.signing_key
        if secret is None:
            return NOBODY
        caller = verify(
            record.header(CONTEXT_HEADER) or "", name, record.value, request.key, self._host.now_ms(), secret
        )  # fmt: skip
        if (caller.tenant, caller.user, caller.turn) != (request.tenant, request.user, request.turn):
            raise NotPermitted("the context was made for another call", code="context_mismatched")
        return caller

    async def _run(self, served: ServedSkill, request: CallRequested, caller: SignedContext) -> CallResult | None:
        """The call's outcome; None when nobody waits for it any more."""
        place = (request.turn, request.call, request.key)
        said = CallResult(
            turn=request.turn, call=request.call, claim=request.claim, at_ms=0, key=request.key, tenant=request.tenant
        )  # fmt: skip
        try:
            body = msgspec.json.encode(request.arguments, order="deterministic")
            work = await self._host.begin(served, request.key, body, request.arguments, caller)
            if served.manifest.effect == "pure":
                self._running[place] = work
            text = (await work).decode()
            said = msgspec.structs.replace(said, result=_bounded(text, served.manifest.result_bytes))
        except asyncio.CancelledError:
            if place in self._abandoned:
                self._abandoned.discard(place)
                return None
            raise  # this process ends: the record stays unfinished
        except CallerError as error:
            log.info("a call of %s was refused: %s", request.skill, error.code)
            said = msgspec.structs.replace(said, error="refused")
        except Exception:
            log.exception("a call of %s failed", request.skill)
            said = msgspec.structs.replace(said, error="failed", retriable=True)
        finally:
            if (work_left := self._running.pop(place, None)) is not None and not work_left.done():
                work_left.cancel()
        return msgspec.structs.replace(said, at_ms=self._host.now_ms())

    def _stop(self, event: CallAbandoned) -> None:
        place = (event.turn, event.call, event.key)
        if work := self._running.pop(place, None):
            self._abandoned.add(place)
            work.cancel()

    async def _publish(self, record: Record, request: CallRequested, result: CallResult) -> None:
        """Until the log has it, or nobody waits any more. The same request gives the same id, so a repeat is seen."""
        event_id = f"{record.event_id}/result"
        key = request.conversation
        extra = signed(result, event_id, TURNS.name, key, self._api_key) if self._api_key else []
        partition = ids.partition_of(request.turn)
        while True:
            try:
                await self._bus.publish(TURNS.name, partition, key, result, event_id, f"service/{self._name}", extra)
                return
            except InvalidInput as error:
                log.error("a result of %s could not be written: %s", request.skill, error.code)
                return
            except PeerError as error:
                if self._host.now_ms() > request.deadline_at_ms:
                    log.error("a result of %s was lost, and nobody waits for it: %s", request.skill, error.code)
                    return
                log.warning("a result waits for the bus: %s", error)
                await asyncio.sleep(PEER_PAUSE_S)


def _bounded(text: str, limit: int) -> str:
    """Enough of a result that is too long for its reader to see that it is."""
    return text if len(text) <= limit else text[: limit + 1]
