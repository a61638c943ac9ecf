"""How many calls run side by side: per skill (its manifest says), per tenant and per turn, first come, first served.

A call takes its three places at once or waits holding none, so that calls waiting for a busy skill never keep a
tenant's other calls out. One that can not go yet does not hold up those behind it that can.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from types import TracebackType
from typing import Final

PER_TENANT: Final = 256
PER_TURN: Final = 16

Places = tuple[tuple[str, int], ...]  # (key, how many may hold it)


class Limits:
    """Counts in one event loop. A cancelled waiter holds nothing."""

    def __init__(self, per_tenant: int = PER_TENANT, per_turn: int = PER_TURN) -> None:
        self._per_tenant, self._per_turn = per_tenant, per_turn
        self._held: Counter[str] = Counter()
        self._waiting: dict[asyncio.Future[None], Places] = {}

    @property
    def waiting(self) -> int:
        """How many calls wait for a place."""
        return len(self._waiting)

    def running(self, key: str) -> int:
        """How many hold `skill:<name>`, `tenant:<name>` or `turn:<id>`."""
        return self._held[key]

    def place(self, skill: str, concurrency: int, tenant: str, turn: str) -> Place:
        """`async with`: holds a place while its block runs; waits for one first."""
        return Place(
            self,
            (
                (f"skill:{skill}", concurrency),
                (f"tenant:{tenant}", self._per_tenant),
                (f"turn:{turn}", self._per_turn),
            ),
        )

    async def take(self, places: Places) -> None:
        if self._fits(places):
            self._hold(places)
            return
        granted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[granted] = places
        try:
            await granted
        except asyncio.CancelledError:
            if granted.done() and not granted.cancelled():
                self.give(places)  # the place came in the moment of the cancel
            raise
        finally:
            self._waiting.pop(granted, None)

    def _fits(self, places: Places) -> bool:
        return all(self._held[key] < limit for key, limit in places)

    def _hold(self, places: Places) -> None:
        for key, _ in places:
            self._held[key] += 1

    def give(self, places: Places) -> None:
        for key, _ in places:
            self._held[key] -= 1
            if not self._held[key]:
                del self._held[key]
        for granted, wanted in list(self._waiting.items()):
            if not granted.done() and self._fits(wanted):
                self._hold(wanted)
                granted.set_result(None)


class Place:
    """One call's three places, held while its block runs. Every call goes through here on its way out, so it is a class
    with two methods and not a generator."""

    __slots__ = ("_limits", "_places")

    def __init__(self, limits: Limits, places: Places) -> None:
        self._limits, self._places = limits, places

    async def __aenter__(self) -> None:
        await self._limits.take(self._places)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._limits.give(self._places)
