"""The feed: one reader, channels shared, partitions added and dropped, and a reader that fails."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import pytest

from gateway.feed import READS_AT_ONCE, Feed
from gateway.limits import Limits
from gateway.resume import ConversationFold, Step
from memory.memory_store import MemoryStore
from streams import ids
from streams.bus import Reader, Start
from streams.codec import Record
from streams.errors import PeerUnavailable
from streams.memory_bus import MemoryBroker, MemoryBus
from tests.support.turn_script import AT_MS, FactLog, Say, accepted, answer, completed, conversation_of, submit_of

pytestmark = pytest.mark.asyncio
PARTITIONS = 8


class FragileBus(MemoryBus):
    """Its readers fail on demand, once for each `failures`."""

    failures = 0

    async def reader(self, topic: str, start: Mapping[int, Start], *, gather_ms: int = 0) -> Reader:  # type: ignore[override]
        made: Reader = await super().reader(topic, start)
        batch = made.batch

        async def fragile(max_records: int = 500, wait_ms: int = 500) -> list[Record]:
            records = await batch(max_records, wait_ms)
            if self.failures and records:
                self.failures -= 1
                raise PeerUnavailable("the broker went away")  # after it took the records: they must be read again
            return records

        made.batch = fragile  # type: ignore[method-assign]
        return made


class HeldFetches(FragileBus):
    """A question to a reader that reads something is never answered, as one that waits behind a fetch that is held, or
    whose client is swapped. Counts the readers of history that are open, at most."""

    open = most_open = added = 0

    async def reader(self, topic: str, start: Mapping[int, Start], *, gather_ms: int = 0) -> Reader:  # type: ignore[override]
        made = await super().reader(topic, start)
        end_offset, close, add_all = made.end_offset, made.close, made.add_all
        history = any(where != "latest" for where in start.values())
        self.open += history
        self.most_open = max(self.most_open, self.open)
        await asyncio.sleep(0)  # a real one connects meanwhile

        async def held(partition: int) -> int:
            if made.partitions:
                await asyncio.Event().wait()
            return await end_offset(partition)

        async def closed() -> None:
            self.open -= history
            await close()

        async def counted(starts: Mapping[int, Start]) -> None:
            self.added += 1
            await asyncio.sleep(0)
            await add_all(starts)

        made.add_all = counted  # type: ignore[method-assign]
        if not history:
            made.end_offset = held  # type: ignore[method-assign]
        made.close = closed  # type: ignore[method-assign]
        return made


class Heard:
    """A listener that keeps what it was given."""

    def __init__(self) -> None:
        self.types: list[str] = []
        self.ended = asyncio.Event()

    def deliver(self, step: Step) -> None:
        self.types += [frame.type for frame in step.frames]
        if any(frame.ends for frame in step.frames):
            self.ended.set()


@asynccontextmanager
async def feeding(
    limits: Limits | None = None, kind: type[FragileBus] = FragileBus
) -> AsyncIterator[tuple[Feed, FragileBus]]:
    bus = kind(MemoryBroker(PARTITIONS, now_ms=lambda: AT_MS))
    await bus.start()
    store = MemoryStore()
    store.follow(bus.epoch)
    feed = Feed(bus, store, limits or Limits(), lambda: AT_MS)
    await feed.start()
    try:
        yield feed, bus
    finally:
        await feed.stop()


async def say_turn(bus: MemoryBus, conversation: str, number: int = 0, *, from_line: int = 0) -> None:
    """A whole turn onto the log."""
    log = FactLog(conversation)
    log.turn(submit_of(conversation, number), [*answer(["a", "b"]), completed()])
    for record in log.records[from_line:]:
        future = await bus.post_raw("events", record.partition, record.key, record.value, record.headers)
        await future


async def test_a_conversation_on_a_partition_that_was_not_read() -> None:
    async with feeding() as (feed, bus):
        away = next(p for p in range(PARTITIONS) if p not in feed.home)
        conversation = conversation_of(partition=away)
        channel = await feed.channel(conversation)
        assert away in feed.partitions
        heard = Heard()
        channel.join(heard)
        await say_turn(bus, conversation)
        await heard.ended.wait()
        assert heard.types[0] == "response.created"
        feed.release(channel)
        assert away in feed.partitions  # it stays folded for the next turn


async def test_partitions_are_dropped_with_their_last_channel() -> None:
    async with feeding(Limits(idle_channels=0)) as (feed, _):
        away = next(p for p in range(PARTITIONS) if p not in feed.home)
        one, two = await asyncio.gather(
            feed.channel(conversation_of(1, partition=away)), feed.channel(conversation_of(2, partition=away))
        )
        feed.release(one)
        assert away in feed.partitions
        feed.release(two)
        assert away not in feed.partitions
        home = await feed.channel(conversation_of(3, partition=feed.home[0]))
        feed.release(home)
        assert set(feed.partitions) == set(feed.home)


async def test_channels_are_shared_and_primed_from_the_log() -> None:
    async with feeding() as (feed, bus):
        conversation = conversation_of(partition=feed.home[0])
        log = FactLog(conversation)
        submit = submit_of(conversation)
        record = log.say(submit.turn, Say("turn", accepted(submit)))
        await (await bus.post_raw("events", record.partition, record.key, record.value, record.headers))
        one, two = await asyncio.gather(feed.channel(conversation), feed.channel(conversation))
        assert one is two
        assert one.fold.open_turns() == [submit.turn]
        assert one.fold.owner == ("acme", "ada")
        assert not feed.ended(conversation, submit.turn)


async def test_a_reader_that_fails_is_rebuilt_and_nothing_is_lost_or_repeated() -> None:
    async with feeding() as (feed, bus):
        conversation = conversation_of(partition=feed.home[0])
        channel = await feed.channel(conversation, fresh=True)
        heard = Heard()
        channel.join(heard)
        bus.failures = 1
        await say_turn(bus, conversation)
        await heard.ended.wait()
        assert feed.rebuilt == 1
        assert heard.types.count("response.created") == 1
        assert heard.types.count("response.output_text.delta") == 2


async def test_a_listener_that_fails_is_let_go_and_the_others_are_not_disturbed() -> None:
    class Broken:
        def deliver(self, step: Step) -> None:
            raise RuntimeError("broken")

    async with feeding() as (feed, bus):
        conversation = conversation_of(partition=feed.home[0])
        channel = await feed.channel(conversation, fresh=True)
        heard = Heard()
        channel.join(Broken())
        channel.join(heard)
        await say_turn(bus, conversation)
        await heard.ended.wait()
        assert channel.listeners == [heard]


async def test_other_conversations_are_not_parsed() -> None:
    async with feeding() as (feed, bus):
        mine, others = conversation_of(1, partition=feed.home[0]), conversation_of(2, partition=feed.home[0])
        channel = await feed.channel(mine, fresh=True)
        heard = Heard()
        channel.join(heard)
        await say_turn(bus, others)
        await say_turn(bus, mine)
        await heard.ended.wait()
        assert feed.steps == feed.records // 2
        assert ids.partition_of(mine) == ids.partition_of(others)


async def test_replay_meets_the_live_side_without_gap_or_repeat() -> None:
    """Records written while a replay runs are seen exactly once, on whichever side."""
    async with feeding() as (feed, bus):
        conversation = conversation_of(partition=feed.home[0])
        await say_turn(bus, conversation, 0)
        channel = await feed.channel(conversation)
        heard = Heard()
        fold_steps: list[str] = []

        async def each(step: Step) -> None:
            first = not fold_steps
            fold_steps.extend(frame.type for frame in step.frames)
            if first:
                await say_turn(bus, conversation, 1)

        fold = ConversationFold(conversation, bus.epoch)
        await feed.replay(channel.partition, channel.key, fold, 0, lambda: channel.join(heard), each)
        await say_turn(bus, conversation, 2)
        await heard.ended.wait()
        while heard.types.count("response.completed") + fold_steps.count("response.completed") < 3:
            heard.ended.clear()
            await heard.ended.wait()
        both = fold_steps + heard.types
        assert both.count("response.created") == both.count("response.completed") == 3
        assert both.count("response.output_text.delta") == 6


async def test_no_question_waits_for_the_live_side() -> None:
    async with feeding(kind=HeldFetches) as (feed, _):
        away = [partition for partition in range(PARTITIONS) if partition not in feed.home]
        found = await asyncio.gather(*[feed.channel(conversation_of(n, partition=n)) for n in away])
        assert {channel.partition for channel in found} == set(away) <= set(feed.partitions)


async def test_partitions_that_are_wanted_at_once_are_added_at_once() -> None:
    async with feeding(kind=HeldFetches) as (feed, bus):
        assert isinstance(bus, HeldFetches)
        away = [partition for partition in range(PARTITIONS) if partition not in feed.home]
        await asyncio.gather(*[feed.channel(conversation_of(n, partition=n)) for n in away])
        assert len(away) > 2
        assert bus.added <= 2  # for the first to come, and for all the others


async def test_many_who_come_back_at_once_do_not_all_read_at_once() -> None:
    async with feeding(kind=HeldFetches) as (feed, bus):
        assert isinstance(bus, HeldFetches)
        several = [conversation_of(number, partition=feed.home[0]) for number in range(3 * READS_AT_ONCE)]
        await asyncio.gather(*[feed.channel(conversation) for conversation in several])
        assert bus.most_open == READS_AT_ONCE
        assert bus.open == 0
