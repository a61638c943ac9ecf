"""The gateway's one reader of `events`: partitions touched, records filtered by key before anything is parsed.

A `Channel` is one conversation that somebody on this gateway follows: one fold, shared by all of its live listeners.
A listener that begins elsewhere than now reads the log with a short-lived reader of its own (`replay`) and joins the
channel in the very step of the event loop in which it met the live position, so there is no gap and no repeat.

Partitions: `home` ones are read always, and new conversations are opened on them; others are added when a
conversation on them is followed, and dropped when the last channel on them is gone.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Protocol, TypeVar

from gateway.limits import Limits
from gateway.resume import ConversationFold, Step
from memory.store import Store
from streams import ids
from streams.bus import Bus, Gap, Reader
from streams.codec import Record
from streams.errors import HeadstartError, PeerUnavailable
from streams.topology import EVENTS

log = logging.getLogger(__name__)
HOME_PARTITIONS = 4  # enough that the turns of one gateway spread over several workers, and few enough to read
WATCH_MS = 5000  # lag without progress for so long means that the reader hangs: it is rebuilt
UNKNOWN_PAUSE_S = 0.05  # before a reader that fails for a reason that nobody knows is asked again
HISTORY_WAIT_MS = 50  # records up to the live position are there already; this only bounds a broker's hiccup
READS_AT_ONCE = 16  # of history: each holds what its client fetched ahead, up to some megabytes; the others wait
T = TypeVar("T")


class Listener(Protocol):
    """Gets each step of a channel, in log order. Must not wait; may leave the channel from within."""

    def deliver(self, step: Step) -> None: ...


class Channel:
    """One conversation as this gateway follows it. Valid between `Feed.channel` and `Feed.release`."""

    def __init__(self, conversation: str, topic_epoch: int) -> None:
        self.conversation = conversation
        self.key = conversation.encode()
        self.partition = ids.partition_of(conversation)
        self.fold = ConversationFold(conversation, topic_epoch)
        self.listeners: list[Listener] = []
        self.live = False
        self.users = 0
        self.ready: asyncio.Task[None] | None = None

    def join(self, listener: Listener) -> None:
        self.listeners.append(listener)

    def leave(self, listener: Listener) -> None:
        if listener in self.listeners:
            self.listeners.remove(listener)


def home_partitions(partitions: int, seed: int) -> list[int]:
    """The partitions a gateway opens conversations on: evenly spread, so that no one worker owns them all."""
    count = min(HOME_PARTITIONS, partitions)
    return sorted({(seed + number * partitions // count) % partitions for number in range(count)})


class Feed:
    """Follows conversations. `start` before use; `stop` ends every channel.

    steps and records count what was folded and what was read; the difference is what filtering by key saved.
    """

    def __init__(
        self, bus: Bus, store: Store, limits: Limits, now_ms: Callable[[], int], seed: int = 0,
        watch_ms: int = WATCH_MS,
    ) -> None:  # fmt: skip
        self._watch_ms = watch_ms
        self.records = 0
        self.steps = 0
        self.rebuilt = 0
        self.home: list[int] = []
        self._bus = bus
        self._store = store
        self._limits = limits
        self._now_ms = now_ms
        self._seed = seed
        self._next: dict[int, int] = {}  # partition -> offset of the next record to dispatch
        self._channels: dict[str, Channel] = {}
        self._by_key: dict[bytes, Channel] = {}
        self._idle: OrderedDict[str, Channel] = OrderedDict()
        self._touching = asyncio.Lock()
        self._wanted: set[int] = set()  # partitions that somebody waits for
        self._reader: Reader | None = None
        self._asking: Reader | None = None  # reads nothing, so no question waits behind a fetch that is being held
        self._reading_back = asyncio.Semaphore(READS_AT_ONCE)
        self._tasks: list[asyncio.Task[None]] = []
        self._home_turn = 0
        self._progress_at_ms = 0

    async def start(self) -> None:
        self.home = home_partitions(self._bus.partitions, self._seed)
        self._reader = await self._bus.reader(EVENTS.name, dict.fromkeys(self.home, "latest"))
        self._asking = await self._bus.reader(EVENTS.name, {})
        self._next = {partition: self._reader.position(partition) for partition in self.home}
        self._progress_at_ms = self._now_ms()
        self._tasks = [asyncio.create_task(self._run()), asyncio.create_task(self._watch())]

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for reader in (self._reader, self._asking):
            if reader is not None:
                await reader.close()

    @property
    def partitions(self) -> Sequence[int]:
        return list(self._next)

    def healthy(self) -> bool:
        """Whether the reader makes progress or has nothing to read, as far as the last look says."""
        return self._now_ms() - self._progress_at_ms < 3 * self._watch_ms

    @property
    def partition_count(self) -> int:
        """How many partitions there are; an id may name one that does not exist."""
        return self._bus.partitions

    def next_home(self) -> int:
        """The partition for the next new conversation: the home partitions in turn."""
        self._home_turn += 1
        return self.home[self._home_turn % len(self.home)]

    def live_offset(self, partition: int) -> int:
        """Offset of the next record that live listeners of this partition get. KeyError when it is not read."""
        return self._next[partition]

    # channels

    async def channel(self, conversation: str, *, fresh: bool = False) -> Channel:
        """The conversation's channel, live; the caller gives it back with `release`.

        fresh: the conversation was named this moment, so its log holds nothing. Otherwise the log is read back far
        enough to see every turn that may be open. Raises PeerUnavailable when the log can not be read.
        """
        channel = self._channels.get(conversation)
        if channel is None:
            channel = self._channels[conversation] = Channel(conversation, self._bus.epoch)
            channel.ready = asyncio.create_task(self._prime(channel, fresh))
        channel.users += 1
        self._idle.pop(conversation, None)
        try:
            assert channel.ready is not None
            await asyncio.shield(channel.ready)
        except BaseException:
            self.release(channel)
            raise
        return channel

    def ended(self, conversation: str, turn: str) -> bool:
        """Whether this gateway has seen the turn end, as long as it folds the conversation."""
        channel = self._channels.get(conversation)
        return channel is not None and channel.fold.ended(turn)

    def release(self, channel: Channel) -> None:
        """The caller is done with the channel; it stays folded while it is among the last used ones."""
        channel.users -= 1
        if channel.users > 0:
            return
        if not channel.live and channel.ready is not None and channel.ready.done():
            self._drop(channel)
            return
        self._idle[channel.conversation] = channel
        while len(self._idle) > self._limits.idle_channels:
            self._drop(self._idle.popitem(last=False)[1])

    def _drop(self, channel: Channel) -> None:
        self._channels.pop(channel.conversation, None)
        self._by_key.pop(channel.key, None)
        partition = channel.partition
        in_use = any(other.partition == partition for other in self._channels.values())
        if partition not in self.home and not in_use and self._next.pop(partition, None) is not None:
            assert self._reader is not None
            task = asyncio.ensure_future(self._reader.remove(partition))
            task.add_done_callback(_report)

    async def _prime(self, channel: Channel, fresh: bool) -> None:
        await self._touch(channel.partition)

        def go_live() -> None:
            channel.live = True
            self._by_key[channel.key] = channel

        if fresh:
            channel.fold.next_offset = self._next[channel.partition]
            go_live()
        else:
            begin = await self.open_turns_from(channel.partition)
            await self.replay(channel.partition, channel.key, channel.fold, begin, go_live)

    async def _touch(self, partition: int) -> None:
        if not 0 <= partition < self._bus.partitions:
            raise PeerUnavailable("the log has no such partition", code="no_such_partition", partition=partition)
        self._wanted.add(partition)
        async with self._touching:
            if partition in self._next:
                return
            # Whoever comes first brings those of all who wait: the reader's client is made anew once and not for each.
            wanted = [partition, *(self._wanted - self._next.keys() - {partition})]
            self._wanted.clear()
            assert self._reader is not None
            ends = await asyncio.gather(*[self._asked.end_offset(one) for one in wanted])
            found = dict(zip(wanted, ends, strict=True))
            await self._reader.add_all(found)
            self._next.update(found)

    # the log behind the live position

    @property
    def _asked(self) -> Reader:
        """Whom to ask for offsets. Not the reader of the live side: its client is swapped when partitions change, and
        with it goes every question that was asked on it."""
        assert self._asking is not None
        return self._asking

    async def open_turns_from(self, partition: int) -> int:
        """An offset at or before the first fact of every turn of the partition that may be open now.

        Two lower bounds hold: turns do not outlive their deadline, and the store knows where its oldest open turn
        began. The later one is taken.
        """
        oldest_ms = self._now_ms() - self._limits.longest_turn_ms
        by_time = await self._asked.offset_for_time(partition, oldest_ms)
        if by_time is None:
            by_time = await self._asked.end_offset(partition)
        return max(by_time, await self._stored_from(partition))

    async def not_stored_from(self, partition: int, since_ms: int) -> int:
        """An offset at or before everything since `since_ms` that the store does not know yet."""
        by_time = await self._asked.offset_for_time(partition, since_ms)
        if by_time is None:
            by_time = await self._asked.end_offset(partition)
        return max(by_time, await self._stored_from(partition))

    async def oldest(self, partition: int) -> int:
        return await self._asked.start_offset(partition)

    async def _stored_from(self, partition: int) -> int:
        try:
            return await self._store.resume_offset(partition) or 0
        except HeadstartError as error:
            log.warning("the store does not say how far it is: %s", error)
            return 0  # the bound by time alone is right too, only farther back

    async def replay(
        self, partition: int, key: bytes, fold: ConversationFold, begin: int, join: Callable[[], None],
        each: Callable[[Step], Awaitable[None]] | None = None, on_gap: Callable[[Gap], Awaitable[None]] | None = None,
    ) -> None:  # fmt: skip
        """Folds the conversation's records from `begin` to the live position, which the partition must have.

        each: awaited for every step. join: called without a pause at the live position; from the next record on the
        live side has them. on_gap: what was to be read has aged out. What `each` raises ends the replay.
        """
        async with self._reading(partition, begin) as reader:
            while True:
                if reader.position(partition) >= self._next[partition]:
                    fold.next_offset = max(fold.next_offset, reader.position(partition))
                    join()
                    return
                records = await reader.batch(wait_ms=HISTORY_WAIT_MS)
                for gap in reader.gaps:
                    if on_gap is not None:
                        await on_gap(gap)
                reader.gaps.clear()
                for record in records:
                    if record.key == key:
                        step = fold.receive(record)
                        if step is not None and each is not None:
                            await each(step)

    async def scan(self, partition: int, begin: int, match: Callable[[Record], T | None]) -> T | None:
        """The first thing `match` makes of a record from `begin` to the end of the partition, None when it makes
        nothing of any."""
        async with self._reading(partition, begin) as reader:
            end = await reader.end_offset(partition)
            while reader.position(partition) < end:
                for record in await reader.batch(wait_ms=HISTORY_WAIT_MS):
                    found = match(record)
                    if found is not None:
                        return found
            return None

    @asynccontextmanager
    async def _reading(self, partition: int, begin: int) -> AsyncIterator[Reader]:
        """A short-lived reader of its own, of which there are READS_AT_ONCE: a thousand clients that come back at once
        must not fetch a thousand times over at once."""
        async with self._reading_back:
            reader = await self._bus.reader(EVENTS.name, {partition: begin})
            try:
                yield reader
            finally:
                await reader.close()

    # the live side

    async def _run(self) -> None:
        while True:
            assert self._reader is not None
            reader = self._reader
            try:
                records = await reader.batch()
            except HeadstartError as error:
                if reader is self._reader:
                    log.warning("the reader of events failed and is rebuilt: %s", error)
                    await self._rebuild()
                continue
            except Exception:
                # Whatever it is, the gateway reads on: it would be deaf and look alive otherwise.
                log.exception("the reader of events failed in a way of its own and is rebuilt")
                await asyncio.sleep(UNKNOWN_PAUSE_S)
                if reader is self._reader:
                    await self._rebuild()
                continue
            if reader is self._reader:
                self._dispatch(records)

    def _dispatch(self, records: Sequence[Record]) -> None:
        by_key, following = self._by_key, self._next
        for record in records:
            partition = record.partition
            if record.offset < following.get(partition, 1 << 63):
                continue  # dropped since, or read again after a rebuild
            following[partition] = record.offset + 1
            channel = by_key.get(record.key) if record.key is not None else None
            if channel is None:
                continue
            try:
                step = channel.fold.receive(record)
            except Exception:
                log.exception("a fact of %s can not be shown and is left out", channel.conversation)
                continue
            if step is not None:
                self.steps += 1
                for listener in tuple(channel.listeners):
                    try:
                        listener.deliver(step)
                    except Exception:
                        log.exception("a listener of %s failed and is let go", channel.conversation)
                        channel.leave(listener)
        self.records += len(records)

    async def _watch(self) -> None:
        """Progress, not a living task, is health: lag that does not shrink means that the reader hangs."""
        seen: dict[int, int] = {}
        while True:
            await asyncio.sleep(self._watch_ms / 1000)
            try:
                stuck = False
                for partition, at in list(self._next.items()):
                    if seen.get(partition) == at and await self._asked.end_offset(partition) > at:
                        stuck |= self._next.get(partition) == at
                    seen[partition] = at
                if stuck:
                    await self._rebuild()
                else:
                    self._progress_at_ms = self._now_ms()
            except HeadstartError as error:
                log.warning("the log does not answer: %s", error)

    async def _rebuild(self) -> None:
        async with self._touching:
            old = [reader for reader in (self._reader, self._asking) if reader is not None]
            try:
                asking = await self._bus.reader(EVENTS.name, {})
                self._reader = await self._bus.reader(EVENTS.name, dict(self._next))
            except HeadstartError as error:
                log.warning("the reader of events could not be rebuilt: %s", error)
                await asyncio.sleep(1)
                return
            self._asking = asking
            self.rebuilt += 1
            for reader in old:
                await reader.close()


def _report(task: asyncio.Future[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.warning("a partition could not be given back: %s", error)
