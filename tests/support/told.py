"""Turns told to a memory worker as facts of the log, on a bus and a store in memory, with a clock that stands still."""

from __future__ import annotations

from collections.abc import Sequence

from memory.embed import HashEmbedder
from memory.memory_store import MemoryStore
from memory.store import Store
from streams import ids
from streams.events import Event, InputItem
from streams.events.calling import CallAnswered, CallClosed, CallFired, CallOpened
from streams.events.conversation import ConversationOpened
from streams.events.generating import AnswerDelta, AnswerStarted
from streams.events.rating import FeedbackGiven
from streams.events.routing import RouteDecided
from streams.events.turn import TurnAccepted, TurnCompleted
from streams.fence import NOTE
from streams.memory_bus import MemoryBroker, MemoryBus
from streams.topology import EVENTS
from streams.writer import StageWriter
from workers.remembering.worker import MemoryWorker

NOW_MS = 1_800_000_000_000
TENANT, USER = "acme", "ada"
PARTITION = 1


class Clock:
    """Both of a worker's clocks; only tests move it."""

    def __init__(self) -> None:
        self.now_ms = float(NOW_MS)

    def __call__(self) -> float:
        return self.now_ms


class Told:
    """One log, one store, and the facts of turns as the other workers write them. user: who speaks."""

    def __init__(self, store: Store | None = None, dimensions: int = 64) -> None:
        self.clock = Clock()
        self.broker = MemoryBroker(partitions=2, now_ms=lambda: int(self.clock.now_ms))
        self.bus = MemoryBus(self.broker)
        self.embedder = HashEmbedder(dimensions)
        self.store: Store = store or MemoryStore(dimensions)
        self._turns = 0
        self._notes = 0

    async def start(self) -> None:
        await self.bus.start()
        self.store.follow(self.bus.epoch)

    async def worker(self, model: str = "") -> MemoryWorker:
        """A memory worker that has joined and works only when it is stepped."""
        worker = MemoryWorker(
            self.bus, self.store, self.embedder, clock_ms=self.clock, wall_ms=self.clock, chance=lambda: 0.5,
            model=model,
        )  # fmt: skip
        await worker.join()
        return worker

    async def kill(self, worker: MemoryWorker) -> None:
        """What the group sees when a process dies: its member is gone, nothing more was stored."""
        assert worker._group is not None
        await worker._group.close()

    async def work(self, worker: MemoryWorker) -> None:
        """Reads and stores until nothing is left."""
        while await worker.step(wait_ms=1):
            pass
        await worker.flush()

    def conversation(self, number: int = 0, partition: int = PARTITION) -> str:
        return ids.conversation_id(partition, NOW_MS + number, b"conversation")

    async def turn(
        self, conversation: str, said: str, answer: str = "I see.", *, user: str = USER, agent: str = "companion",
        calls: Sequence[tuple[str, dict[str, str]]] = (), approval: bool | None = None, more: Sequence[Event] = (),
    ) -> str:  # fmt: skip
        """One whole turn; gives its id. calls: skills that answered. approval: the input's word on a suggestion. more:
        further facts of its owner, before the end."""
        self._turns += 1
        self.clock.now_ms += 60_000
        at_ms = int(self.clock.now_ms)
        turn = ids.turn_id(conversation, at_ms, f"turn-{self._turns:08d}".encode())
        course = StageWriter(self.bus, conversation, turn, "turn", 1, "turns/test")
        items = [InputItem(text=said)] if said else []
        if approval is not None:
            items.append(InputItem(kind="approval", call_id="mcpr_x", approve=approval))
        accepted = TurnAccepted(
            turn=turn, conversation=conversation, tenant=TENANT, user=user, at_ms=at_ms, input=tuple(items),
            deadline_at_ms=at_ms + 60_000,
        )  # fmt: skip
        await course.write(accepted)
        await course.write(ConversationOpened(conversation=conversation, tenant=TENANT, user=user, at_ms=at_ms))
        await course.write(RouteDecided(agent=agent, by="embedding", at_ms=at_ms))
        for number, (skill, arguments) in enumerate(calls):
            await course.write(CallOpened(call=number, skill=f"{skill}@1", token=1, at_ms=at_ms))
            await course.write(CallClosed(call=number, skill=f"{skill}@1", arguments=arguments, token=2, at_ms=at_ms))
            call = StageWriter(self.bus, conversation, turn, f"call.{number}", 1, "turns/test")
            fired = CallFired(
                call=number, skill=f"{skill}@1", arguments=arguments, effect="pure", claim=1, token=2, at_ms=at_ms,
                written=True,
            )  # fmt: skip
            await call.write(fired)
            await call.write(CallAnswered(call=number, result="[]", status=200, took_ms=1.0, at_ms=at_ms))
        for event in more:
            await course.write(event)
        if answer:
            said_it = StageWriter(self.bus, conversation, turn, "answer", 1, "generation/test")
            await said_it.write(AnswerStarted(model="m", engine="scripted", at_ms=at_ms))
            await said_it.write(AnswerDelta(text=answer, index=0))
        await course.write(TurnCompleted(at_ms=at_ms + 900))
        return turn

    async def rate(self, conversation: str, turn: str, rating: str, *, user: str = USER, share: bool = False) -> None:
        """A person's word on an answer."""
        self._notes += 1
        self.clock.now_ms += 1_000
        given = FeedbackGiven(
            conversation=conversation, turn=turn, tenant=TENANT, user=user, rating=rating,
            at_ms=int(self.clock.now_ms), share=share,
        )  # fmt: skip
        await self.bus.publish(
            EVENTS.name, ids.partition_of(conversation), conversation, given,
            f"{conversation}/{NOTE}/0/{self._notes}", "turns/test",
        )  # fmt: skip

    async def vector(self, text: str) -> list[float]:
        [vector] = await self.embedder.embed([text])
        return vector
