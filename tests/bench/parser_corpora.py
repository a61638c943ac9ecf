"""What must never differ or fail, counted over many texts: random splits of the traces, broken plans."""

from __future__ import annotations

import json
import random
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from tests.bench.figures import table
from tests.support.plan_mutations import KINDS, corpus
from tests.support.plan_reading import Tally
from tests.support.plan_writing import SKILLS
from workers.toolcalls import Parser, dialects, merge
from workers.toolcalls.facts import Fact

TRACES = Path(__file__).resolve().parents[1] / "traces"
SEED = 20261121
# Held to at most one unusable plan in this many.
USABLE_ONE_IN = 10_000
# Splits that a process reads before it reports.
BATCH = 2_000
# How often progress is told.
PROGRESS_S = 30.0


def _read(dialect: str, chunks: list[str], reason: str) -> list[Fact]:
    parser = Parser(dialect, skills=SKILLS)
    facts: list[Fact] = []
    for chunk in chunks:
        facts += parser.feed(chunk)
    return merge(facts + parser.finish(reason))


@cache
def _texts() -> list[tuple[str, str, str, list[Fact]]]:
    """Dialect, text, the model's finish reason, and the facts of the whole text."""
    texts: list[tuple[str, str, str]] = []
    for dialect in dialects.names():
        for line in (TRACES / f"{dialect}.jsonl").read_text(encoding="utf-8").splitlines():
            trace = json.loads(line)
            if len(trace.get("text", "")) > 1:
                texts.append((dialect, trace["text"], trace["reason"]))
    texts += [(sample.dialect, sample.text, "stop") for sample in corpus(400, SEED, broken=0.9)]
    return [(dialect, text, reason, _read(dialect, [text], reason)) for dialect, text, reason in texts]


def _batch(first: int, count: int) -> tuple[Counter[str], list[tuple[str, list[str]]]]:
    """Reads the splits from number `first` on: how many by format, and those that read differently."""
    seeded = random.Random(SEED + first)
    texts = _texts()
    read: Counter[str] = Counter()
    different: list[tuple[str, list[str]]] = []
    for number in range(first, first + count):
        dialect, text, reason, whole = texts[number % len(texts)]
        cuts = sorted(seeded.sample(range(1, len(text)), min(len(text) - 1, seeded.randint(1, 16))))
        chunks = [text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]
        read[dialect] += 1
        if _read(dialect, chunks, reason) != whole:
            different.append((dialect, chunks))
    return read, different


def _batches(count: int, processes: int) -> Iterator[tuple[Counter[str], list[tuple[str, list[str]]]]]:
    starts = range(0, count, BATCH)
    sizes = [min(BATCH, count - start) for start in starts]
    if processes == 1:
        yield from map(_batch, starts, sizes)
        return
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        yield from pool.map(_batch, starts, sizes)


def splits(count: int, processes: int = 1) -> dict[str, Any]:
    """Reads the traces of all text formats, and broken plans, in random chunks; prints how many read differently."""
    read: Counter[str] = Counter()
    different: Counter[str] = Counter()
    examples: list[tuple[str, list[str]]] = []
    started = told = time.monotonic()
    for batch_read, batch_different in _batches(count, processes):
        read += batch_read
        different.update(dialect for dialect, _ in batch_different)
        examples += batch_different[: max(0, 10 - len(examples))]
        now = time.monotonic()
        if now - told >= PROGRESS_S:
            told = now
            rate = read.total() / (now - started)
            left_s = (count - read.total()) / rate
            print(
                f"{read.total():,} of {count:,} splits, {different.total()} differences, {left_s:,.0f} s left",
                file=sys.stderr,
                flush=True,
            )
    print(f"\n{count:,} random splits of {len(_texts())} texts\n")
    print(table(["format", "splits", "differences"], [[key, f"{read[key]:,}", str(different[key])] for key in read]))
    print(f"\nDifferences: {different.total()}")
    for dialect, chunks in examples:
        print(f"\n{dialect}: {chunks}")
    return {"splits": dict(read), "differences": dict(different)}


def mutations(count: int) -> dict[str, Any]:
    """Reads a corpus of whole and broken plans; prints how many did not end as they were meant."""
    tally = Tally()
    broken = 0
    for sample in corpus(count, SEED):
        broken += sample.kind is not None
        tally.add(sample)
    held_out = {(kind.dialect, kind.name): kind.held_out for kind in KINDS}
    rows = [
        [
            dialect,
            kind or "whole",
            {None: "", True: "held out", False: ""}[held_out.get((dialect, kind))],
            f"{tally.plans[dialect, kind]:,}",
            f"{tally.unusable[dialect, kind]:,}",
            f"{tally.taken_back[dialect, kind]:,}",
        ]
        for dialect, kind in sorted(tally.plans)
    ]
    print(table(["notation", "break", "", "plans", "unusable", "value taken back"], rows))
    unusable = tally.unusable.total()
    verdict = "met" if unusable * USABLE_ONE_IN <= count else "NOT met"
    ways = f"{len(KINDS)} ways, {sum(held_out.values())} of them held out"
    print(f"\n{count:,} plans, {100 * broken / count:.0f} % broken; {ways}")
    share = 100 * unusable / count
    print(f"Unusable: {unusable} of {count:,} ({share:.3f} %; budget 0.01 %): {verdict}; model calls for repair: 0")
    print(f"A value closed early and then once more: in {tally.taken_back.total():,} broken plans")
    print("Repairs: " + ", ".join(f"{rule} {times:,}" for rule, times in tally.repairs.most_common()))
    for key, text in tally.examples.items():
        print(f"\nUnusable, {key}:\n{text}")
    return {
        "plans": count,
        "broken": broken,
        "unusable": unusable,
        "taken_back": tally.taken_back.total(),
        "repairs": dict(tally.repairs),
    }
