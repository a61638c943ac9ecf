"""What a turn's machine asks for, done: looking things up, firing calls, handing out model calls.

Each effect is one asyncio task on the owner's loop; none blocks it (embeddings run in their own thread). What an
effect brings back goes to the turn's machine through `deliver`; a failure is brought back too, as the outcome it
stands for, so that a turn never waits for something that is not coming.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import time
from collections.abc import Callable
from typing import Protocol

from memory.embed import Embedder
from memory.habits import leaning
from memory.store import Store
from streams import ids
from streams.bus import Bus
from streams.codec import decode_as
from streams.events.calling import ApprovalAsked
from streams.events.recalling import SkillsDiscovered
from streams.events.turn import TurnAccepted
from streams.topology import EVENTS
from workers.planning.approving import asking_call
from workers.planning.calling import Caller
from workers.planning.commands import (
    ApprovalsFound,
    Discover,
    Discovered,
    FindApprovals,
    Input,
    Look,
    Recollected,
    Routed,
)
from workers.planning.patience import patiently
from workers.planning.recollecting import History, Recollecting
from workers.routing.router import Router
from workers.skills.bus_executor import BusExecutor
from workers.skills.execution import Executors
from workers.skills.executor import HttpExecutor
from workers.skills.registry import SkillRegistry

log = logging.getLogger("headstart.turns")
Deliver = Callable[[Input], None]
WARM_CONNECTIONS = 2  # to each discovered skill's host: plans often have two calls that are ready together


class Past(Protocol):
    """The conversation's own messages, from Postgres and from the log after it."""

    async def history(self, accepted: TurnAccepted, turns: int) -> History:
        """See recollecting.History."""

    async def catch_up(self, accepted: TurnAccepted) -> None:
        """See doing.Doing."""

    async def last_agent(self, conversation: str) -> str:
        """Which took the conversation's last turn that was routed, "" for none."""

    async def began(self, accepted: TurnAccepted, turn: str) -> int | None:
        """The offset at which an earlier turn of the conversation begins; None when it is not one of its turns."""


class Effects:
    """The shell of every turn of one worker. clock_ms: wall clock in milliseconds."""

    def __init__(
        self, *, bus: Bus, store: Store, embedder: Embedder, router: Router, registry: SkillRegistry,
        executor: HttpExecutor, past: Past, writer: str, clock_ms: Callable[[], float],
    ) -> None:  # fmt: skip
        self._bus = bus
        self._store, self._embedder, self._router = store, embedder, router
        self._registry, self._executor, self._past = registry, executor, past
        over_bus = BusExecutor(
            bus, signing_key=executor.signing_key, source=writer, limits=executor.limits, clock_ms=clock_ms
        )  # fmt: skip
        self.calls = Caller(store, registry, Executors(executor, over_bus), writer, clock_ms)
        self._writer = writer
        self.clock_ms = clock_ms
        self._recollecting = Recollecting(store, clock_ms)
        self._vectors: dict[str, asyncio.Task[list[float]]] = {}

    def foresee(self, accepted: TurnAccepted) -> None:
        """The turn will look: its question is embedded already while the log takes its `turn.accepted`."""
        _ = self._vector(accepted)

    async def catch_up(self, accepted: TurnAccepted) -> None:
        await self._past.catch_up(accepted)

    async def agent_without_turn(self, conversation: str, fact: str) -> str:
        return await self._past.last_agent(conversation)

    def forget(self, turn: str) -> None:
        """The turn has ended."""
        if task := self._vectors.pop(turn, None):
            task.cancel()
            task.add_done_callback(_heed)

    def _vector(self, accepted: TurnAccepted) -> asyncio.Task[list[float]]:
        """The embedding of the turn's question, made once for looking and discovering."""
        task = self._vectors.get(accepted.turn)
        if task is None or (task.done() and (task.cancelled() or task.exception() is not None)):
            task = self._vectors[accepted.turn] = asyncio.create_task(self._embed(accepted))
        return task

    async def _embed(self, accepted: TurnAccepted) -> list[float]:
        embed = functools.partial(self._embedder.embed, [accepted.question or " "])
        return (await patiently(embed, accepted.deadline_at_ms, self.clock_ms))[0]

    # -- looking ---------------------------------------------------------------------------------------------------

    async def look(self, accepted: TurnAccepted, item: Look, deliver: Deliver) -> None:
        """Routes and recalls. Without memories the turn goes on; for its own history it waits while it has time."""
        started = time.perf_counter()
        history = asyncio.create_task(
            patiently(lambda: self._past.history(accepted, item.turns), accepted.deadline_at_ms, self.clock_ms)
        )
        experience = asyncio.create_task(self._recollecting.experience(accepted))
        try:
            vector = await asyncio.shield(self._vector(accepted))
            embed_ms = _since(started)
            known = await experience
            if not item.agent:
                route = self._router.route(accepted.question, vector, leaning(known.habits))
                deliver(Routed(agent=route.agent, verdict=route.verdict, scores=route.scores, took_ms=_since(started)))
            recalled = await self._recollecting.recollect(accepted, item, vector, history, known, embed_ms)
        finally:
            history.cancel()
            experience.cancel()
        deliver(Recollected(recalled))

    async def discover(self, accepted: TurnAccepted, item: Discover, deliver: Deliver) -> None:
        """Finds the skills whose descriptions are nearest to the turn's text among those the agent may use."""
        started = time.perf_counter()
        vector = await asyncio.shield(self._vector(accepted))
        nearest = functools.partial(
            self._registry.nearest, accepted.question, vector, accepted.tenant, item.patterns, item.limit
        )
        found = await patiently(nearest, accepted.deadline_at_ms, self.clock_ms)
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

    async def find_approvals(self, accepted: TurnAccepted, item: FindApprovals, deliver: Deliver) -> None:
        """Reads the requests from the log of the turns they name, as far as those belong to this conversation."""
        asked = []
        for request in item.requests:
            ask = functools.partial(self._asked, accepted, request)
            event = await patiently(ask, accepted.deadline_at_ms, self.clock_ms)
            if event is not None:
                asked.append(event)
        manifests = {event.skill: self._registry.get(event.skill) for event in asked}
        deliver(ApprovalsFound(tuple(asked), {name: found for name, found in manifests.items() if found is not None}))

    async def _asked(self, accepted: TurnAccepted, request: str) -> ApprovalAsked | None:
        asking = asking_call(request)
        partition = ids.partition_of(accepted.conversation)
        if asking is None or ids.partition_of(asking[0]) != partition:
            return None
        begin = await self._past.began(accepted, asking[0])
        if begin is None:
            return None
        reader = await self._bus.reader(EVENTS.name, {partition: begin})
        try:
            end = await reader.end_offset(partition)
            while reader.position(partition) < end:
                for record in await reader.batch():
                    if record.type == ApprovalAsked.TYPE and record.key == accepted.conversation.encode():
                        event = decode_as(record, ApprovalAsked)
                        if event.request == request:
                            return event
        finally:
            await reader.close()
        return None


def _heed(task: asyncio.Task[list[float]]) -> None:
    """Whoever waited for it was told; a turn that ended before does not care."""
    if not task.cancelled():
        _ = task.exception()


def _since(started: float) -> float:
    return round((time.perf_counter() - started) * 1000, 3)


__all__ = ["Effects", "Past"]
