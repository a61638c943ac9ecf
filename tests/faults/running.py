"""One run: a cast of turns, one fault at one moment, all turns to their end, and the verdict."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Iterable
from typing import Final

from tests.faults.cells import Cell, Ran, RunReport
from tests.faults.driving import Run
from tests.faults.injecting import Watch, inject, target
from tests.faults.judging import judge, read_log, said_in
from tests.faults.skill_service import read_ledger
from tests.faults.stack import FaultStack

ABREAST: Final = 2  # runs under way
NTH: Final = 3  # the fault falls on one of the first so many turns that are seen at the moment


async def run_all(stack: FaultStack, seeded: Iterable[tuple[int, Cell]], done: Callable[[Ran], None]) -> None:
    """Runs these cells, each with its seed. While the turns of one run end, the next begins, so that its fault meets
    them too. done: called with each as it ends."""
    waiting, turnstile = iter(seeded), asyncio.Lock()

    async def lane() -> None:
        for seed, cell in waiting:
            done(await one_run(stack, seed, cell, turnstile))

    async with asyncio.TaskGroup() as lanes:
        for _ in range(ABREAST):
            lanes.create_task(lane())


async def one_run(stack: FaultStack, seed: int, cell: Cell, turnstile: asyncio.Lock) -> Ran:
    """Runs a cell with a seed. turnstile: held until what was hit is back. Raises ValueError for "all" and "any"."""
    part, moment = cell.part, cell.moment
    if part == "all" or moment == "any":
        raise ValueError("a run hits one part at one moment")
    chance = random.Random(seed)
    run = Run(stack.addresses, stack.key, seed, f"r{seed}")
    watch = Watch(stack, f"{run.name}-", chance)
    hit, driving = "", None
    try:
        async with turnstile:
            began, known = time.monotonic(), len(read_ledger(stack.ledger))
            starts = await watch.start()
            driving = asyncio.create_task(run.drive(random.Random(seed + 1)))
            turns = 1 if moment == "queued" else NTH  # few turns wait behind another
            sighted = asyncio.create_task(watch.until(moment, chance.randrange(turns)))
            await asyncio.wait({driving, sighted}, return_when=asyncio.FIRST_COMPLETED)
            if sighted.done() and (sighting := sighted.result()) is not None:
                process = None
                if part not in ("postgres", "broker"):
                    process = target(stack, run, watch, part, sighting, chance)
                hit = process.name if process else part
                await inject(stack, run, cell, sighting, process, chance)
            sighted.cancel()
        await driving
    finally:
        if driving is not None:
            driving.cancel()
            await asyncio.gather(driving, return_exceptions=True)
        await watch.close()
    took_s = round(time.monotonic() - began, 1)
    log = await read_log(stack.parts.bus, starts, run.outcomes)
    raw = [text for balancer in run.balancers for text in balancer.raw]
    verdict = judge(run.outcomes, log, raw, read_ledger(stack.ledger)[known:])
    if not hit:
        verdict.broken.append(f"no turn was seen at {cell.moment}")
    report = RunReport(seed, stack.broker.name, cell, hit, took_s, verdict)
    return Ran(report, log.spans, said_in(run.outcomes))
