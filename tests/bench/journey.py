"""What gateway, bus and workers add to the engine: one cell per broker, layout, kind of turn and concurrency."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from tests.bench import clients
from tests.bench.direct import direct
from tests.bench.driving import Duration, Load, drive
from tests.bench.figures import Spread
from tests.bench.installation import Installation
from tests.bench.log_facts import LogFacts, LogMark
from tests.bench.scenarios import LONG_TOKENS, SHORT_TOKENS, TOKENS_PER_SECOND, Scenario

SPACING_MS: Final = 8.0
MANY: Final = 200
GENERATOR: Final = "load generator"
Say = Callable[[str], None]


def first_token_budget_ms(scenario: Scenario, concurrency: int) -> float:
    """Added to the time to the first token, p95."""
    if scenario.plan:
        return 25.0 if concurrency >= MANY else 15.0
    return 15.0 if concurrency >= MANY else 8.0


GAP_BUDGET_MS: Final = 10.0  # added between tokens, p99, beyond the spacing rule
HOP_BUDGET_MS: Final = 4.0  # worker → bus → client, p50


@dataclass(slots=True)
class Cell:
    """One measured cell. cpu: seconds per 1,000 tokens by process, this program's own under "load generator"."""

    broker: str
    layout: str
    scenario: Scenario
    concurrency: int
    answer_tokens: int
    journey: Load
    baseline: Load
    facts: LogFacts
    cpu: dict[str, float]

    @property
    def added_first(self) -> Spread:
        return self.journey.first().minus(self.baseline.first())

    @property
    def added_gap(self) -> Spread:
        return self.journey.gaps().minus(self.baseline.gaps())

    @property
    def first_without_look_ups_ms(self) -> float:
        """The p95 of what was added, less the medians of embedding, recall and discovery: gateway, bus and hops."""
        return self.added_first.p95 - self.facts.look_ups_ms

    @property
    def cpu_total(self) -> float:
        return sum(used for name, used in self.cpu.items() if name != GENERATOR)

    def as_json(self) -> dict[str, Any]:
        spreads = {
            "first_token_ms": self.journey.first(), "baseline_first_token_ms": self.baseline.first(),
            "added_first_token_ms": self.added_first, "between_tokens_ms": self.journey.gaps(),
            "baseline_between_tokens_ms": self.baseline.gaps(), "added_between_tokens_ms": self.added_gap,
            "hop_ms": self.facts.hop, "embed_ms": self.facts.embed, "recall_ms": self.facts.recall,
            "discover_ms": self.facts.discover, "closed_to_wire_ms": self.facts.fire,
            "send_to_accepted_ms": self.facts.to_accepted, "accepted_to_asked_ms": self.facts.to_asked,
            "asked_to_started_ms": self.facts.to_started,
        }  # fmt: skip
        return {
            "broker": self.broker, "layout": self.layout, "turn": self.scenario.name, "hops": self.scenario.hops,
            "concurrency": self.concurrency, "answer_tokens": self.answer_tokens, "turns": len(self.journey.turns),
            "tokens_per_second_and_stream": TOKENS_PER_SECOND,
            **{name: found.as_json() for name, found in spreads.items()},
            "cpu_s_per_1000_tokens": {name: round(used, 4) for name, used in sorted(self.cpu.items())},
            "cpu_s_per_1000_tokens_in_all": round(self.cpu_total, 4),
        }  # fmt: skip


async def measure(
    installation: Installation,
    scenarios: Sequence[Scenario],
    concurrencies: Sequence[int],
    duration: Duration,
    say: Say,
) -> list[Cell]:
    """Baseline and journey of each cell, one right after the other, with nothing else going on here."""
    cells = []
    await _warm_up(installation, scenarios, say)
    layout = "separate processes" if installation.separate else "one process"
    for concurrency in concurrencies:
        tokens = LONG_TOKENS if concurrency >= MANY else SHORT_TOKENS
        for scenario in scenarios:
            say(f"  {installation.broker}, {layout}: {scenario.name}, {concurrency} at once …")
            baseline = await _baseline(installation, scenario, concurrency, tokens, duration)
            mark = await LogMark.now(installation.settings)
            journey, cpu = await _journey(installation, scenario, concurrency, tokens, duration)
            facts = await mark.facts(journey.turns)
            cells.append(
                Cell(installation.broker, layout, scenario, concurrency, tokens, journey, baseline, facts, cpu)
            )
    return cells


async def _warm_up(installation: Installation, scenarios: Sequence[Scenario], say: Say) -> None:
    """A turn of each kind, so that groups are joined, pools filled and connections open. A broker that was just
    started may need longer for a group's first assignment than a gateway waits for a turn to begin."""
    async with clients.sockets(installation.where.url, installation.where.keys, 1) as opened:
        for scenario in scenarios:
            try:
                await opened.turn(0, scenario, SHORT_TOKENS, 0)
            except clients.TurnWentWrong as error:
                say(f"  the first turn after the start, which is not measured: {error}")


def _turn_s(scenario: Scenario, tokens: int) -> float:
    return scenario.tokens(tokens) / TOKENS_PER_SECOND


async def _baseline(
    installation: Installation, scenario: Scenario, concurrency: int, tokens: int, duration: Duration
) -> Load:
    async with direct(installation.settings, installation.demo_url) as engine:
        return await drive(
            concurrency, _turn_s(scenario, tokens), duration,
            lambda index, number: engine.turn(scenario, tokens, f"direct/{index}/{number}"),
        )  # fmt: skip


async def _journey(
    installation: Installation, scenario: Scenario, concurrency: int, tokens: int, duration: Duration
) -> tuple[Load, dict[str, float]]:
    where = installation.where
    async with clients.sockets(where.url, where.keys, concurrency) as opened:
        before = cpu_now(installation)
        load = await drive(
            concurrency, _turn_s(scenario, tokens), duration,
            lambda index, number: opened.turn(index, scenario, tokens, number),
        )  # fmt: skip
        after = cpu_now(installation)
    thousands = len(load.every) * scenario.tokens(tokens) / 1000
    return load, {name: (used - before.get(name, 0.0)) / thousands for name, used in after.items()}


def cpu_now(installation: Installation) -> dict[str, float]:
    own = os.times()
    return {**installation.cpu_seconds(), GENERATOR: own.user + own.system}


def met(figure: float, budget: float) -> str:
    if math.isnan(figure):
        return "–"
    return f"{'met' if figure <= budget else 'NOT MET'} (≤ {budget:g})"
