"""What must never differ or fail, counted over many texts: random splits of the traces, broken plans."""

from __future__ import annotations

import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

from tests.bench.figures import table
from tests.support.plan_mutations import KINDS, NOT_MENDED, SKILLS, corpus
from tests.support.plan_reading import Tally
from workers.toolcalls import Parser, dialects, merge
from workers.toolcalls.facts import Fact

TRACES = Path(__file__).resolve().parents[1] / "traces"
SEED = 20261121
# Held to at most one unusable plan in this many.
USABLE_ONE_IN = 10_000


def _read(dialect: str, chunks: list[str], reason: str) -> list[Fact]:
    parser = Parser(dialect, skills=SKILLS)
    facts: list[Fact] = []
    for chunk in chunks:
        facts += parser.feed(chunk)
    return merge(facts + parser.finish(reason))


def splits(count: int) -> dict[str, Any]:
    """Reads the traces of all text formats, and broken plans, in random chunks; prints how many read differently."""
    seeded = random.Random(SEED)
    texts: list[tuple[str, str, str]] = []
    for dialect in dialects.names():
        for line in (TRACES / f"{dialect}.jsonl").read_text(encoding="utf-8").splitlines():
            trace = json.loads(line)
            if len(trace.get("text", "")) > 1:
                texts.append((dialect, trace["text"], trace["reason"]))
    texts += [(sample.dialect, sample.text, "stop") for sample in corpus(200, SEED, broken=0.9)]
    whole = [_read(dialect, [text], reason) for dialect, text, reason in texts]
    read: Counter[str] = Counter()
    different: Counter[str] = Counter()
    for number in range(count):
        dialect, text, reason = texts[number % len(texts)]
        cuts = sorted(seeded.sample(range(1, len(text)), min(len(text) - 1, seeded.randint(1, 16))))
        chunks = [text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]
        read[dialect] += 1
        different[dialect] += _read(dialect, chunks, reason) != whole[number % len(texts)]
    print(f"\n{count:,} random splits of {len(texts)} texts\n")
    print(table(["format", "splits", "differences"], [[key, f"{read[key]:,}", str(different[key])] for key in read]))
    print(f"\nDifferences: {different.total()}")
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
            NOT_MENDED.get((dialect, kind), ""),
        ]
        for dialect, kind in sorted(tally.plans)
    ]
    print(table(["notation", "break", "", "plans", "unusable", "why it stays"], rows))
    plans, unusable = tally.total(mended=True)
    apart, lost = tally.total(mended=False)
    share = 100 * unusable / plans
    verdict = "met" if unusable * USABLE_ONE_IN <= plans else "NOT met"
    ways = f"{len(KINDS)} ways, {sum(held_out.values())} of them held out"
    print(f"\n{count:,} plans, {100 * broken / count:.0f} % broken; {ways}")
    print(f"Unusable: {unusable} of {plans:,} ({share:.3f} %; budget 0.01 %): {verdict}; model calls for repair: 0")
    print(f"Apart, of the {len(NOT_MENDED)} kinds that no rule mends: {lost:,} of {apart:,} not as meant")
    print("Repairs: " + ", ".join(f"{rule} {times:,}" for rule, times in tally.repairs.most_common()))
    for key, text in tally.examples.items():
        if key not in NOT_MENDED:
            print(f"\nUnusable, {key}:\n{text}")
    return {
        "plans": count,
        "broken": broken,
        "unusable": unusable,
        "of": plans,
        "apart": {"plans": apart, "unusable": lost},
        "repairs": dict(tally.repairs),
    }
