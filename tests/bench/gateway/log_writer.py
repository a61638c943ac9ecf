"""A writer of valid facts, as a process: `python -m tests.bench.gateway.log_writer JOB ANSWER`.

Writes what turn and generation workers would, and costs far less: each fact is encoded once with its numbers left out.
Streams are conversations that somebody follows: their turn is accepted, an answer begins, and goes on at a steady
pace until SIGTERM. Other traffic is deltas of turns nobody here follows, spread over all partitions.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections import deque
from pathlib import Path
from typing import Final

import msgspec

from memory.opening import open_bus, open_store
from memory.rows import Change, ConversationRow
from streams import ids
from streams.bus import Bus
from streams.codec import encode as encode_event
from streams.events import InputItem
from streams.events.base import Usage
from streams.events.conversation import ConversationOpened
from streams.events.generating import AnswerDelta, AnswerFinished, AnswerStarted
from streams.events.turn import TurnAccepted
from streams.process import new_event_loop
from streams.settings import Settings
from streams.topology import EVENTS
from streams.writer import StageWriter

WRITER: Final = "generation/bench-writer"
DEADLINE_MS: Final = 600_000
OTHERS: Final = 256  # conversations nobody follows
TICK_S: Final = 0.002
STAGE: Final = "answer"
GAPS_KEPT: Final = 160  # eight seconds of 20 tokens/s
TOKEN: Final = "abc"


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """What to write. streams: partition of each stream. per_second: deltas of each. prefill: deltas that each stream
    has from the start, at once. others_per_second: records of other traffic, all together."""

    tenant: str
    user: str
    streams: list[int] = []
    per_second: float = 20.0
    prefill: int = 0
    others_per_second: float = 0.0


class Written(msgspec.Struct, frozen=True):
    """conversations, turns: of the streams, in the job's order."""

    conversations: list[str]
    turns: list[str]


def encode(job: Job) -> bytes:
    return msgspec.json.encode(job)


def decode(data: bytes) -> Written:
    return msgspec.json.decode(data, type=Written)


class Stream:
    """One answer that goes on. A delta is posted as bytes: everything but its two numbers is made once.

    gaps_ms: times between its last deltas as they were handed to the bus.
    """

    def __init__(self, bus: Bus, conversation: str, turn: str, epoch: int = 1) -> None:
        self.conversation = conversation
        self.turn = turn
        self.partition = ids.partition_of(conversation)
        self.gaps_ms: deque[float] = deque(maxlen=GAPS_KEPT)
        self._bus = bus
        self._at_ms = int(time.time() * 1000)
        self._epoch = epoch
        self._last_s = 0.0
        self._count = 0
        headers, _ = encode_event(AnswerDelta(text=TOKEN, index=0, ids=(1,)), "", WRITER)
        self._before, self._after = headers[:2], headers[3:]
        self._key = self.conversation.encode()

    @staticmethod
    def new(bus: Bus, partition: int) -> Stream:
        """Of a turn that nobody asked for."""
        at_ms = int(time.time() * 1000)
        conversation = ids.conversation_id(partition, at_ms, os.urandom(10))
        return Stream(bus, conversation, ids.turn_id(conversation, at_ms, os.urandom(10)))

    async def accept(self, tenant: str, user: str) -> int:
        """Writes what the turn's owner would; gives the offset of its first fact."""
        accepted = TurnAccepted(
            turn=self.turn, conversation=self.conversation, tenant=tenant, user=user,
            input=(InputItem(text="Go on."),), at_ms=self._at_ms, deadline_at_ms=self._at_ms + DEADLINE_MS,
        )  # fmt: skip
        opened = ConversationOpened(conversation=self.conversation, tenant=tenant, user=user, at_ms=self._at_ms)
        owner = StageWriter(self._bus, self.conversation, self.turn, "turn", 1, WRITER)
        offset = await owner.write(accepted)
        await owner.write(opened)
        return offset

    async def begin(self) -> None:
        """The answer's first fact."""
        started = AnswerStarted(model="default", engine="bench", at_ms=self._at_ms)
        await StageWriter(self._bus, self.conversation, self.turn, STAGE, self._epoch, WRITER).write(started)

    async def finish(self) -> None:
        """Its last one: the model has said all."""
        finished = AnswerFinished(reason="stop", usage=Usage(completion=self._count), at_ms=self._at_ms)
        name = f"{self.turn}/{STAGE}/{self._epoch}/{self._count + 1}"
        await self._bus.publish(EVENTS.name, self.partition, self.conversation, finished, name, WRITER)

    def row(self, tenant: str, user: str) -> ConversationRow:
        return ConversationRow(
            conversation=self.conversation, tenant=tenant, user=user, created_at_ms=self._at_ms
        )  # fmt: skip

    async def say(self) -> None:
        """The next delta."""
        index, now_s = self._count, time.perf_counter()
        if self._last_s:
            self.gaps_ms.append((now_s - self._last_s) * 1000)
        self._last_s = now_s
        self._count += 1
        name = ("ce_id", f"{self.turn}/{STAGE}/{self._epoch}/{self._count}".encode())
        value = b'{"text":"%s","index":%d,"ids":[%d]}' % (TOKEN.encode(), index, 1000 + index)
        _ = await self._bus.post_raw(EVENTS.name, self.partition, self._key, value, [*self._before, name, *self._after])


async def pace(per_second: float, streams: list[Stream]) -> None:
    """One delta after the other, the streams in turn, so many a second of each; what is late is made up for. The list
    may grow and shrink meanwhile."""
    before_s, due, turn = time.monotonic(), 0.0, 0
    while True:
        now_s = time.monotonic()
        due += (now_s - before_s) * per_second * len(streams)
        before_s = now_s
        while due >= 1 and streams:
            due -= 1
            turn = (turn + 1) % len(streams)
            await streams[turn].say()
        await asyncio.sleep(TICK_S)


async def write(job: Job, answer: Path, settings: Settings) -> None:
    told = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, told.set)
    async with open_bus(settings, "bench-writer") as bus, open_store(settings) as store:
        store.follow(bus.epoch)
        streams = [Stream.new(bus, partition) for partition in job.streams]
        offsets = [await stream.accept(job.tenant, job.user) for stream in streams]
        for stream in streams:
            await stream.begin()
        for partition in set(job.streams):  # as the memory worker does, which is not here
            theirs = [
                (stream, offset) for stream, offset in zip(streams, offsets, strict=True)
                if stream.partition == partition
            ]  # fmt: skip
            rows = [Change(offset, stream.row(job.tenant, job.user)) for stream, offset in theirs]
            first, last = min(offset for _, offset in theirs), max(offset for _, offset in theirs)
            await store.project(partition, last, rows, resume=first)
        for stream in streams:
            for _ in range(job.prefill):
                await stream.say()
        others = [Stream.new(bus, number % bus.partitions) for number in range(OTHERS if job.others_per_second else 0)]
        draft = answer.with_suffix(".draft")
        found = Written([stream.conversation for stream in streams], [stream.turn for stream in streams])
        draft.write_bytes(msgspec.json.encode(found))
        draft.rename(answer)
        pacing = [
            asyncio.create_task(pace(job.per_second, streams)),
            asyncio.create_task(pace(job.others_per_second / OTHERS, others)),
        ]
        await told.wait()
        for task in pacing:
            task.cancel()
        await asyncio.gather(*pacing, return_exceptions=True)


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        job = msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=Job)
        runner.run(write(job, Path(sys.argv[2]), Settings.from_env(os.environ)))
