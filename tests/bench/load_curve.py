"""The real CPU engine under load: time to the first token and between tokens against how busy the engine is."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import psutil

from tests.bench import clients
from tests.bench.driving import Duration, Load, TurnTimes, drive
from tests.bench.installation import Installation
from tests.bench.scenarios import Scenario

TOKENS = 48  # of each answer, at most
TURN_S = 6.0  # about how long such an answer takes alone; only the spread of the loops' beginnings rests on it
STORY = Scenario("a story", "companion", 3, "Tell me a long story about a journey.", "", ())


@dataclass(slots=True)
class Point:
    """concurrency turns at once. tokens_per_second: of all streams together. engine_cpu: cores that the generation
    worker kept busy; machine_cpu: all processes of the installation."""

    concurrency: int
    load: Load
    tokens_per_second: float
    engine_cpu: float
    machine_cpu: float

    def as_json(self) -> dict[str, Any]:
        return {
            "concurrency": self.concurrency, "turns": len(self.load.turns),
            "first_token_ms": self.load.first().as_json(), "between_tokens_ms": self.load.gaps().as_json(),
            "tokens_per_second": round(self.tokens_per_second, 2), "engine_cores_busy": round(self.engine_cpu, 3),
            "all_cores_busy": round(self.machine_cpu, 3), "cores": psutil.cpu_count(),
        }  # fmt: skip


async def curve(
    installation: Installation, concurrencies: Sequence[int], duration: Duration, say: Callable[[str], None]
) -> list[Point]:
    """Closed loops of turns without a plan, each answer cut at TOKENS."""
    points = []
    async with clients.sockets(installation.where.url, installation.where.keys, 1) as opened:
        try:
            await opened.turn(0, STORY, TOKENS, 0, TOKENS)  # an engine's first request is slower than any other
        except clients.TurnWentWrong as error:
            say(f"  the engine's first turn, which is not measured: {error}")
    for concurrency in concurrencies:
        say(f"  vLLM on the CPU: {concurrency} at once …")
        where = installation.where
        async with clients.sockets(where.url, where.keys, concurrency) as opened:
            before = installation.cpu_seconds()
            load = await drive(concurrency, TURN_S, duration, _story(opened))
            after = installation.cpu_seconds()
        used = {name: (total - before.get(name, 0.0)) / load.wall_s for name, total in after.items()}
        made = sum(len(turn.deltas) for turn in load.every)
        engine = used.get("generation worker", 0.0)  # vLLM's own processes are its children
        points.append(Point(concurrency, load, made / load.wall_s, engine, sum(used.values())))
    return points


def _story(opened: clients.Sockets) -> Callable[[int, int], Awaitable[TurnTimes]]:
    return lambda index, number: opened.turn(index, STORY, TOKENS, number, TOKENS)
