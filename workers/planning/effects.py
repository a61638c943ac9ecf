"""What a turn's machine asks for, done: looking things up, firing calls, handing out model calls.

Each effect is one asyncio task on the owner's loop; none blocks it (embeddings run in their own thread). What an
effect brings back goes to the turn's machine through `deliver`; a failure is brought back too, as the outcome it
stands for, so that a turn never waits for something that is not coming.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Protocol

from memory.embed import Embedder
from memory.recall import rank
from memory.store import Store
from streams import ids
from streams.errors import HeadstartError
from streams.events.calling import CallAnswered, CallFailed, CallFired
from streams.events.recalling import HistoryMessage, Recalled, RecalledItem, SkillsDiscovered
from streams.events.turn import TurnAccepted
from streams.writer import StageWriter
from workers.planning.commands import Called, Compensate, Discover, Discovered, Fire, Input, Look, Recollected, Routed
from workers.routing.router import Router
from workers.skills import failures
from workers.skills.compensation import compensation_arguments
from workers.skills.executor import CallContext, HttpExecutor
from workers.skills.registry import SkillRegistry

log = logging.getLogger("headstart.turns")
Deliver = Callable[[Input], None]
RECALL_CANDIDATES = 16
WARM_CONNECTIONS = 2  # to each discovered skill's host: plans often have two calls that are ready together
LEDGER_LEASE_MS = 15_000  # a claim nobody settled for this long may be taken by a higher number


class Past(Protocol):
    """The conversation's own messages, from Postgres and from the log after it."""

    async def history(self, accepted: TurnAccepted, turns: int) -> tuple[tuple[HistoryMessage, ...], int]:
        """Oldest first, and the offset up to which Postgres had stored the partition."""


