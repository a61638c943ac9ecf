"""Which item may start now? One per lane, in order; lanes side by side up to a limit, first come first served.

Pure: the shell (lanes.py) puts items in, takes what may start, and says what ended.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Iterator
from typing import Generic, TypeVar

Item = TypeVar("Item")


class LaneQueue(Generic[Item]):
    """Items waiting by lane. limit: how many lanes may have an item running."""

    def __init__(self, limit: int) -> None:
        if limit < 1:
            raise ValueError("at least one lane must be able to run")
        self._limit = limit
        self._waiting: dict[Hashable, deque[Item]] = {}
        self._ready: deque[Hashable] = deque()  # lanes with waiting items and none running, oldest first
        self._running: set[Hashable] = set()

    def idle(self, lane: Hashable) -> bool:
        """Nothing of this lane waits or runs."""
        return lane not in self._waiting and lane not in self._running

    def put(self, lane: Hashable, item: Item) -> None:
        """Behind everything of its lane."""
        queue = self._waiting.get(lane)
        if queue is None:
            queue = self._waiting[lane] = deque()
            if lane not in self._running:
                self._ready.append(lane)
        queue.append(item)

    def take(self) -> Iterator[tuple[Hashable, Item]]:
        """What may start now; each lane given out is running from then on."""
        while self._ready and len(self._running) < self._limit:
            lane = self._ready.popleft()
            queue = self._waiting[lane]
            item = queue.popleft()
            if not queue:
                del self._waiting[lane]
            self._running.add(lane)
            yield lane, item

    def finish(self, lane: Hashable) -> None:
        """The lane's item ended; its next one may start."""
        self._running.discard(lane)
        if lane in self._waiting:
            self._ready.append(lane)

    def drop(self, unwanted: Callable[[Item], bool]) -> list[Item]:
        """Take back waiting items; what runs is left alone."""
        dropped: list[Item] = []
        for lane, queue in list(self._waiting.items()):
            kept = deque(item for item in queue if not unwanted(item))
            dropped.extend(item for item in queue if unwanted(item))
            if kept:
                self._waiting[lane] = kept
            else:
                del self._waiting[lane]
        self._ready = deque(lane for lane in self._ready if lane in self._waiting)
        return dropped

    @property
    def running(self) -> int:
        return len(self._running)

    @property
    def waiting(self) -> int:
        return sum(map(len, self._waiting.values()))
