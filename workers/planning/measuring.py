"""How far a partition has to be read until its owner knows what stands in it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from streams.bus import GroupReader, Place, Reader
from streams.topology import EVENTS
from workers.planning.holding import HeldPartition


async def measure(group: GroupReader, ends: Reader, partitions: Sequence[HeldPartition]) -> None:
    """Where each partition's `events` are read from, and where they end now. Asked side by side, and of a reader that
    reads nothing (`ends`): on the group's own connection each question would wait for the fetch that is held there.
    Raises what the bus raises."""

    async def one(partition: HeldPartition) -> None:
        number = partition.number
        committed, end, oldest = await asyncio.gather(
            group.committed(Place(EVENTS.name, number)), ends.end_offset(number), ends.start_offset(number)
        )
        partition.next_offset = max(partition.next_offset, committed or 0, oldest)
        partition.end_offset = end

    await asyncio.gather(*[one(partition) for partition in partitions])
