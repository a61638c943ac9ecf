"""Calls carried out: claimed, fired, kept alive, answered, compensated.

A call's facts stand in a stage of their own, `call.<n>`, whose epoch is the number of its claim. While a request is in
flight its worker says so every second (`turn.heartbeat` in that stage): a successor that takes the turn over leaves
the call to the worker that fired it for as long as it is heard, and its result counts whoever asked for it.

The ledger (Postgres) is for every call that is not `pure`: claim, acknowledged `call.fired`, then the request. A claim
that somebody else made is waited for as long as it is renewed: whoever has it brings the outcome. One that nobody
renews and nobody settled is in doubt: an `irreversible` call in doubt is sent again only if its skill enforces the key;
otherwise it fails as `call_in_doubt` and the turn says so. A `reversible` one, or one whose skill enforces the key, is
sent again under the next number.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

from memory.store import Store
from streams import ids
from streams.errors import HeadstartError, OurError, PeerError
from streams.events.calling import CallAnswered, CallFailed, CallFired
from streams.events.intake import CallResult
from streams.events.turn import TurnAccepted, TurnHeartbeat
from streams.writer import StageWriter
from workers.planning.commands import Called, Compensate, Fire, Input
from workers.planning.patience import patiently
from workers.skills import failures
from workers.skills.compensation import compensation_arguments
from workers.skills.context import CallContext
from workers.skills.execution import Executors
from workers.skills.registry import SkillRegistry

log = logging.getLogger("headstart.turns")
Deliver = Callable[[Input], None]
MakeWriter = Callable[[int], StageWriter]
HEARTBEAT_S: Final = 1.0
LEDGER_LEASE_MS: Final = 3_000  # three heartbeats: a claim not renewed for this long may be taken by a higher number
CLAIM_RETRY_S: Final = 0.5


class Caller:
    """Sends the calls of every turn of one worker. clock_ms: wall clock in milliseconds."""

    def __init__(
        self, store: Store, registry: SkillRegistry, executor: Executors, writer: str, clock_ms: Callable[[], float]
    ) -> None:
        self._store, self._registry, self._executor = store, registry, executor
        self._writer, self.clock_ms = writer, clock_ms

    async def fire(self, accepted: TurnAccepted, item: Fire, make_writer: MakeWriter, deliver: Deliver) -> None:
        """Sends one call and writes its facts. A cancel aborts the request; nothing more is written then. Raises
        PeerError when the log does not take the outcome: for whoever takes the turn up again the call is in doubt.

        make_writer: the writer of the call's stage for a claim's number.
        """
        number, sent_before = item.claim, False
        started = time.perf_counter()
        pure = item.manifest.effect == "pure"
        course: _Course | None = None
        try:
            if not pure:
                won = await self._claim(accepted, item)
                if won is None:
                    return
                number, sent_before = won
            course = _Course(self, accepted, item, number, make_writer(number), sent_before)
            if not pure:
                await course.announce()
            async with course.alive():
                outcome = await self._executor.call(
                    item.manifest, item.arguments, course.context, course.on_sent if pure else None
                )  # fmt: skip
        except HeadstartError as error:
            held = course is not None
            if course is None:  # the ledger said no: the claim stays somebody else's
                course = _Course(self, accepted, item, number + 1, make_writer(number + 1))
            await course.written()
            in_doubt = await self._failed(item, course, deliver, error, _since(started))
            if held and not pure:
                await self._settle(accepted, item, number, "in_doubt" if in_doubt else "failed")
            self._executor.bus.settled(accepted.turn, item.call)
            return
        await course.written()
        answered = CallAnswered(
            call=item.call, result=outcome.result, status=outcome.status, took_ms=outcome.took_ms,
            at_ms=int(self.clock_ms()), size_bytes=outcome.size_bytes, cut=outcome.cut, attempts=outcome.attempts,
        )  # fmt: skip
        deliver(Called(answered, item.claim))
        if pure:
            kept = await course.writer.post(answered)
            kept.add_done_callback(lambda done: self._kept(accepted.turn, item.call, done))
        else:
            await course.writer.write(answered)
            await self._settle(accepted, item, number, "answered")
            self._executor.bus.settled(accepted.turn, item.call)

    def _kept(self, turn: str, call: int, done: asyncio.Future[int]) -> None:
        """The log has the outcome, so the record that brought it over the bus need not be read again."""
        if not done.cancelled() and done.exception() is None:
            self._executor.bus.settled(turn, call)

    def result(self, result: CallResult, event_id: str, signer: str, done: Callable[[], None]) -> str:
        """See doing.Calls."""
        return self._executor.bus.take(result, event_id, signer, done)

    def awaits(self, result: CallResult) -> bool:
        """See doing.Calls."""
        return self._executor.bus.awaits(result)

    def abort(self, turn: str, call: int) -> None:
        """See doing.Calls."""
        self._executor.bus.abandon(turn, call)

    def ended(self, turn: str) -> None:
        """See doing.Calls."""
        self._executor.bus.forget(turn)

    def given_away(self, turn: str) -> None:
        """See doing.Calls."""
        self._executor.bus.drop(turn)

    async def compensate(self, accepted: TurnAccepted, item: Compensate) -> None:
        """Calls the compensation of a reversible call. A failure is logged with the call's number: it is the
        operator's to settle."""
        manifest = self._registry.by_name(item.manifest.compensate)
        if manifest is None:
            log.error("no skill %s to compensate with, turn %s", item.manifest.compensate, accepted.turn)
            return
        key = ids.digest_hex("compensate", accepted.turn, str(item.call))[:32]
        deadline_at_ms = int(self.clock_ms()) + manifest.timeout_ms
        context = _context(accepted, item.call, 1, key, deadline_at_ms)
        try:
            undo = compensation_arguments(manifest, item.arguments, item.result)
            await self._executor.call(manifest, undo, context)
        except HeadstartError as error:
            log.error("call %d of turn %s was not undone: %s", item.call, accepted.turn, error.code)
        finally:
            self._executor.bus.settled(accepted.turn, item.call)

    async def _claim(self, accepted: TurnAccepted, item: Fire) -> tuple[int, bool] | None:
        """Wins the claim; gives its number, and whether the request of the one before may be under way: over the bus
        its result still comes, and only that is waited for. None when the call was carried out meanwhile: its outcome
        is in the log. Raises OurError: `call_in_doubt`, or `approval_used` when what was approved was carried out, or
        tried, by another turn."""
        number, sent_before = item.claim, False
        claimant, wanted = self._claimant(accepted, item), ids.digest_hex(item.key)
        until_ms = min(float(accepted.deadline_at_ms), self.clock_ms() + item.manifest.timeout_ms)
        while True:
            claimed = functools.partial(self._store.claimed, *_ledger_key(accepted, item))
            earlier = await patiently(claimed, until_ms, self.clock_ms)
            if earlier is not None and earlier.outcome is not None:
                if item.approval is not None and not earlier.writer.endswith(accepted.turn):
                    raise OurError("this request was carried out before; ask for it anew", code="approval_used")
                if earlier.argument_hash == wanted:
                    return None
            elif earlier is not None and earlier.argument_hash != wanted and earlier.writer == claimant:
                await self._settle(accepted, item, earlier.number, "voided")  # fired here, and it changed since
            elif earlier is not None:  # of another worker, or of an earlier life of the turn here
                if self.clock_ms() < earlier.lease_until_ms:
                    await asyncio.sleep(CLAIM_RETRY_S)  # whoever has it may be alive: then its outcome comes
                    continue
                if item.manifest.effect == "irreversible" and not item.manifest.idempotent_key:
                    sent_before = item.manifest.bus and (
                        item.approval is None or earlier.writer.endswith(accepted.turn)
                    )
                    if not sent_before:
                        raise OurError("an earlier attempt may have had its effect", code="call_in_doubt")
                number = max(number, earlier.number + 1)
            if await patiently(functools.partial(self.hold, accepted, item, number), until_ms, self.clock_ms):
                return number, sent_before
            await asyncio.sleep(CLAIM_RETRY_S)

    async def hold(self, accepted: TurnAccepted, item: Fire, number: int) -> bool:
        """Takes or renews the claim."""
        turn, call = _ledger_key(accepted, item)
        return await self._store.claim(
            turn, call, ids.digest_hex(item.key), number, LEDGER_LEASE_MS, self._claimant(accepted, item),
            int(self.clock_ms()),
        )  # fmt: skip

    async def _settle(self, accepted: TurnAccepted, item: Fire, number: int, outcome: str) -> None:
        """Closes the claim. The log has the outcome already, so a ledger that stays away harms no turn: whoever asks
        it later finds the call in doubt and does not send it again."""
        settle = functools.partial(self._store.settle, *_ledger_key(accepted, item), number, outcome)
        try:
            _ = await patiently(settle, accepted.deadline_at_ms, self.clock_ms)
        except PeerError as error:
            log.warning("call %d of turn %s stays unsettled: %s", item.call, accepted.turn, error)

    def _claimant(self, accepted: TurnAccepted, item: Fire) -> str:
        """Whose claim it is: of this worker, and of one turn alone where several may answer the same request."""
        return self._writer if item.approval is None else f"{self._writer} {accepted.turn}"

    async def _failed(
        self, item: Fire, course: _Course, deliver: Deliver, error: HeadstartError, took_ms: float
    ) -> bool:  # fmt: skip
        """Says so in the log; gives whether the call's effect is in doubt."""
        in_doubt = error.code == "call_in_doubt" or (
            item.manifest.effect == "irreversible"
            and failures.in_doubt(item.manifest, error)
            and not item.manifest.idempotent_key
        )
        failed = CallFailed(
            call=item.call, code=error.code, message=error.message, at_ms=int(self.clock_ms()), took_ms=took_ms,
            in_doubt=in_doubt,
        )  # fmt: skip
        deliver(Called(failed, item.claim))
        await course.writer.write(failed)
        return in_doubt


