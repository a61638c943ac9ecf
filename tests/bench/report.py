"""The figures as tables for a person and as JSON for the next run."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import orjson
import psutil

from tests.bench.figures import number, table
from tests.bench.generator_cost import GeneratorCost
from tests.bench.journey import GAP_BUDGET_MS, HOP_BUDGET_MS, MANY, Cell, first_token_budget_ms, met
from tests.bench.load_curve import TOKENS, Point
from tests.bench.scenarios import TOKENS_PER_SECOND

FIRST_TEXT: Final = """\
Time to the first token, ms. Measured and baseline: p50 / p99. Added: p50 / p95 / p99 less the baseline's. Of it:
medians of embedding + recall + skill discovery, which a turn does whatever carries it. Hops: medians of
send → accepted / → first model call asked for (look-ups in it) / → started by its worker. The budget is for the
added p95; beside it the same less those look-ups, which leaves gateway, bus and hops."""
GAPS_TEXT: Final = """\
Between tokens, ms, at the client: p50 / p99, and what is added at p50 / p95 / p99. Hop: from the delta's record to the
client, p50 / p99 (the record's time is in whole ms, so up to 1 ms of it is rounding)."""
CPU_TEXT: Final = "CPU seconds per 1,000 tokens (plan and answer): all processes but the load generator, then each."
RESULTS: Final = Path(__file__).resolve().parents[2] / "bench-results"


def journey_text(cells: Sequence[Cell]) -> str:
    """Three tables: to the first token, between tokens, CPU."""
    first, gaps, cpu = [], [], []
    for cell in cells:
        name = [cell.broker, cell.layout, f"{cell.scenario.name} ({cell.scenario.hops} hops)", str(cell.concurrency)]
        measured, base, added = cell.journey.first(), cell.baseline.first(), cell.added_first
        budget = first_token_budget_ms(cell.scenario, cell.concurrency)
        first.append([
            *name, str(measured.count), f"{number(measured.p50)} / {number(measured.p99)}",
            f"{number(base.p50)} / {number(base.p99)}", f"{measured.p50 / base.p50:.2f}",
            f"{number(added.p50)} / {number(added.p95)} / {number(added.p99)}",
            f"{number(cell.facts.embed.p50)} + {number(cell.facts.recall.p50)} + {number(cell.facts.discover.p50)}",
            " / ".join(number(hop.p50) for hop in (cell.facts.to_accepted, cell.facts.to_asked, cell.facts.to_started)),
            met(added.p95, budget), met(cell.first_without_look_ups_ms, budget),
        ])  # fmt: skip
        measured, base, added = cell.journey.gaps(), cell.baseline.gaps(), cell.added_gap
        gaps.append([
            *name, str(measured.count), f"{number(measured.p50)} / {number(measured.p99)}",
            f"{number(base.p50)} / {number(base.p99)}",
            f"{number(added.p50)} / {number(added.p95)} / {number(added.p99)}",
            met(added.p99, GAP_BUDGET_MS) if cell.concurrency >= MANY else "–",
            f"{number(cell.facts.hop.p50)} / {number(cell.facts.hop.p99)}", met(cell.facts.hop.p50, HOP_BUDGET_MS),
        ])  # fmt: skip
        parts = ", ".join(f"{part} {used:.3f}" for part, used in sorted(cell.cpu.items(), key=lambda item: -item[1]))
        cpu.append([*name, f"{cell.cpu_total:.3f}", parts])
    place = ["broker", "layout", "turn", "at once"]
    first_head = ["turns", "measured", "baseline", "ratio", "added", "of it", "hops", "budget p95", "without look-ups"]
    gaps_head = ["gaps", "measured", "baseline", "added", "budget p99", "hop", "budget p50"]
    blocks = [
        FIRST_TEXT, table([*place, *first_head], first),
        GAPS_TEXT, table([*place, *gaps_head], gaps),
        CPU_TEXT, table([*place, "in all", "each"], cpu),
    ]  # fmt: skip
    return "\n\n".join(blocks)


def curve_text(points: Sequence[Point]) -> str:
    best = max(point.tokens_per_second for point in points)
    alone = points[0]
    rows = []
    for point in points:
        first, gaps = point.load.first(), point.load.gaps()
        rows.append([
            str(point.concurrency), str(len(point.load.turns)), f"{point.tokens_per_second:.1f}",
            f"{point.tokens_per_second / best:.0%}", f"{point.engine_cpu:.2f} / {point.machine_cpu:.2f}",
            f"{number(first.p50)} / {number(first.p99)}", f"{first.p50 / alone.load.first().p50:.2f}",
            f"{number(gaps.p50)} / {number(gaps.p99)}", f"{gaps.p50 / alone.load.gaps().p50:.2f}",
        ])  # fmt: skip
    head = ["at once", "turns", "tokens/s", "of the best", "cores busy: engine / all", "first token ms p50 / p99",
            "× alone", "between tokens ms p50 / p99", "× alone"]  # fmt: skip
    return (
        f"vLLM on the CPU with the model that ships: turns without a plan, the whole journey, {TOKENS} tokens each.\n\n"
        f"{table(head, rows)}"
    )


def generator_text(cost: GeneratorCost) -> str:
    return (
        f"The load generator's own CPU per 1,000 tokens received: raw websockets {cost.raw_ms:.0f} ms, "
        f"headstart.client {cost.client_ms:.0f} ms; the load is made with the former."
    )


def machine() -> dict[str, Any]:
    return {
        "cores": psutil.cpu_count(), "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "python": platform.python_version(), "load_average_1_min": round(psutil.getloadavg()[0], 2),
    }  # fmt: skip


def measured(before: dict[str, Any]) -> str:
    """When and on what."""
    return (
        f"Measured {datetime.now(UTC):%Y-%m-%d %H:%M} UTC on {before['cores']} cores, {before['memory_gib']} GiB, "
        f"Python {before['python']}; load average before the run {before['load_average_1_min']}; the load generator on "
        "the same cores."
    )


def heading(before: dict[str, Any]) -> str:
    return f"{measured(before)} Scripted engine at {TOKENS_PER_SECOND:g} tokens/s a stream."


def write(figures: dict[str, Any], name: str = "journey") -> Path:
    RESULTS.mkdir(exist_ok=True)
    file = RESULTS / f"{name}-{datetime.now(UTC):%Y%m%dT%H%M%SZ}.json"
    file.write_bytes(orjson.dumps(figures, option=orjson.OPT_INDENT_2))
    return file
