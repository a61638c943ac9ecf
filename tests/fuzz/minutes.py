"""Fuzzing of the tool-call parser: `python -m tests.fuzz.minutes [--minutes M] [--processes P] [--seed S]`.

Each dialect in turn reads edited traces and nonsense of its own markers, in both modes, whole, by single characters and
in random chunks, for minutes of processor time. A text that crashes the parser, or is read differently when cut
differently, is printed with its seed; the exit status is 1 if there was one.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

from tests.fuzz.material import check_text, edited, pieced
from workers.toolcalls import dialects
from workers.toolcalls.parser import Mode

# How often progress is told.
PROGRESS_S = 60.0
MODES: tuple[Mode, ...] = ("repair", "repair", "repair", "strict")


def fuzz(seed: int, seconds: float) -> tuple[Counter[str], list[str]]:
    """How many texts each dialect read, and what failed."""
    seeded = random.Random(seed)
    names = dialects.names()
    read: Counter[str] = Counter()
    failed: list[str] = []
    started = told = time.process_time()
    while (now := time.process_time()) - started < seconds and len(failed) < 10:
        if now - told >= PROGRESS_S:
            told = now
            print(f"seed {seed}: {read.total():,} texts, {len(failed)} failed", file=sys.stderr, flush=True)
        for dialect in names:
            text = (edited if seeded.random() < 0.6 else pieced)(dialect, seeded)
            prompt = seeded.choice(("", "", "<think>"))
            mode, reason, cuts = seeded.choice(MODES), seeded.choice(("stop", "stop", "length")), seeded.randrange(1000)
            read[dialect] += 1
            try:
                check_text(dialect, text, mode, reason, cuts, prompt=prompt)
            except Exception as error:  # whatever it is: it is what is looked for
                failed.append(
                    f"{dialect} {mode} {reason} {cuts} {prompt}\n{text!r}\n{type(error).__name__}: {error}"[:4000]
                )
    return read, failed


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--minutes", type=float, default=10.0, help="of processor time, for each process")
    options.add_argument("--processes", type=int, default=1)
    options.add_argument("--seed", type=int, default=random.randrange(1_000_000_000))
    chosen = options.parse_args()
    seeds = range(chosen.seed, chosen.seed + chosen.processes)
    read: Counter[str] = Counter()
    failed: list[str] = []
    with ProcessPoolExecutor(chosen.processes, mp_context=get_context("spawn")) as pool:
        for part, failures in pool.map(fuzz, seeds, [chosen.minutes * 60] * chosen.processes):
            read += part
            failed += failures
    print(", ".join(f"{dialect} {count:,}" for dialect, count in sorted(read.items())))
    minutes = chosen.minutes * chosen.processes
    print(f"{read.total():,} texts in {minutes:g} minutes of processor time, seeds {seeds}: {len(failed)} failed")
    for failure in failed:
        print(f"\n{failure}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
