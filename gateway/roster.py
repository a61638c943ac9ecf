"""Who is at work, from what workers say of themselves on `workers` every half second.

A gateway knows from it whether anybody carries out turns at all, and what can be asked for by name.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from streams.bus import Bus
from streams.events.registering import WorkerAlive
from streams.following import WorkersFollower

TURNS: Final = "turns"
FORGET_MS: Final = 5_000  # ten signs: a worker that paused is not gone
GATHER_MS: Final = 250  # nobody waits for a sign of life


class Roster:
    """`start`, ask, `stop`."""

    def __init__(self, bus: Bus, now_ms: Callable[[], int]) -> None:
        self._now_ms = now_ms
        self._heard: dict[str, tuple[WorkerAlive, int]] = {}
        self._last_ms: dict[str, int] = {}  # stage -> when somebody of it spoke last
        self._began_ms = 0
        self._follower = WorkersFollower(bus, self.hear, GATHER_MS)

    async def start(self) -> None:
        """Raises PeerError when the bus is away."""
        self._began_ms = self._now_ms()
        await self._follower.start()

    async def stop(self) -> None:
        """Safe to call twice."""
        await self._follower.stop()

    def silent_ms(self, stage: str = TURNS) -> int:
        """For how long nobody of this stage has been heard, as far as this gateway has listened."""
        return self._now_ms() - self._last_ms.get(stage, self._began_ms)

    def agents(self) -> list[str]:
        """Agents that somebody at work knows, in order of their names."""
        return sorted({agent for alive in self._alive() for agent in alive.agents})

    def models(self) -> list[str]:
        """Models that somebody at work runs, in order of their names."""
        return sorted({model for alive in self._alive() for model in alive.models})

    def hear(self, alive: WorkerAlive) -> None:
        """One sign of life, of now."""
        now_ms = self._now_ms()
        if alive.leaving:
            self._heard.pop(alive.worker, None)
            return
        self._heard[alive.worker] = (alive, now_ms)
        self._last_ms[alive.stage] = now_ms

    def _alive(self) -> list[WorkerAlive]:
        before_ms = self._now_ms() - FORGET_MS
        self._heard = {name: heard for name, heard in self._heard.items() if heard[1] >= before_ms}
        return [alive for alive, _ in self._heard.values()]
