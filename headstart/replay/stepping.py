"""A bus in memory whose one group reader gets a record when the replay gives it, and not before.

So the order in which an owner takes things in is the recording's, whatever its tasks do between. Everything else is
`MemoryBus` as it is: what the owner writes stands in the broker's log.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Mapping, Sequence

import msgspec

from streams.bus import DEFAULT_WAIT_MS, AssignedCallback, Place, RevokedCallback, Start
from streams.codec import Record
from streams.memory_bus import MemoryBroker, MemoryBus
from streams.topology import EVENTS, TURNS


class SteppedGroup:
    """The `GroupReader` of one partition of `turns` and `events`. `give` is the replay's side of it."""

    stalled = False

    def __init__(self, partition: int) -> None:
        self.assignment = frozenset({Place(TURNS.name, partition), Place(EVENTS.name, partition)})
        self._given: list[Record] | None = None
        self._wanted: asyncio.Future[None] | None = None
        self._asked = asyncio.Event()
        self._error: BaseException | None = None
        self._places = itertools.count()

    async def give(self, records: list[Record]) -> None:
        """Hands these to the owner's loop, and returns when it has taken them in and asks for more. Commands get the
        offsets of the order in which they are given: one that waited was sent before others that had their effect."""
        await self._ready()
        self._asked.clear()
        self._given = [
            msgspec.structs.replace(one, offset=next(self._places)) if one.topic == TURNS.name else one
            for one in records
        ]  # fmt: skip
        assert self._wanted is not None
        self._wanted.set_result(None)
        await self._ready()

    async def _ready(self) -> None:
        await self._asked.wait()
        if self._error is not None:
            raise self._error

    def end(self, error: BaseException) -> None:
        """The owner's loop has ended with this: whoever gives is told."""
        self._error = error
        self._asked.set()

    async def batch(self, max_records: int = 500, wait_ms: int = DEFAULT_WAIT_MS) -> list[Record]:
        self._wanted = asyncio.get_running_loop().create_future()
        self._asked.set()
        await self._wanted
        given, self._given = self._given, None
        return given or []

    async def commit(self, positions: Mapping[Place, int]) -> None:
        """Nobody goes on after a replay."""

    async def committed(self, place: Place) -> int | None:
        return None

    async def seek(self, place: Place, start: Start) -> None: ...

    def position(self, place: Place) -> int | None:
        return None

    def pause(self, places: frozenset[Place]) -> None: ...

    def resume(self, places: frozenset[Place]) -> None: ...

    async def end_offset(self, place: Place) -> int:
        raise NotImplementedError("an owner measures with a reader of its own")

    async def rebuild(self) -> None: ...

    async def close(self) -> None: ...


class SteppedBus(MemoryBus):
    """One owner's bus. broker: holds what the owner finds of `events` when it begins."""

    def __init__(self, broker: MemoryBroker, partition: int) -> None:
        super().__init__(broker)
        self.stepped = SteppedGroup(partition)

    async def group(  # type: ignore[override]  # another member than the bus in memory gives, of the same port
        self, topics: Sequence[str], group: str, on_assigned: AssignedCallback, on_revoked: RevokedCallback,
        *, gather_ms: int = 0,
    ) -> SteppedGroup:  # fmt: skip
        await on_assigned(self.stepped.assignment)
        return self.stepped
