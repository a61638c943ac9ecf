"""A corpus of plans, whole and broken in the ways models break them: what was written and which calls were meant.

A third of the kinds of breaks is held out: written down without looking at the parser's repair rules.
Each break leaves one reading of what was meant.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

from tests.support import plan_breaks, plan_breaks_held_out
from tests.support.plan_kinds import Kind
from tests.support.plan_writing import Plan, as_json, as_yaml, plan

KINDS: list[Kind] = [*plan_breaks.KINDS, *plan_breaks_held_out.KINDS]


@dataclass(frozen=True)
class Sample:
    """One plan: how it was broken (None: not at all), what was written, and the calls that were meant."""

    kind: Kind | None
    dialect: str
    text: str
    calls: Plan


def corpus(size: int, seed: int, *, broken: float = 0.5) -> Iterator[Sample]:
    """`size` plans, half of them JSON; of each notation that share is broken, every kind as often as the others."""
    seeded = random.Random(seed)
    kinds = {name: [found for found in KINDS if found.dialect == name] for name in ("json_list", "yaml_plan")}
    for number in range(size):
        dialect = "json_list" if number % 2 else "yaml_plan"
        if seeded.random() < broken:
            found = kinds[dialect][(number // 2) % len(kinds[dialect])]
            written, calls = found.write(seeded)
            yield Sample(found, dialect, written, calls)
        else:
            calls = plan(seeded)
            write = as_json if dialect == "json_list" else as_yaml
            yield Sample(None, dialect, write(calls, seeded), calls)
