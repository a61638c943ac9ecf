"""`python -m tests.bench.firing`: how much of the skills' latency is hidden by firing early, on a grid of plans.

Prints a table with a row for each cell, also for those where nothing can be saved, and the sums; writes JSON and an
SVG picture into bench-results/. docs/firing.md says how each figure is computed. Nothing is asserted on time.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import orjson

from streams.process import new_event_loop
from tests.bench import report
from tests.bench.figures import number, spread, table
from tests.bench.firing_grid import QUICK, RATES, Cell, every_cell
from tests.bench.firing_others import FRAMEWORKS, environment, turns
from tests.bench.firing_ours import Harness, Run, consistent, harness
from tests.bench.firing_picture import picture
from tests.bench.own_environment import LeftOut

AT_ONCE: Final[Mapping[int, int]] = {20: 6, 50: 6, 200: 2}
"""How many turns run side by side, by tokens a second: they wait most of the time, but each token takes some."""
SHARE_GOAL: Final = 0.98
LAG_GOAL_MS: Final = 1.0
REAL_TIME: Final = 50  # of 99; above everything ordinary on a machine that is not idle


def options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.firing", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="8 of the grid's 108 cells")
    parser.add_argument("--no-others", action="store_true", help="leave LangGraph and pydantic-ai out")
    parser.add_argument("--no-real-time", action="store_true", help="do not ask for real-time priority")
    return parser.parse_args(arguments)


@contextmanager
def world() -> Iterator[int]:
    """The process with the skills and the other frameworks' model; gives its port."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.bench.firing_world"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        cwd=report.RESULTS.parent,
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield int(process.stdout.readline())
    finally:
        process.stdin.close()
        process.wait()


async def ours(skills_at: str, cells: Sequence[Cell], at_once: Mapping[int, int]) -> list[tuple[Run, Run]]:
    """Each cell twice: firing early, and waiting for the whole message. Slow cells side by side, fast ones after."""
    found: dict[int, dict[str, Run]] = {number: {} for number in range(len(cells))}
    async with harness(skills_at) as made:
        await _warm_up(made)
        for several in sorted(set(at_once.values()), reverse=True):
            place = asyncio.Semaphore(several)

            async def one(index: int, kind: str, place: asyncio.Semaphore = place) -> None:
                async with place:
                    found[index][kind] = await made.run(cells[index], index, kind)

            wanted = [index for index, cell in enumerate(cells) if at_once[cell.rate] == several]
            await asyncio.gather(*(one(index, kind) for index in wanted for kind in "ew"))
    return [(runs["e"], runs["w"]) for runs in found.values()]


async def _warm_up(made: Harness) -> None:
    await made.run(Cell(200, 50, 6, 0, "first"), 999, "e")


def row(early: Run, whole: Run, others: Mapping[str, float]) -> dict[str, Any]:
    cell = early.cell
    return {
        "tokens_per_second": cell.rate, "skill_ms": cell.delay_ms, "calls": cell.calls, "tokens_after": cell.after,
        "needed": cell.needed, "stream_ms": cell.stream_ms, "bound_ms": cell.bound_ms, "whole_ms": cell.whole_ms,
        "hideable_ms": cell.hideable_ms, "early_turn_ms": early.turn_ms, "whole_turn_ms": whole.turn_ms,
        "hidden_ms": round(cell.whole_ms - early.turn_ms, 3), "over_bound_ms": round(early.turn_ms - cell.bound_ms, 3),
        "saved_ms": early.end.saved_ms, "oracle_ms": early.end.oracle_ms, "lags_ms": early.lags_ms,
        "others_turn_ms": dict(others), "facts": consistent([early, whole]),
    }  # fmt: skip


