"""Rolling restarts under load: every gateway and worker is told to end (SIGTERM), drains, and is started again, one
after the other, while turns go on. Not one of them may fail."""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections.abc import Callable
from typing import Final

from tests.faults.cells import Cell, Ran, RunReport
from tests.faults.driving import Run
from tests.faults.judging import ends_of, judge, read_log, said_in
from tests.faults.skill_service import read_ledger
from tests.faults.stack import PAIRED, FaultStack, Process

LOADS: Final = 2  # casts at once: about fifteen turns in flight
PAUSE_S: Final = 1.0  # between two restarts


async def rolling(stack: FaultStack, seed: int, rounds: int, say: Callable[[str], None]) -> Ran:
    """Restarts every process so often. What is broken stands in the verdict."""
    began = time.monotonic()
    known = len(read_ledger(stack.ledger))
    starts = await ends_of(stack.parts.bus)
    runs: list[Run] = []
    enough = asyncio.Event()
    numbers = itertools.count(seed)

    async def load() -> None:
        while not enough.is_set():
            number = next(numbers)
            run = Run(stack.addresses, stack.key, number, f"l{number}")
            runs.append(run)
            await run.drive(random.Random(number))

    loads = [asyncio.create_task(load()) for _ in range(LOADS)]
    broken: list[str] = []
    try:
        for _ in range(rounds):
            for part in PAIRED:
                for process in stack.of(part):
                    await asyncio.sleep(PAUSE_S)
                    broken += await restart(process, say)
        enough.set()
        await asyncio.gather(*loads)
    finally:
        for task in loads:
            task.cancel()
        await asyncio.gather(*loads, return_exceptions=True)
    took_s = round(time.monotonic() - began, 1)
    outcomes = [outcome for run in runs for outcome in run.outcomes]
    raw = [text for run in runs for balancer in run.balancers for text in balancer.raw]
    log = await read_log(stack.parts.bus, starts, outcomes)
    verdict = judge(outcomes, log, raw, read_ledger(stack.ledger)[known:])
    verdict.broken += broken
    report = RunReport(seed, stack.broker.name, Cell("all", "any", "restart"), "all", took_s, verdict)
    return Ran(report, log.spans, said_in(outcomes))


async def restart(process: Process, say: Callable[[str], None]) -> list[str]:
    """Ends it in order and starts it again; gives what went wrong with that."""
    began = time.monotonic()
    status = await process.stop()
    drained_s = time.monotonic() - began
    process.start()
    await process.ready()
    say(f"     {process.name}: drained in {drained_s:.1f} s, ready again after {time.monotonic() - began:.1f} s")
    return [f"{process.name} ended with status {status}"] if status else []
