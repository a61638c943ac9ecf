"""`python -m tests.bench`: what the journey adds to a model, in figures with their budgets beside them.

Everything that is measured is started for it and stopped after it, whatever happens. Nothing is asserted on time.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from streams.apache_kafka import KafkaInstallation, find_kafka
from streams.process import new_event_loop
from tests.bench import report
from tests.bench.driving import Duration
from tests.bench.generator_cost import generator_cost
from tests.bench.installation import installed
from tests.bench.journey import Cell, measure
from tests.bench.load_curve import curve
from tests.bench.scenarios import NO_PLAN, SCENARIOS, USUAL

BROKERS = ("tansu", "kafka")
FULL = Duration(seconds=10.0, turns=10)
QUICK = Duration(seconds=4.0, turns=4)
CURVE_FULL, CURVE_QUICK = (1, 2, 4, 8, 16), (1, 4)
CURVE_DURATION, CURVE_DURATION_QUICK = Duration(25.0, 6), Duration(12.0, 2)


def options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="short runs: that it works, and rough figures")
    parser.add_argument("--broker", choices=BROKERS, action="append", help="only this one; may be repeated")
    parser.add_argument("--concurrency", type=int, action="append", help="turns at once; may be repeated")
    parser.add_argument(
        "--turn",
        choices=[scenario.name for scenario in SCENARIOS],
        action="append",
        help=f"only this kind; without it: {' and '.join(scenario.name for scenario in USUAL)}",
    )
    parser.add_argument("--layout", choices=("separate", "one"), action="append", help="only stages so laid out")
    parser.add_argument("--no-vllm", action="store_true", help="leave the load curve of the real engine out")
    parser.add_argument("--no-journey", action="store_true", help="only that load curve")
    parser.add_argument("--partitions", type=int, help="of the topics that hold conversations")
    parser.add_argument(
        "--data", type=Path, help="folder for logs and data, kept afterwards; without it a temporary one"
    )
    return parser.parse_args(arguments)


def say(line: str) -> None:
    """Progress, beside the tables on stdout."""
    sys.stderr.write(f"{line}\n")


def kafka_at_hand() -> KafkaInstallation | str:
    """The Apache Kafka that KAFKA_HOME names, or why there is none."""
    home = os.environ.get("KAFKA_HOME") or os.environ.get("HEADSTART_KAFKA_HOME")
    return find_kafka(Path(home), os.environ) if home else "KAFKA_HOME is not set"


async def journeys(chosen: argparse.Namespace, folder: Path, figures: dict[str, Any]) -> None:
    concurrencies = chosen.concurrency or ([1, 20] if chosen.quick else [1, 20, 200])
    scenarios = [scenario for scenario in SCENARIOS if scenario.name in chosen.turn] if chosen.turn else list(USUAL)
    duration = QUICK if chosen.quick else FULL
    cells: list[Cell] = []
    cost = None
    for broker in chosen.broker or BROKERS:
        home = None
        if broker == "kafka":
            found = kafka_at_hand()
            if isinstance(found, str):
                sys.stdout.write(f"Apache Kafka is left out: {found}\n")
                continue
            home = found.home
        for layout in chosen.layout or ("separate", "one"):
            kinds = scenarios if layout == "separate" or chosen.turn else [NO_PLAN]
            async with installed(
                folder / f"{broker}-{layout}", kafka_home=home, separate=layout == "separate",
                partitions=chosen.partitions,
            ) as running:  # fmt: skip
                cells += await measure(running, kinds, concurrencies, duration, say)
                if cost is None:
                    say("  the load generator's own cost …")
                    cost = await generator_cost(running, QUICK)
    if cells and cost is not None:
        sys.stdout.write(
            f"{report.heading(figures['machine'])}\n\n{report.journey_text(cells)}\n\n{report.generator_text(cost)}\n"
        )
        figures["journey"] = [cell.as_json() for cell in cells]
        figures["generator_cpu_ms_per_1000_frames"] = {"raw": cost.raw_ms, "headstart.client": cost.client_ms}


async def load_curve(chosen: argparse.Namespace, folder: Path, figures: dict[str, Any]) -> None:
    concurrencies = CURVE_QUICK if chosen.quick else CURVE_FULL
    duration = CURVE_DURATION_QUICK if chosen.quick else CURVE_DURATION
    async with installed(folder / "vllm", kafka_home=None, separate=True, scripted=False) as running:
        points = await curve(running, concurrencies, duration, say)
    sys.stdout.write(f"\n{report.curve_text(points)}\n")
    figures["vllm_load_curve"] = [point.as_json() for point in points]


async def bench(chosen: argparse.Namespace, folder: Path) -> None:
    machine = report.machine()
    say(report.heading(machine))
    figures: dict[str, Any] = {"machine": machine, "quick": chosen.quick, "partitions": chosen.partitions}
    if not chosen.no_journey:
        await journeys(chosen, folder, figures)
    if not chosen.no_vllm:
        await load_curve(chosen, folder, figures)
    sys.stdout.write(f"\nJSON: {report.write(figures)}\n")


if __name__ == "__main__":
    chosen = options(sys.argv[1:])
    data = chosen.data or Path(tempfile.mkdtemp(prefix="headstart-bench-"))
    try:
        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            runner.run(bench(chosen, data))
    finally:
        if chosen.data is None:
            shutil.rmtree(data, ignore_errors=True)
