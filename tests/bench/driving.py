"""Keeps a number of turns going at once: each of N loops begins its next turn when its last one ended.

The loops begin spread over the length of one turn, so that what is measured is a steady load and not N turns in step.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

from tests.bench.figures import Spread, spread

MS: Final = 1000.0
clock = time.perf_counter  # an event loop's own clock may only move once per round, in whole milliseconds


@dataclass(slots=True)
class TurnTimes:
    """One turn as its client saw it, in seconds of `clock`. deltas: when each arrived, and its cursor
    ("" from an engine called directly)."""

    began: float
    deltas: list[tuple[float, str]] = field(default_factory=list)

    @property
    def first_ms(self) -> float:
        return (self.deltas[0][0] - self.began) * MS

    def gaps_ms(self) -> list[float]:
        return [(after[0] - before[0]) * MS for before, after in zip(self.deltas, self.deltas[1:], strict=False)]


@dataclass(slots=True)
class Load:
    """What a run of `drive` gave. turns: those that count. every: also those of the warm-up. wall_s: of all."""

    turns: list[TurnTimes]
    every: list[TurnTimes]
    wall_s: float

    def first(self) -> Spread:
        return spread([turn.first_ms for turn in self.turns])

    def gaps(self) -> Spread:
        return spread([gap for turn in self.turns for gap in turn.gaps_ms()])


@dataclass(frozen=True, slots=True)
class Duration:
    """How long to measure: at least `seconds`, and until `turns` turns can have ended."""

    seconds: float
    turns: int

    def of(self, concurrency: int, turn_s: float) -> float:
        return max(self.seconds, self.turns * turn_s / concurrency)


async def drive(
    concurrency: int, turn_s: float, duration: Duration, one_turn: Callable[[int, int], Awaitable[TurnTimes]]
) -> Load:
    """one_turn(loop, number): carries out one turn. turn_s: about how long one takes; one and a half of it is warm-up,
    whose turns do not count; each loop has at least one that may. The first failure ends the run and is raised."""
    started = clock()
    counted_from = started + 1.5 * turn_s
    until = counted_from + duration.of(concurrency, turn_s)
    every: list[TurnTimes] = []

    async def one_loop(index: int) -> None:
        await asyncio.sleep(turn_s * index / concurrency)
        number = 0
        while clock() < until or number < 2:  # one that counts, where a turn takes longer than all should
            every.append(await one_turn(index, number))
            number += 1

    async with asyncio.TaskGroup() as group:
        for index in range(concurrency):
            _ = group.create_task(one_loop(index))
    return Load([turn for turn in every if turn.began >= counted_from], every, clock() - started)
