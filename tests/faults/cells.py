"""What is hit, when and how: the cells of the matrix, and what is written down about a run. Pure."""

from __future__ import annotations

import itertools
import random
from typing import Final, Literal

import msgspec

from tests.faults.judging import Span, Verdict
from tests.faults.moments import MOMENTS, Moment
from tests.faults.stack import PARTS, Part

Method = Literal["kill", "zombie", "restart"]
STALLS: Final[tuple[Part, ...]] = ("gateway", "turns", "generation", "memory", "skills")
ORDER_SEED: Final = 20_260_101  # of the order of the cells, which is the same for all


class Cell(msgspec.Struct, frozen=True, order=True):
    """What is hit, when, and how. "all" and "any": a restart of everything under load."""

    part: Part | Literal["all"]
    moment: Moment | Literal["any"]
    method: Method

    def text(self) -> str:
        return f"{self.method} {self.part} at {self.moment}"


class RunReport(msgspec.Struct):
    """seed: repeats the run. hit: the process, "" when the moment was not met. took_s: to the last turn's end."""

    seed: int
    broker: str
    cell: Cell
    hit: str
    took_s: float
    verdict: Verdict


class Ran(msgspec.Struct):
    """A run and what is looked at again when all are over. spans: what it wrote to the log, by partition. said: the
    answers of each conversation whose turns were all completed, oldest first."""

    report: RunReport
    spans: dict[int, Span]
    said: dict[str, list[str]]


def cells(
    parts: tuple[Part, ...] = PARTS, moments: tuple[Moment, ...] = MOMENTS, stalls: tuple[Part, ...] = STALLS
) -> list[Cell]:
    """Every cell, in a mixed order: run number n takes the nth, again and again. stalls: what may be a zombie."""
    found = [Cell(part, moment, "kill") for part, moment in itertools.product(parts, moments)]
    found += [Cell(part, moment, "zombie") for part, moment in itertools.product(parts, moments) if part in stalls]
    random.Random(ORDER_SEED).shuffle(found)
    return found
