"""The grid of `make bench-firing`: what the scripted model writes in each cell, and the schedules to compare with.

A plan is a JSON list of calls of one skill. Each call names what it needs (`item`) and spells three more arguments out
with the values they have by default, as models do; `needed` says whether `item` stands first or last among them. The
model writes three bytes a token, at even distances, the first one distance after the request.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

from streams.events.registering import SkillManifest

BYTES_PER_TOKEN: Final = 3
RATES: Final = (20, 50, 200)
DELAYS_MS: Final = (50, 300, 1_000)
CALLS: Final = (1, 3, 6)
AFTER_TOKENS: Final = (0, 100)
NEEDED: Final = ("first", "last")
DEFAULTS: Final = {"language": "en", "units": "metric", "detail": "brief"}
AFTERWARDS: Final = " I have asked for all of it and will tell you what I find."


@dataclass(frozen=True)
class Cell:
    """rate: tokens a second. delay_ms: how long the skill takes. after: tokens of text behind the plan."""

    rate: int
    delay_ms: int
    calls: int
    after: int
    needed: str

    @property
    def name(self) -> str:
        return f"{self.rate} tok/s, {self.delay_ms} ms, {self.calls} calls, +{self.after}, {self.needed}"

    def arguments(self, number: int, run: str) -> dict[str, str]:
        item = {"item": f"{run}-{number}"}
        return item | DEFAULTS if self.needed == "first" else DEFAULTS | item

    def text(self, run: str) -> str:
        """What the model writes; `run` makes the arguments of every run its own. Its length is the same for all."""
        calls = [{"name": skill_name(self.delay_ms), "arguments": self.arguments(n, run)} for n in range(self.calls)]
        text = json.dumps(calls)
        wanted = self.after * BYTES_PER_TOKEN
        return text + "".join(itertools.islice(itertools.cycle(AFTERWARDS), wanted))

    @cached_property
    def _sample(self) -> str:
        return self.text(RUN_SAMPLE)

    def due_ms(self, position: int) -> float:
        """When the token with the character at `position` is there, since the request."""
        return (position // BYTES_PER_TOKEN + 1) * 1000 / self.rate

    @property
    def stream_ms(self) -> float:
        """When the last token is there."""
        return self.due_ms(len(self._sample) - 1)

    @property
    def ready_ms(self) -> list[float]:
        """When the last character that each call needs is there: the quote that closes `item`."""
        items = [f"{RUN_SAMPLE}-{number}" for number in range(self.calls)]
        return [self.due_ms(self._sample.index(item) + len(item)) for item in items]

    @property
    def whole_ms(self) -> float:
        """The schedule of waiting for the whole message: its end, then every call side by side."""
        return self.stream_ms + self.delay_ms

    @property
    def bound_ms(self) -> float:
        """The schedule of an oracle: each call leaves the instant its last needed character exists."""
        return max(self.stream_ms, max(self.ready_ms) + self.delay_ms)

    @property
    def hideable_ms(self) -> float:
        """What of the skills' latency can be hidden behind the model's writing."""
        return self.whole_ms - self.bound_ms


RUN_SAMPLE: Final = "r000e"


def run_name(number: int, kind: str) -> str:
    """Names a run in its arguments; five characters. kind: one letter."""
    return f"r{number:03d}{kind}"


def every_cell() -> Iterator[Cell]:
    for values in itertools.product(RATES, DELAYS_MS, CALLS, AFTER_TOKENS, NEEDED):
        yield Cell(*values)


QUICK: Final = (
    Cell(50, 300, 1, 0, "last"), Cell(50, 300, 3, 0, "first"), Cell(50, 1_000, 3, 100, "first"),
    Cell(200, 50, 6, 100, "last"), Cell(200, 300, 6, 0, "first"), Cell(200, 1_000, 1, 100, "first"),
    Cell(200, 1_000, 6, 100, "last"), Cell(50, 50, 6, 0, "last"),
)  # fmt: skip


def skill_name(delay_ms: int) -> str:
    return f"look_up_{delay_ms}"


def parameters() -> dict[str, Any]:
    """The skill's parameters: one needed, three with defaults."""
    optional = {name: {"type": "string", "default": value} for name, value in DEFAULTS.items()}
    return {
        "type": "object", "properties": {"item": {"type": "string"}, **optional}, "required": ["item"],
        "additionalProperties": False,
    }  # fmt: skip


def manifest(delay_ms: int, place: str) -> SkillManifest:
    """The skill that takes `delay_ms`, at host:port `place`."""
    return SkillManifest(
        name=skill_name(delay_ms), version="1", description="looks an item up", parameters=parameters(), owner="bench",
        url=f"http://{place}/skill/{delay_ms}", hosts=(place,), timeout_ms=30_000, fire_on=("item",),
        concurrency=1_024,
    )  # fmt: skip