class Effects:
    """The shell of every turn of one worker. clock_ms: wall clock in milliseconds."""

    def __init__(
        self, *, store: Store, embedder: Embedder, router: Router, registry: SkillRegistry, executor: HttpExecutor,
        past: Past, writer: str, clock_ms: Callable[[], float],
    ) -> None:  # fmt: skip
        self._store, self._embedder, self._router = store, embedder, router
        self._registry, self._executor, self._past = registry, executor, past
        self._writer = writer
        self.clock_ms = clock_ms
        self._vectors: dict[str, list[float]] = {}

    def forget(self, turn: str) -> None:
        """The turn has ended."""
        self._vectors.pop(turn, None)

    # -- looking ---------------------------------------------------------------------------------------------------

    async def look(self, accepted: TurnAccepted, item: Look, turns: int, tokens: int, deliver: Deliver) -> None:
        """Routes and recalls. When memory can not be reached the turn goes on without it, and says so in its facts."""
        started = time.perf_counter()
        history = asyncio.create_task(self._past.history(accepted, turns))
        try:
            vector = (await self._embedder.embed([item.text or " "]))[0]
            embed_ms = _since(started)
            self._vectors[accepted.turn] = vector
            if not item.agent:
                route = self._router.route(vector)
                deliver(Routed(agent=route.agent, verdict=route.verdict, scores=route.scores, took_ms=_since(started)))
            asked = time.perf_counter()
            recalled = await self._recall(accepted, item.text, vector, tokens)
            messages, position = await history
        finally:
            history.cancel()
        deliver(
            Recollected(
                Recalled(
                    items=recalled, history=messages, at_ms=int(self.clock_ms()), position=position,
                    took_ms=_since(asked), embed_ms=embed_ms,
                )
            )
        )  # fmt: skip

    async def _recall(
        self, accepted: TurnAccepted, text: str, vector: list[float], tokens: int
    ) -> tuple[RecalledItem, ...]:
        try:
            candidates = await self._store.recall(
                accepted.tenant, accepted.user, vector, text, RECALL_CANDIDATES, accepted.conversation
            )
        except HeadstartError as error:
            log.warning("recall failed, the turn goes on without it: %s", error.code, extra={"turn": accepted.turn})
            return ()
        return tuple(rank(candidates, text, int(self.clock_ms()), tokens))

    async def discover(self, accepted: TurnAccepted, item: Discover, deliver: Deliver) -> None:
        """Finds the skills whose descriptions are nearest to the turn's text among those the agent may use."""
        started = time.perf_counter()
        vector = self._vectors.pop(accepted.turn, None)
        if vector is None:  # the turn was taken over
            vector = (await self._embedder.embed([item.text or " "]))[0]
        found = await self._registry.nearest(vector, accepted.tenant, item.patterns, item.limit)
        if item.ratio > 0:
            found = [row for row in found if row.score >= item.ratio * found[0].score]
        manifests = tuple(manifest for manifest in (self._registry.get(row.skill) for row in found) if manifest)
        deliver(
            Discovered(
                SkillsDiscovered(skills=tuple(found), at_ms=int(self.clock_ms()), took_ms=_since(started)),
                manifests,
            )
        )
        await self._executor.warm(manifests, WARM_CONNECTIONS)  # while the model reads its prompt

    # -- calls -----------------------------------------------------------------------------------------------------

    async def fire(self, accepted: TurnAccepted, item: Fire, writer: StageWriter, deliver: Deliver) -> None:
        """Sends one call and writes its facts. A cancel aborts the request; nothing more is written then."""
        course = _Course(self, accepted, item, writer)
        context = CallContext(
            turn=accepted.turn, call=item.call, claim=item.claim, key=item.key, tenant=accepted.tenant,
            user=accepted.user, locale=accepted.options.locale, deadline_at_ms=accepted.deadline_at_ms,
        )  # fmt: skip
        started = time.perf_counter()
        pure = item.manifest.effect == "pure"
        try:
            if not pure:
                await self._claim(accepted, item)
                await writer.write(course.fired())
            outcome = await self._executor.call(
                item.manifest, item.arguments, context, course.on_sent if pure else None
            )  # fmt: skip
        except HeadstartError as error:
            await course.written()
            await self._failed(accepted, item, writer, deliver, error, _since(started))
            return
        await course.written()
        answered = CallAnswered(
            call=item.call, result=outcome.result, status=outcome.status, took_ms=outcome.took_ms,
            at_ms=int(self.clock_ms()), size_bytes=outcome.size_bytes, cut=outcome.cut, attempts=outcome.attempts,
        )  # fmt: skip
        deliver(Called(answered, item.claim))
        _ = await writer.post(answered)
        if not pure:
            await self._store.settle(accepted.turn, item.call, item.claim, "answered")

    async def _claim(self, accepted: TurnAccepted, item: Fire) -> None:
        """The ledger: a claim without an outcome is in doubt, and an irreversible call in doubt is not sent again
        unless its skill enforces the key. Raises HeadstartError (`call_in_doubt`, `call_claimed`)."""
        earlier = await self._store.claimed(accepted.turn, item.call)
        in_doubt = earlier is not None and earlier.outcome is None and earlier.number < item.claim
        if in_doubt and item.manifest.effect == "irreversible" and not item.manifest.idempotent_key:
            raise HeadstartError("an earlier attempt may have had its effect", code="call_in_doubt")
        won = await self._store.claim(
            accepted.turn, item.call, ids.digest_hex(item.key), item.claim, LEDGER_LEASE_MS, self._writer,
            int(self.clock_ms()),
        )  # fmt: skip
        if not won:
            raise HeadstartError("another worker holds this call", code="call_claimed")

    async def _failed(
        self, accepted: TurnAccepted, item: Fire, writer: StageWriter, deliver: Deliver,
        error: HeadstartError, took_ms: float,
    ) -> None:  # fmt: skip
        in_doubt = item.manifest.effect == "irreversible" and (
            error.code == "call_in_doubt"
            or (failures.in_doubt(item.manifest, error) and not item.manifest.idempotent_key)
        )
        failed = CallFailed(
            call=item.call, code=error.code, message=error.message, at_ms=int(self.clock_ms()), took_ms=took_ms,
            in_doubt=in_doubt,
        )  # fmt: skip
        deliver(Called(failed, item.claim))
        _ = await writer.post(failed)
        if item.manifest.effect != "pure" and error.code != "call_claimed":
            await self._store.settle(accepted.turn, item.call, item.claim, "in_doubt" if in_doubt else "failed")

    async def compensate(self, accepted: TurnAccepted, item: Compensate) -> None:
        """Calls the compensation of a reversible call, with its own arguments and result. A failure is logged with
        the call's id: it is the operator's to settle."""
        manifest = self._registry.by_name(item.manifest.compensate)
        if manifest is None:
            log.error("no skill %s to compensate with", item.manifest.compensate, extra={"turn": accepted.turn})
            return
        key = ids.digest_hex("compensate", accepted.turn, str(item.call))[:32]
        context = CallContext(
            turn=accepted.turn, call=item.call, claim=1, key=key, tenant=accepted.tenant, user=accepted.user,
            locale=accepted.options.locale, deadline_at_ms=int(self.clock_ms()) + manifest.timeout_ms,
        )  # fmt: skip
        try:
            undo = compensation_arguments(manifest, item.arguments, item.result)
            await self._executor.call(manifest, undo, context)
        except HeadstartError as error:
            log.error("compensation of call %d failed: %s", item.call, error.code, extra={"turn": accepted.turn})


class _Course:
    """The `call.fired` of one call. A pure one's is written when its request has left, so that nothing stands between
    a closed argument and the wire; the others' before anything is sent."""

    def __init__(self, effects: Effects, accepted: TurnAccepted, item: Fire, writer: StageWriter) -> None:
        self._clock_ms = effects.clock_ms
        self._item, self._writer = item, writer
        self._posted: asyncio.Task[asyncio.Future[int]] | None = None
        self._done = item.manifest.effect != "pure"

    def fired(self) -> CallFired:
        now_ms = self._clock_ms()
        item = self._item
        return CallFired(
            call=item.call, skill=item.manifest.id, arguments=item.arguments, effect=item.manifest.effect,
            claim=item.claim, token=item.token, at_ms=int(now_ms), written=item.written, key=item.key,
            closed_to_wire_ms=round(max(0.0, now_ms - item.closed_at_ms), 3),
        )  # fmt: skip

    def on_sent(self) -> None:
        """The request is on the wire."""
        if not self._done:
            self._done = True
            self._posted = asyncio.get_running_loop().create_task(self._writer.post(self.fired()))

    async def written(self) -> None:
        """Waits until `call.fired` is queued; it comes first in its stage, also for a request that never left."""
        self.on_sent()
        if self._posted is not None:
            _ = await self._posted


def _since(started: float) -> float:
    return round((time.perf_counter() - started) * 1000, 3)


__all__ = ["Effects", "Past"]
