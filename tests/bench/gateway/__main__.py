"""`python -m tests.bench.gateway`: what a gateway holds, what it costs, and how it compares, in figures.

Everything that is measured is started for it and stopped after it, whatever happens. Nothing is asserted on time.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import os
import shutil
import sys
import tempfile
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from streams.file_limit import raise_file_limit
from streams.process import configure_logging, new_event_loop
from streams.settings import Settings
from tests.bench import report
from tests.bench.__main__ import kafka_at_hand, say
from tests.bench.driving import clock
from tests.bench.gateway.parts import Part, Section, World

PARTS: Final = {
    "idle": "connections that only exist",
    "live": "live streams that one gateway and one turns worker hold",
    "traffic": "what the traffic of others costs",
    "stalled": "clients that stop reading",
    "resume": "coming back on another gateway",
    "cancel": "from a cancel to the last token",
    "proxying": "beside LiteLLM's proxy",
    "consuming": "the consumer loop against FastStream's",
    "slow_worker": "one of three generation workers is slow",
}


class Taken(msgspec.Struct, frozen=True):
    """seconds: of a part, from its start to its end. load_*: the machine's load average of a minute, with whatever else
    ran on it, then and then."""

    seconds: float
    load_before: float
    load_after: float

    def sentence(self) -> str:
        return f"Took {self.seconds:.0f} s; load average {self.load_before:.1f} before, {self.load_after:.1f} after."


def options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.gateway", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="short runs: that it works, and rough figures")
    parser.add_argument("--only", choices=list(PARTS), action="append", help="only this part; may be repeated")
    parser.add_argument("--broker", choices=("tansu", "kafka"), help="default: Kafka where KAFKA_HOME names one")
    parser.add_argument(
        "--data", type=Path, help="folder for logs and data, kept afterwards; without it a temporary one"
    )
    return parser.parse_args(arguments)


def kafka_home(chosen: argparse.Namespace) -> Path | None:
    found = kafka_at_hand()
    if isinstance(found, str):
        if chosen.broker == "kafka":
            sys.exit(f"Apache Kafka can not be used: {found}")
        return None
    return None if chosen.broker == "tansu" else found.home


async def bench(chosen: argparse.Namespace, folder: Path) -> list[str]:
    """Measures and prints; gives the parts that failed."""
    home = kafka_home(chosen)
    cache = Settings.from_env(os.environ).cache
    world = World(folder, cache, home, chosen.quick, say)
    figures: dict[str, Any] = {"machine": report.machine(), "quick": chosen.quick}
    figures["broker"] = "Apache Kafka" if home else "Tansu"
    sys.stdout.write(f"{report.measured(figures['machine'])} Broker: {figures['broker']}.\n")
    failed: list[str] = []
    for name in chosen.only or PARTS:
        say(f"{name}: {PARTS[name]} …")
        part: Part = importlib.import_module(f"tests.bench.gateway.{name}").run
        began, load = clock(), report.machine()["load_average_1_min"]
        try:
            section = await part(world)
        except Exception as error:  # the other parts' figures are worth having without this one's
            failed.append(name)
            traceback.print_exception(error)
            section = Section(PARTS[name], f"This part failed: {error!r}", {"failed": repr(error)})
        took = Taken(clock() - began, load, report.machine()["load_average_1_min"])
        figures[name] = section.figures | {"run": msgspec.to_builtins(took)}
        sys.stdout.write(f"\n## {section.title}\n\n{section.text}\n\n{took.sentence()}\n")
        sys.stdout.flush()
    sys.stdout.write(f"\nJSON: {report.write(figures, 'gateway')}\n")
    return failed


if __name__ == "__main__":
    chosen = options(sys.argv[1:])
    raise_file_limit()
    configure_logging("error")  # a broker that was just started says much
    data = chosen.data or Path(tempfile.mkdtemp(prefix="headstart-bench-"))
    try:
        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            failed = runner.run(bench(chosen, data))
    finally:
        if chosen.data is None:
            shutil.rmtree(data, ignore_errors=True)
    sys.exit(f"failed: {', '.join(failed)}" if failed else 0)