def summary(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    lags = spread([lag for one in rows for lag in one["lags_ms"]])
    over = spread([one["over_bound_ms"] for one in rows])
    ratio = {"whole message": [one["whole_turn_ms"] / one["early_turn_ms"] for one in rows]}
    for name in rows[0]["others_turn_ms"]:
        ratio[name] = [one["others_turn_ms"][name] / one["early_turn_ms"] for one in rows]
    return {
        "hidden_share": sum(one["hidden_ms"] for one in rows) / sum(one["hideable_ms"] for one in rows),
        "oracle_share": sum(one["saved_ms"] for one in rows) / max(1e-9, sum(one["oracle_ms"] for one in rows)),
        "fire_lag_ms": lags.as_json(), "over_bound_ms": over.as_json(),
        "ratio": {name: {"median": statistics.median(all_of), "max": max(all_of), "min": min(all_of)}
                  for name, all_of in ratio.items()},
        "facts": [wrong for one in rows for wrong in one["facts"]],
    }  # fmt: skip


def text(rows: Sequence[dict[str, Any]], total: dict[str, Any]) -> str:
    names = list(rows[0]["others_turn_ms"])
    head = ["tok/s", "skill ms", "calls", "after", "needed", "bound", "early", "whole", *names, "hideable", "hidden",
            "share", "over bound", "lag p50 / max"]  # fmt: skip
    lines = [[
        str(one["tokens_per_second"]), str(one["skill_ms"]), str(one["calls"]), str(one["tokens_after"]), one["needed"],
        number(one["bound_ms"], 0), number(one["early_turn_ms"]), number(one["whole_turn_ms"]),
        *(number(one["others_turn_ms"][name]) for name in names), number(one["hideable_ms"], 0),
        number(one["hidden_ms"]), f"{one['hidden_ms'] / one['hideable_ms']:.1%}" if one["hideable_ms"] > 0 else "–",
        number(one["over_bound_ms"]),
        f"{number(statistics.median(one['lags_ms']), 2)} / {number(max(one['lags_ms']), 2)}",
    ] for one in rows]  # fmt: skip
    lag, over = total["fire_lag_ms"], total["over_bound_ms"]
    said = [
        "Turn times in ms: from the request for the plan at the model to the request for the answer.", "",
        table(head, lines), "",
        (f"hidden / hideable latency: {total['hidden_share']:.2%} (goal {SHARE_GOAL:.0%} or more); by the turns' own "
        f"facts, saved / oracle: {total['oracle_share']:.2%}"),
        f"over the bound, ms: p50 {over['p50']:.1f}, p95 {over['p95']:.1f}, p99 {over['p99']:.1f}",
        (f"fire lag, ms, {lag['count']} calls: p50 {lag['p50']:.2f}, p99 {lag['p99']:.2f} "
        f"(goal p99 {LAG_GOAL_MS:g} or less)"),
        *(f"turn time of {name} / ours: median {all_of['median']:.2f}, from {all_of['min']:.2f} to {all_of['max']:.2f}"
          for name, all_of in total["ratio"].items()),
        *(f"NOT CONSISTENT: {wrong}" for wrong in total["facts"]),
    ]  # fmt: skip
    return "\n".join(said)


async def bench(chosen: argparse.Namespace) -> None:
    machine = report.machine()
    cells = list(QUICK if chosen.quick else every_cell())
    at_once = {rate: AT_ONCE[rate] for rate in RATES}
    others: dict[str, list[float]] = {}
    started = time.monotonic()
    priority = "normal"
    if not chosen.no_real_time:
        with suppress(PermissionError, AttributeError):
            os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(REAL_TIME))  # its children inherit it
            priority = "real-time"
    with world() as port:
        pairs = await ours(f"127.0.0.1:{port}", cells, at_once)
        if not chosen.no_others:
            try:
                python = environment(Path.home() / ".cache" / "headstart")
                for framework in FRAMEWORKS:
                    others[framework] = await turns(python, framework, port, cells, at_once)
            except LeftOut as error:
                sys.stdout.write(f"LangGraph and pydantic-ai are left out where they are missing: {error}\n")
    rows = [
        row(early, whole, {name: all_of[index] for name, all_of in others.items()})
        for index, (early, whole) in enumerate(pairs)
    ]
    total = summary(rows)
    heading = (
        f"Measured {datetime.now(UTC):%Y-%m-%d %H:%M} UTC on {machine['cores']} cores, Python {machine['python']}, "
        f"{priority} priority for every process of the benchmark; load average before the run "
        f"{machine['load_average_1_min']}; {len(cells)} cells in {time.monotonic() - started:.0f} s."
    )
    sys.stdout.write(f"{heading}\n\n{text(rows, total)}\n")
    report.RESULTS.mkdir(exist_ok=True)
    stem = report.RESULTS / f"firing-{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
    figures = {"machine": machine, "heading": heading, "summary": total, "cells": rows}
    stem.with_suffix(".json").write_bytes(orjson.dumps(figures, option=orjson.OPT_INDENT_2))
    stem.with_suffix(".svg").write_text(picture(rows, total))
    sys.stdout.write(f"\nJSON and picture: {stem}.json, {stem}.svg\n")


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(bench(options(sys.argv[1:])))
