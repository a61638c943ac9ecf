"""Modes pin and live: recorded turns run again with a real model, into a log of their own.

*pin* changes nothing: the same prompts, parameters and seed, so it says how much of a model's text comes out the same.
*live* changes what `Change` says. The past, the route and the skills' results come from the recording; what could have
an effect is never sent (live_effects.py). Each turn has a bus in memory, an owner and a generation worker of its own,
and a clock that begins at the recorded time, so that a prompt says the same day; nothing reaches a topic of production.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence

import msgspec

from headstart.replay.changing import Change, changed
from headstart.replay.commands import submit_of
from headstart.replay.live_effects import ShadowCalls, ShadowEffects
from headstart.replay.recording import Recording
from headstart.replay.standins import RecordedManifests
from headstart.replay.stub import Setups
from headstart.replay.turns import ConversationLog, TurnLog, conversations
from memory.memory_store import MemoryStore
from streams import ids
from streams.codec import Record, identity
from streams.events.calling import ApprovalAsked
from streams.events.registering import SkillManifest
from streams.events.turn import TERMINAL_TYPES
from streams.memory_bus import MemoryBroker, MemoryBus
from streams.topology import EVENTS, PROMPTS, TURNS
from workers.generation.models import Models
from workers.generation.stage import Clock
from workers.generation.worker import GenerationWorker
from workers.planning.owner import TurnOwner
from workers.planning.worker import write_down
from workers.skills.execution import Executor

NAMESPACE = "replay"
DEADLINE_MS = 600_000  # a model on this machine may be slower than the one that was recorded
Mode = str  # pin | live


class LiveReplay:
    """Runs turns, any number side by side. models: loaded and started by the caller. executor: see live_effects.py.

    mode: "pin" or "live", for the names of what is written.
    """

    def __init__(
        self, models: Models, setups: Setups, manifests: Mapping[str, SkillManifest], *, change: Change | None = None,
        mode: Mode = "live", executor: Executor | None = None,
    ) -> None:  # fmt: skip
        self._models, self._setups, self._manifests = models, setups, manifests
        self._change, self._mode, self._executor = change or Change(), mode, executor

    @property
    def shadow(self) -> dict[str, str]:
        """What was changed, for the head of a recording."""
        return {"mode": self._mode, **self._change.words()}

    async def turn(self, log: ConversationLog, turn: TurnLog) -> list[Record]:
        """One turn, to its end; gives the records of `events` and `prompts` that came of it. Raises NotFound for a
        setup, a prompt or a model that is not there, before anything runs. A cancel ends the run."""
        setup = changed(self._setups(turn.accepted.setup), self._change, self._models.specs)
        clock = _begun_at(turn.accepted.at_ms)
        broker = MemoryBroker(log.partition + 1, now_ms=lambda: int(clock()))
        bus = MemoryBus(broker, namespace=NAMESPACE)
        await bus.start()
        writer = f"{NAMESPACE}/{self._mode}"
        asked = tuple(
            fact.event for other in log.turns.values() for fact in other.facts if isinstance(fact.event, ApprovalAsked)
        )
        effects = ShadowEffects(turn, self._manifests, asked, ShadowCalls(turn, clock, self._executor), clock)
        owner = TurnOwner(
            bus, MemoryStore(dimensions=1), setup, RecordedManifests(self._manifests), lambda _: effects,
            place=lambda request: ids.partition_of(request.conversation), writer=writer,
            setup_id=await write_down(bus, setup, writer), clock_ms=clock,
            draw=lambda size: turn.accepted.bucket.to_bytes(size, "big"),
        )  # fmt: skip
        worker = GenerationWorker(bus, self._models, writer=f"{writer}/model", clock=Clock(clock, _monotonic_ms))
        try:
            await worker.start()
            await owner.start()
            return await self._run(bus, turn)
        finally:
            await owner.stop()
            await worker.stop(0)
            await bus.stop()

    async def _run(self, bus: MemoryBus, turn: TurnLog) -> list[Record]:
        accepted = turn.accepted
        options = msgspec.structs.replace(
            accepted.options, deadline_ms=DEADLINE_MS, on_busy="enqueue",
            model="" if self._change.models else accepted.options.model,
        )  # fmt: skip
        submit = msgspec.structs.replace(submit_of(accepted, turn), options=options, origin="client", opens=True)
        partition = ids.partition_of(accepted.conversation)
        await bus.publish(TURNS.name, partition, accepted.conversation, submit, accepted.turn, NAMESPACE)
        reader = await bus.reader(EVENTS.name, {partition: "earliest"})
        registries = await bus.reader(PROMPTS.name, {0: "earliest"})
        events: list[Record] = []
        try:
            while not events or events[-1].type not in TERMINAL_TYPES:
                for record in await reader.batch():
                    if identity(record).subject == accepted.turn:
                        events.append(record)
                        if record.type in TERMINAL_TYPES:
                            break
            return [*await registries.batch(), *events]
        finally:
            await reader.close()
            await registries.close()


async def replay_live(
    recording: Recording, replay: LiveReplay, *, at_once: int = 1, pace: Callable[[float], object] | None = None
) -> AsyncIterator[tuple[TurnLog, list[Record]]]:
    """Runs a recording's turns in the order in which they began, `at_once` side by side; gives each with what came of
    it, as they end. pace: an awaitable function that waits for a turn's recorded time."""
    logs = conversations(recording.events, recording.commands)
    turns = sorted(
        ((log, turn) for log in logs.values() for turn in log.turns.values()), key=lambda pair: pair[1].accepted.at_ms
    )
    places = asyncio.Semaphore(at_once)

    async def one(log: ConversationLog, turn: TurnLog) -> tuple[TurnLog, list[Record]]:
        async with places:
            if pace is not None:
                await pace(turn.accepted.at_ms)  # type: ignore[misc]
            return turn, await replay.turn(log, turn)

    tasks = [asyncio.create_task(one(log, turn)) for log, turn in turns]
    try:
        for done in asyncio.as_completed(tasks):
            yield await done
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def live_recording(
    recording: Recording, came: Sequence[list[Record]], shadow: Mapping[str, str], now_ms: int
) -> Recording:
    """What came of the turns, as a recording: with the prompts and setups that were used beside those recorded."""
    registered: dict[tuple[str, bytes | None], Record] = {}
    events: list[Record] = []
    offsets: dict[int, int] = {}
    for record in recording.records:
        if record.topic not in (EVENTS.name, TURNS.name):
            registered[(record.topic, record.key)] = record
    for record in (record for records in came for record in records):
        if record.topic == EVENTS.name:
            offset = offsets[record.partition] = offsets.get(record.partition, -1) + 1
            events.append(msgspec.structs.replace(record, offset=offset))
        elif not (record.key or b"").startswith(b"epoch/"):
            registered.setdefault((record.topic, record.key), record)
    head = msgspec.structs.replace(
        recording.head, made_at_ms=now_ms, origin=f"replay of {recording.head.origin}".strip(), shadow=dict(shadow),
        turns=len(came),
    )  # fmt: skip
    return Recording(head, [*registered.values(), *events], recording.schemas)


def identical_tokens(before: Sequence[int], after: Sequence[int]) -> int:
    """How many tokens two answers have in common from their beginning."""
    count = 0
    for one, other in zip(before, after, strict=False):
        if one != other:
            break
        count += 1
    return count


def _begun_at(at_ms: float) -> Callable[[], float]:
    """A wall clock that says `at_ms` now, and goes on from there."""
    began_ms = _monotonic_ms()
    return lambda: at_ms + _monotonic_ms() - began_ms


def _monotonic_ms() -> float:
    return time.monotonic() * 1000
