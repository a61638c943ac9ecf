"""What a kind of break is, and the two ways most are written: as a change of a plan's JSON, or of its YAML lines."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from dataclasses import dataclass

from tests.support.plan_writing import Plan, as_json, by_hand

Make = Callable[[random.Random], Plan]
Change = Callable[[str, random.Random], str]
Write = Callable[[random.Random], tuple[str, Plan]]
Changes = dict[str, tuple[Make, Change]]


@dataclass(frozen=True)
class Kind:
    """One way in which models break a plan. `write` gives the text and the calls that are meant."""

    name: str
    dialect: str
    held_out: bool
    write: Write


class Kinds(list[Kind]):
    """Kinds that were written for the same reason."""

    def __init__(self, *, held_out: bool) -> None:
        super().__init__()
        self._held_out = held_out

    def kind(self, dialect: str) -> Callable[[Write], Write]:
        """Adds a kind that writes its own text; named after the function."""

        def add(write: Write) -> Write:
            self._add(write.__name__.removeprefix("json_").removeprefix("yaml_"), dialect, write)
            return write

        return add

    def json(self, changes: Changes) -> None:
        """Adds kinds that change the JSON text of a plan."""
        for name, (make, change) in changes.items():
            self._add(name, "json_list", changed(make, change))

    def yaml(self, changes: Changes) -> None:
        """Adds kinds that change the lines of a plan in YAML."""
        for name, (make, change) in changes.items():
            self._add(name, "yaml_plan", yaml_of(make, change))

    def _add(self, name: str, dialect: str, write: Write) -> None:
        self.append(Kind(name, dialect, self._held_out, write))


def changed(make: Make, change: Change) -> Write:
    """A break of the JSON text of a plan."""

    def write(seeded: random.Random) -> tuple[str, Plan]:
        calls = make(seeded)
        return change(as_json(calls, seeded, indent=seeded.choice([None, 2])), seeded), calls

    return write


def outside(source: str, pattern: str, replace: Callable[[re.Match[str]], str]) -> str:
    """Replaces outside of JSON strings only."""
    parts = re.split(r'("(?:[^"\\]|\\.)*")', source)
    return "".join(part if number % 2 else re.sub(pattern, replace, part) for number, part in enumerate(parts))


def once(source: str, pattern: str, replace: str, seeded: random.Random) -> str:
    """Replaces one match, anywhere."""
    found = list(re.finditer(pattern, source))
    if not found:
        return source
    match = seeded.choice(found)
    return source[: match.start()] + match.expand(replace) + source[match.end() :]


def yaml_of(make: Make, change: Change) -> Write:
    """A break of the lines of a plan."""

    def write(seeded: random.Random) -> tuple[str, Plan]:
        calls = make(seeded)
        return change("\n".join(by_hand(calls)) + "\n", seeded), calls

    return write
