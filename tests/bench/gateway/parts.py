"""What every part of the gateway's benchmark is given, and what it gives back."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.bench.driving import MS, clock
from tests.bench.figures import Spread, spread


@dataclass(frozen=True, slots=True)
class World:
    """folder: for logs and data. kafka_home None: the embedded broker. say: progress, beside the tables."""

    folder: Path
    cache: Path
    kafka_home: Path | None
    quick: bool
    say: Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Section:
    """title: what was measured. text: tables and how to read them. figures: the same for the next run, as JSON."""

    title: str
    text: str
    figures: dict[str, Any]


Part = Callable[[World], Awaitable[Section]]


@dataclass(slots=True)
class Gaps:
    """Times between the deltas of each of `count` streams, in ms, while `counting`."""

    count: int
    counting: bool = False
    deltas: int = 0
    values: list[float] = field(default_factory=list)
    _last: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._last = [0.0] * self.count

    def seen(self, number: int) -> None:
        """A delta of stream `number`, now."""
        now, last = clock(), self._last[number]
        self._last[number] = now
        if self.counting and last:
            self.values.append((now - last) * MS)
            self.deltas += 1

    def begin(self) -> None:
        """From here on deltas count; what came before is forgotten."""
        self.values.clear()
        self.deltas = 0
        self._last = [0.0] * self.count
        self.counting = True

    def end(self) -> Spread:
        self.counting = False
        return spread(self.values)


def steps(quick: bool, few: Sequence[int], many: Sequence[int]) -> Sequence[int]:
    return few if quick else many
