"""The bus port: publish in order, read a partition from any position, share topics in a group.

Two parts implement it, held to one suite (tests/conformance/test_bus.py): `kafka_bus.KafkaBus` and
`memory_bus.MemoryBus`. Topics are named as in topology.py; the namespace is added and taken off inside.

Order: what one task publishes or posts to one partition stands in the log in that order. Delivery is at least once:
after an error or a lost acknowledgement a record may stand in the log or not, or twice; facts carry an identity, so
readers drop the repeat (fence.py).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Literal, NamedTuple, Protocol

from streams.codec import Record
from streams.events import Event

Start = int | Literal["earliest", "latest"]
Headers = Sequence[tuple[str, bytes]]
DEFAULT_WAIT_MS = 500  # how long an idle reader waits before it gives its caller a turn


class Place(NamedTuple):
    """One partition of one topic."""

    topic: str
    partition: int


class Gap(NamedTuple):
    """Records that a reader could not be given: they had aged out, or the log they stood in is gone."""

    place: Place
    wanted: int
    resumed_at: int


AssignedCallback = Callable[[frozenset[Place]], Awaitable[Mapping[Place, Start] | None]]
RevokedCallback = Callable[[frozenset[Place]], Awaitable[None]]


class Reader(Protocol):
    """Reads chosen partitions of one topic, each from its own position. One task at a time may call `batch`; the
    other methods may be called beside it."""

    topic: str
    gaps: list[Gap]
    """What was missed, oldest first; the reader went on at the oldest record there is. The caller may empty it."""

    @property
    def partitions(self) -> frozenset[int]: ...

    async def batch(self, max_records: int = 500, wait_ms: int = DEFAULT_WAIT_MS) -> list[Record]:
        """The next records, in order within each partition; waits up to `wait_ms` for the first, [] when none came.

        A cancel loses nothing: what was not returned is read again. Raises PeerUnavailable when the reader is closed.
        """

    async def add(self, partition: int, start: Start) -> None:
        """Read this partition too, from `start` on; one that is read already moves there."""

    async def add_all(self, starts: Mapping[int, Start]) -> None:
        """The same for several at once, which costs no more than one."""

    async def remove(self, partition: int) -> None:
        """Stop reading a partition; nothing of it is returned any more."""

    def position(self, partition: int) -> int:
        """Offset of the next record that `batch` returns. Raises KeyError for a partition that is not read."""

    async def start_offset(self, partition: int) -> int:
        """Offset of the oldest record still kept, or the end when there is none."""

    async def end_offset(self, partition: int) -> int:
        """Offset that the next record written will have."""

    async def offset_for_time(self, partition: int, time_ms: int) -> int | None:
        """Offset of the first record at or after a wall-clock time, None when there is none."""

    async def close(self) -> None:
        """Let go of it; safe to call twice. A waiting `batch` returns []."""


class GroupReader(Protocol):
    """One member of a group that shares the partitions of its topics, by range: topics with equally many partitions
    are split alike, so partition p of each is always with the same member."""

    @property
    def assignment(self) -> frozenset[Place]: ...

    @property
    def stalled(self) -> bool:
        """There are records, or nobody says whether there are, and none come although a new client was tried."""

    async def batch(self, max_records: int = 500, wait_ms: int = DEFAULT_WAIT_MS) -> list[Record]:
        """The next records of the partitions held and not paused. Like `Reader.batch`. Calling it keeps the
        membership alive, so it must be called at least every few minutes whatever else goes on."""

    async def commit(self, positions: Mapping[Place, int]) -> None:
        """Store where the group goes on: the offset after the last record done. Places no longer held are left out.
        Raises PeerUnavailable when the broker refused; what is stored is then unknown, and a repeat is harmless."""

    async def committed(self, place: Place) -> int | None:
        """What is stored, None when nothing is."""

    async def seek(self, place: Place, start: Start) -> None:
        """Go on from another offset. A place that is not held is left out."""

    def position(self, place: Place) -> int | None:
        """Offset of the next record, None while the place has none yet."""

    def pause(self, places: frozenset[Place]) -> None:
        """Hold these back: they stay assigned, and `batch` gives nothing of them."""

    def resume(self, places: frozenset[Place]) -> None: ...

    async def end_offset(self, place: Place) -> int: ...

    async def rebuild(self) -> None:
        """Leave and join again with a new client: for a watchdog that sees lag and no progress."""

    async def close(self) -> None:
        """Leave the group at once (`on_revoked` is called); safe to call twice."""


class Bus(Protocol):
    """One connection to the log."""

    namespace: str

    @property
    def partitions(self) -> int:
        """How many partitions `events` has; a conversation's id names one of them."""

    @property
    def epoch(self) -> int:
        """The random 32-bit value drawn when the log was made: another value means another log."""

    async def start(self) -> None:
        """Connect, make the topics that are missing, learn the epoch. Raises PeerUnavailable, or Misconfigured when
        the topics that are there cannot be used."""

    async def stop(self) -> None:
        """Send what is queued, then disconnect. Readers are closed by whoever opened them."""

    async def partitions_of(self, topic: str) -> int: ...

    async def publish(
        self, topic: str, partition: int, key: str, event: Event, event_id: str, source: str, extra: Headers = ()
    ) -> int:
        """Write an event and wait until it is kept; gives its offset, -1 when the broker only says that it has it.

        A cancel while waiting does not take the record back. Raises PeerTimeout or PeerUnavailable (it may stand in
        the log or not) and InvalidInput (`record_too_large`; it does not).
        """

    async def post(
        self, topic: str, partition: int, key: str, event: Event, event_id: str, source: str, extra: Headers = ()
    ) -> asyncio.Future[int]:
        """Queue an event; the future gives what `publish` gives. Waits only while the queue is full."""

    async def post_raw(
        self, topic: str, partition: int, key: bytes | None, value: bytes, headers: Headers
    ) -> asyncio.Future[int]:
        """The same for bytes as they are: dead letters, and records forwarded unchanged."""

    async def reader(self, topic: str, start: Mapping[int, Start], *, gather_ms: int = 0) -> Reader:
        """A reader of these partitions; {} is allowed, they can be added later. gather_ms: records may come that much
        later, several at a time; for whom nobody waits, since every fetch costs the broker and its reader about the
        same however little it brings."""

    async def group(
        self, topics: Sequence[str], group: str, on_assigned: AssignedCallback, on_revoked: RevokedCallback,
        *, gather_ms: int = 0,
    ) -> GroupReader:  # fmt: skip
        """Join a group. A place without a stored position begins at the oldest record. gather_ms: as in `reader`.

        on_revoked gets everything held before each rebalance and at `close`, on_assigned what is held after it, before
        any record of it is returned; both with the whole set. on_assigned may give offsets to begin at instead of the
        stored ones; it may run before this returns. An error in either is logged and changes nothing.
        """
