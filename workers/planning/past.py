"""A conversation's past as the owner of its partition knows it: Postgres up to its position, the log after it.

The log after it has two parts: what the owner has read since it took the partition over, and what stands before that
and Postgres has not stored yet. The second is read only when somebody asks for it, once for the whole partition, since
a takeover must not wait for a memory worker that is far behind.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from memory.records import TurnRecord, history_messages
from memory.store import Store
from streams.bus import Bus
from streams.codec import Record, identity
from streams.errors import HeadstartError
from streams.events.recalling import HistoryMessage
from streams.events.turn import TurnAccepted
from streams.topology import EVENTS
from workers.planning.holding import HeldPartition
from workers.planning.partition import PartitionView


class Past:
    """The past of every conversation of one worker. Each question raises PeerError while Postgres or the bus is
    away, and may be asked again."""

    def __init__(self, bus: Bus, store: Store) -> None:
        self._bus, self._store = bus, store

    async def history(
        self, partition: HeldPartition, accepted: TurnAccepted, turns: int
    ) -> tuple[tuple[HistoryMessage, ...], int, str]:
        """Oldest first, the offset up to which Postgres had stored the partition, and what it says of what is older."""
        # Taken before Postgres is asked: another turn, answered later and faster, may have dropped by then what it has.
        here = tuple(partition.view.tail(accepted.conversation).ended)
        stored = await self._store.history(accepted.conversation, turns)
        partition.view.stored(stored.position)
        ended = [*await self._unread(partition, accepted.conversation, stored.resume), *here]
        newer = [record for record in ended if record.end_offset > stored.position]
        messages = list(stored.messages)
        messages += history_messages([(record.turn, record.messages) for record in newer[-turns:]])
        return tuple(messages), stored.position, stored.summary

    async def began(self, partition: HeldPartition, accepted: TurnAccepted, turn: str) -> int | None:
        """The offset at which an earlier turn of the conversation begins; None when it is not one of its turns."""
        for record in partition.view.tail(accepted.conversation).ended:
            if record.turn == turn:
                return record.begin_offset
        row = await self._store.turn(turn)
        if row is not None:
            return row.offset if row.conversation == accepted.conversation and row.offset >= 0 else None
        tail = (await self.before(partition)).tail(accepted.conversation)
        return next((record.begin_offset for record in tail.ended if record.turn == turn), None)

    async def last_agent(self, partition: HeldPartition, conversation: str) -> str:
        """Which took the newest turn of the conversation that was routed; "" for none of them, and where none was."""
        tail = partition.view.tail(conversation)
        if tail.agent is None:
            newer = (await self.before(partition)).tail(conversation).agent
            messages = (await self._store.history(conversation, 1)).messages  # of what stood before that
            last = await self._store.turn(messages[-1].turn) if messages else None
            if tail.agent is None:
                tail.agent = newer if newer is not None else last.agent if last is not None else ""
        return tail.agent

    async def _unread(self, partition: HeldPartition, conversation: str, resume: int) -> Sequence[TurnRecord]:
        """Turns that began before the first record that was read here, as far as Postgres may lack them. resume: the
        first record of the oldest turn that it does not hold whole."""
        if resume >= partition.first_offset:
            partition.before = None  # Postgres has all of it by now
            return ()
        return (await self.before(partition)).tail(conversation).ended

    async def before(self, partition: HeldPartition) -> PartitionView:
        """What the log says between what Postgres had stored, when it was first asked, and what was read here. Turns
        that began before that are in it to their end, which the view of what was read here can not make whole."""
        if partition.first_offset <= 0:
            return PartitionView()  # nothing stands before that
        task = partition.before
        if task is None or (task.done() and (task.cancelled() or task.exception() is not None)):
            task = partition.before = asyncio.create_task(self._read(partition, partition.first_offset))
        return await asyncio.shield(task)

    async def _read(self, partition: HeldPartition, end: int) -> PartitionView:
        """Every turn that begins before `end` and whose end was in the log when the partition was taken over."""
        view, number = PartitionView(), partition.number
        resume = await self._store.resume_offset(number)
        if resume is not None and resume >= end:
            return view
        reader = await self._bus.reader(EVENTS.name, {number: "earliest" if resume is None else resume})
        try:
            while (at := reader.position(number)) < end or (view.open and at < partition.end_offset):
                for record in await reader.batch():
                    _feed(view, record, end)
        finally:
            await reader.close()
        return view


def _feed(view: PartitionView, record: Record, end: int) -> None:
    """The next record; from `end` on only what belongs to a turn that began before."""
    try:
        if record.offset < end or identity(record).subject in view.open:
            _ = view.feed(record)
    except HeadstartError:
        return  # nobody can read it: it was set aside when it was met first
