"""`make test-faults`: real processes, killed and stopped at chosen moments of turns, under load; exits 1 if anything
that must hold does not.

Everything that is started is stopped, whatever happens. A run is repeated with `--seed S --runs 1`.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from streams.apache_kafka import ApacheKafka, find_kafka
from streams.embedded import Broker, EmbeddedBroker
from streams.process import new_event_loop
from tests.faults.cells import STALLS, Cell, Ran, RunReport, cells
from tests.faults.judging import changed, misremembered
from tests.faults.moments import MOMENTS
from tests.faults.quorum import Quorum
from tests.faults.reporting import append, holds, read_reports, table
from tests.faults.rolling import rolling
from tests.faults.running import run_all
from tests.faults.stack import PARTS, fault_stack


def options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--runs", type=int, default=216, help="how many (default 216: every cell three times)")
    parser.add_argument("--seed", type=int, default=0, help="of the first run; the others count up")
    parser.add_argument("--part", choices=PARTS, action="append", help="only this one; may be repeated")
    parser.add_argument("--moment", choices=MOMENTS, action="append", help="only this one; may be repeated")
    parser.add_argument("--method", choices=("kill", "zombie"), help="only this one")
    parser.add_argument("--broker", choices=("kafka", "quorum", "tansu"), default="kafka")
    parser.add_argument("--rolling", type=int, metavar="ROUNDS", help="instead: rolling restarts of everything")
    parser.add_argument("--seconds", type=float, help="begin no run after so many")
    parser.add_argument("--append", type=Path, help="a file of runs to add to, so that a matrix can be run in pieces")
    parser.add_argument("--data", type=Path, help="folder for logs and data, kept afterwards; else a temporary one")
    return parser.parse_args(arguments)


def broker_of(kind: str, folder: Path) -> Broker:
    """Raises SystemExit where there is no Apache Kafka."""
    if kind == "tansu":
        return EmbeddedBroker(folder / "tansu")
    home = os.environ.get("KAFKA_HOME")
    found = find_kafka(Path(home), os.environ) if home else "KAFKA_HOME is not set"
    if isinstance(found, str):
        sys.exit(f"no Apache Kafka: {found}; --broker tansu needs none")
    return Quorum(found, folder / "kafka") if kind == "quorum" else ApacheKafka(found, folder / "kafka")


def order_of(chosen: argparse.Namespace) -> list[Cell]:
    """The cells that were asked for. Of three nodes it is the leader of the turn's partition that is hit; a broker
    that keeps nothing is spared."""
    parts = {"kafka": PARTS, "tansu": PARTS[:-1], "quorum": PARTS[-1:]}[chosen.broker]
    return [
        cell
        for cell in cells(parts, stalls=parts if chosen.broker == "quorum" else STALLS)
        if (not chosen.part or cell.part in chosen.part)
        and (not chosen.moment or cell.moment in chosen.moment)
        and chosen.method in (None, cell.method)
    ]


def seeded(chosen: argparse.Namespace, order: Sequence[Cell]) -> Iterator[tuple[int, Cell]]:
    """The cells with their seeds, one after the other."""
    began = time.monotonic()
    for seed in range(chosen.seed, chosen.seed + chosen.runs):
        if chosen.seconds and time.monotonic() - began > chosen.seconds:
            return
        yield seed, order[seed % len(order)]


async def run_chosen(chosen: argparse.Namespace, folder: Path) -> list[RunReport]:
    order, ran = order_of(chosen), list[Ran]()

    def done(one: Ran) -> None:
        if chosen.append and ran:
            append(chosen.append, ran[-1].report)
        ran.append(one)
        say(one.report, len(ran), chosen.runs)

    replication = "3" if chosen.broker == "quorum" else "1"
    async with fault_stack(folder, broker_of(chosen.broker, folder), HEADSTART_REPLICATION=replication) as stack:
        if chosen.rolling:
            ran.append(await rolling(stack, chosen.seed, chosen.rolling, lambda line: print(line, file=sys.stderr)))
            say(ran[0].report, 1, 1)
        else:
            await run_all(stack, seeded(chosen, order), done)
        last = ran[-1].report
        last.verdict.broken += await changed(stack.parts.bus, [one.spans for one in ran])
        for one in ran:
            last.verdict.broken += await misremembered(stack.parts.store, one.said)
        if chosen.append:
            append(chosen.append, last)
    return [one.report for one in ran]


def say(report: RunReport, number: int, runs: int) -> None:
    """Progress, one line a run, and what is broken below it."""
    verdict = report.verdict
    sys.stderr.write(
        f"{number:>4}/{runs} seed {report.seed}: {report.cell.text()} ({report.hit or 'not met'}), "
        f"{verdict.completed} of {verdict.turns} completed in {report.took_s} s, longest pause "
        f"{verdict.longest_pause_ms} ms\n"
    )
    for complaint in [*verdict.failed, *verdict.broken]:
        sys.stderr.write(f"     ! {complaint[:600]}\n")


def main(arguments: Sequence[str]) -> int:
    chosen = options(arguments)
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # it tells of every try while the broker is away
    with tempfile.TemporaryDirectory(prefix="headstart-faults-", ignore_cleanup_errors=True) as temporary:
        os.chmod(temporary, 0o755)
        folder = chosen.data or Path(temporary)
        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            reports = runner.run(run_chosen(chosen, folder))
    if chosen.append:
        reports = read_reports(chosen.append)
    sys.stdout.write(table(reports))
    return 0 if holds(reports) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
