"""Percentiles and tables."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Spread:
    """What a set of measurements looks like. NaN everywhere when count is 0."""

    count: int
    p50: float
    p95: float
    p99: float

    def minus(self, other: Spread) -> Spread:
        """Percentile by percentile: what was added, as far as the two sets tell."""
        return Spread(self.count, self.p50 - other.p50, self.p95 - other.p95, self.p99 - other.p99)

    def as_json(self) -> dict[str, float | int | None]:
        def known(value: float) -> float | None:
            return None if math.isnan(value) else round(value, 3)

        return {"count": self.count, "p50": known(self.p50), "p95": known(self.p95), "p99": known(self.p99)}


def spread(values: Sequence[float]) -> Spread:
    ordered = sorted(values)
    return Spread(len(ordered), _at(ordered, 0.50), _at(ordered, 0.95), _at(ordered, 0.99))


def _at(ordered: Sequence[float], share: float) -> float:
    """The smallest measurement that at least that share of all are not above."""
    if not ordered:
        return math.nan
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table, its columns aligned for a terminal."""
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
        for row in (head, *rows)
    ]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines)


def number(value: float, digits: int = 1) -> str:
    return "–" if math.isnan(value) else f"{value:.{digits}f}"
