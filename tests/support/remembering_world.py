"""A memory worker with its bus and store, stepped by a test, and turns to tell it."""

from __future__ import annotations

import asyncpg

from memory.embed import HashEmbedder
from memory.postgres import PostgresStore
from memory.recall import rank
from streams import ids
from streams.events import Event, InputItem
from streams.events.conversation import (
    ConversationOpened,
)
from streams.events.generating import AnswerDelta, AnswerStarted
from streams.events.routing import RouteDecided
from streams.events.turn import TurnAccepted, TurnCompleted
from streams.memory_bus import MemoryBroker, MemoryBus
from streams.writer import StageWriter
from workers.remembering.worker import MemoryWorker

DIMENSIONS = 64
NOW_MS = 1_800_000_000_000
TENANT, USER = "acme", "ada"
PARTITION = 1
CONVERSATION = ids.conversation_id(PARTITION, NOW_MS, b"conversation")


class Clock:
    """Both of a worker's clocks; only tests move it."""

    def __init__(self) -> None:
        self.now_ms = float(NOW_MS)

    def __call__(self) -> float:
        return self.now_ms


class World:
    """A broker, a database, and facts written as the other workers write them."""

    def __init__(self, dsn: str) -> None:
        self.clock = Clock()
        self.broker = MemoryBroker(partitions=2, now_ms=lambda: int(self.clock.now_ms))
        self.bus = MemoryBus(self.broker)
        self.store = PostgresStore(dsn, DIMENSIONS)
        self.dsn = dsn

    async def worker(self) -> MemoryWorker:
        """A memory worker that has joined and works only when it is stepped."""
        worker = MemoryWorker(
            self.bus, self.store, HashEmbedder(DIMENSIONS), clock_ms=self.clock, wall_ms=self.clock, chance=lambda: 0.5
        )
        await worker.join()
        return worker

    async def kill(self, worker: MemoryWorker) -> None:
        """What the group sees when a process dies: its member is gone, nothing more was stored."""
        assert worker._group is not None
        await worker._group.close()

    async def work(self, worker: MemoryWorker) -> None:
        """Read and store until nothing is left."""
        while await worker.step(wait_ms=1):
            pass
        await worker.flush()

    async def fact(self, subject: str, stage: str, events: list[Event], conversation: str = CONVERSATION) -> list[int]:
        writer = StageWriter(self.bus, conversation, subject, stage, 1, f"{stage}/test")
        return [await writer.write(event) for event in events]

    async def turn(self, number: int, said: str, answer: str, conversation: str = CONVERSATION) -> str:
        """One whole turn, token by token."""
        course = Course(self, number, said, conversation)
        await course.begin(opens=number == 1)
        await course.answer(answer)
        await course.end()
        return course.turn

    async def rows(self, table: str) -> int:
        connection = await asyncpg.connect(self.dsn)
        try:
            return int(await connection.fetchval(f"SELECT count(*) FROM {table}"))
        finally:
            await connection.close()

    async def recalled(self, text: str, exclude: str = "") -> list[str]:
        [vector] = await HashEmbedder(DIMENSIONS).embed([text])
        candidates = await self.store.recall(TENANT, USER, vector, text, 10, exclude)
        return [item.text for item in rank(candidates, text, NOW_MS + 3_600_000, 200)]


class Course:
    """A turn whose facts are written one step at a time."""

    def __init__(self, world: World, number: int, said: str, conversation: str = CONVERSATION) -> None:
        self.world, self.said, self.conversation = world, said, conversation
        self.at_ms = NOW_MS + number * 60_000
        self.turn = ids.turn_id(conversation, self.at_ms, b"turn-entropy")
        self.course = StageWriter(world.bus, conversation, self.turn, "turn", 1, "turns/test")

    async def begin(self, opens: bool = False) -> None:
        accepted = TurnAccepted(
            turn=self.turn, conversation=self.conversation, tenant=TENANT, user=USER, at_ms=self.at_ms,
            input=(InputItem(text=self.said),), deadline_at_ms=self.at_ms + 60_000,
        )  # fmt: skip
        await self.course.write(accepted)
        if opens:
            await self.course.write(
                ConversationOpened(conversation=self.conversation, tenant=TENANT, user=USER, at_ms=self.at_ms)
            )
        await self.course.write(RouteDecided(agent="companion", by="embedding", at_ms=self.at_ms))

    async def answer(self, text: str) -> None:
        started = AnswerStarted(model="m", engine="scripted", at_ms=self.at_ms)
        deltas = [AnswerDelta(text=word + " ", index=n) for n, word in enumerate(text.split())]
        await self.world.fact(self.turn, "answer", [started, *deltas], self.conversation)

    async def end(self) -> None:
        await self.course.write(TurnCompleted(at_ms=self.at_ms + 900))