class _Course:
    """One firing. A pure call's `call.fired` is written when its request has left, so that nothing stands between a
    closed argument and the wire; the others' is acknowledged before anything is sent."""

    def __init__(
        self, caller: Caller, accepted: TurnAccepted, item: Fire, number: int, writer: StageWriter,
        sent_before: bool = False,
    ) -> None:  # fmt: skip
        self.number, self.writer = number, writer
        self.context = _context(accepted, item.call, number, item.key, accepted.deadline_at_ms, sent_before)
        self._caller, self._accepted, self._item = caller, accepted, item
        self._posted: asyncio.Task[asyncio.Future[int]] | None = None
        self._announced = False

    def _fired(self) -> CallFired:
        now_ms = self._caller.clock_ms()
        item = self._item
        return CallFired(
            call=item.call, skill=item.manifest.id, arguments=item.arguments, effect=item.manifest.effect,
            claim=self.number, token=item.token, at_ms=int(now_ms), written=item.written, key=item.key,
            closed_to_wire_ms=round(max(0.0, now_ms - item.closed_at_ms), 3),
        )  # fmt: skip

    async def announce(self) -> None:
        """Writes `call.fired` and waits until it is kept."""
        self._announced = True
        await self.writer.write(self._fired())

    def on_sent(self) -> None:
        """The request is on the wire."""
        if not self._announced:
            self._announced = True
            self._posted = asyncio.get_running_loop().create_task(self.writer.post(self._fired()))

    async def written(self) -> None:
        """Waits until `call.fired` is queued; it comes first in its stage, also for a request that never left."""
        self.on_sent()
        if self._posted is not None:
            _ = await self._posted

    @asynccontextmanager
    async def alive(self) -> AsyncIterator[None]:
        """While the block runs, says every second that the call is in flight. What goes wrong with that is logged: the
        block's outcome is what counts."""
        task = asyncio.get_running_loop().create_task(self._beat())
        try:
            yield
        finally:
            task.cancel()
            [ended] = await asyncio.gather(task, return_exceptions=True)
            if isinstance(ended, Exception):
                log.warning("a call's sign of life failed: %r", ended)

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(HEARTBEAT_S)
            if self._announced:
                beat = self.writer.post(TurnHeartbeat(at_ms=int(self._caller.clock_ms())))
                _ = await asyncio.shield(beat)  # half a post would break the stage's writer, and the answer needs it
            if self._item.manifest.effect != "pure":
                try:
                    await self._caller.hold(self._accepted, self._item, self.number)
                except PeerError as error:  # the log hears of the call all the same
                    log.warning("a claim was not renewed: %s", error)


def _ledger_key(accepted: TurnAccepted, item: Fire) -> tuple[str, int]:
    """The turn and the call under which a call is claimed: for an approved one those that asked for the approval."""
    return item.approval or (accepted.turn, item.call)


def _context(
    accepted: TurnAccepted, call: int, claim: int, key: str, deadline_at_ms: int, sent_before: bool = False
) -> CallContext:
    return CallContext(
        turn=accepted.turn, call=call, claim=claim, key=key, tenant=accepted.tenant, user=accepted.user,
        locale=accepted.options.locale, deadline_at_ms=deadline_at_ms, conversation=accepted.conversation,
        sent_before=sent_before,
    )  # fmt: skip


def _since(started: float) -> float:
    return round((time.perf_counter() - started) * 1000, 3)
