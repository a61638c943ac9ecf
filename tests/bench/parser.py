"""Figures of the push parser against others: `python -m tests.bench.parser [--splits N [--processes P]] [--mutations]`.

Times are CPU time of this process for one document in deltas of four characters, the best of several runs where runs
are short, with the garbage collector off as in `timeit`: its passes over all that is alive would be counted to whoever
allocates. A cell that passes its limit is stopped and carried on by its own growth so far (the time of the first half
of its deltas against that of all): such figures begin with `~`.
"""

from __future__ import annotations

import argparse
import gc
import math
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from itertools import product
from pathlib import Path
from typing import Any

import orjson

from tests.bench.figures import table
from tests.bench.parser_corpora import mutations, splits
from tests.bench.parser_engines import Engine, Ours, Vllm, engines
from tests.bench.parser_payloads import DELTA, LINE_SIZES, SHAPES, SIZES, Payload, closings, cut, payloads
from workers.toolcalls import ArgumentClosed, Parser

RESULTS = Path(__file__).resolve().parents[2] / "bench-results"
BUDGETS_NS = {"dense": 120.0, "one long string": 45.0}
SLOPE_BUDGET = 1.05
# Rows of ours that are held to the budgets, and what they are.
OURS = {"ours": "all partial facts", "ours, string_parts=False": "as the turn worker reads"}
# A run shorter than this is repeated until all took that long, at least and at most so often; the best counts.
SHORT_S = 0.5
REPEATS = 5
REPEATS_MAX = 20
# How many deltas between two looks at the clock.
STRIDE = 128


def deltas_of(engine: Engine, text: str) -> list[str]:
    found = [*cut(engine.before), *cut(text), *cut(engine.behind)]
    if isinstance(engine, Vllm):
        engine.prepare(found)
    return found


def once(make: Callable[[], Engine], text: str, limit_s: float) -> tuple[float, int, int]:
    """CPU seconds for all of the text, deltas read, deltas there were; where it was stopped the seconds are what its
    growth so far comes to."""
    engine = make()
    deltas = deltas_of(engine, text)
    feed = engine.step
    clock = time.process_time
    marks: list[float] = []
    start = clock()
    for done in range(0, len(deltas), STRIDE):
        for delta in deltas[done : done + STRIDE]:
            feed(delta)
        marks.append(clock() - start)
        if marks[-1] > limit_s and done + STRIDE < len(deltas):
            engine.abandon()
            read = done + STRIDE
            half = marks[len(marks) // 2 - 1] if len(marks) > 1 else marks[-1] / 4
            power = min(max(math.log2(marks[-1] / half) if len(marks) % 2 == 0 or len(marks) > 9 else 2.0, 1.0), 3.0)
            return marks[-1] * (len(deltas) / read) ** power, read, len(deltas)
    engine.end()
    return clock() - start, len(deltas), len(deltas)


def measured(make: Callable[[], Engine], payload: Payload, limit_s: float) -> dict[str, Any]:
    """One cell of the comparison."""
    best = math.inf
    spent = 0.0
    done = total = repeats = 0
    gc.collect()
    while repeats < REPEATS or (spent < SHORT_S and repeats < REPEATS_MAX):
        used, done, total = once(make, payload.text, limit_s)
        best = min(best, used)
        repeats += 1
        spent += used
        if used > SHORT_S or done < total:
            break
    seconds = best
    return {
        "shape": payload.shape,
        "size": payload.size,
        "ns_per_byte": seconds * 1e9 / len(payload.text),
        "us_per_delta": seconds * 1e6 / total,
        "extrapolated": done < total,
        "read_deltas": done,
        "deltas": total,
    }


def first_known(make: Callable[[], Engine], text: str) -> dict[str, Any]:
    """At which delta of the arguments an engine first says something of `limit`, what, and when that is certain."""
    engine = make()
    deltas = deltas_of(engine, text)
    before = len(cut(engine.before))
    said: dict[str, Any] = {"first": None, "value": None, "certain": None}
    for number, delta in enumerate(deltas):
        engine.feed(delta)
        known = engine.known()
        if known is None:
            continue
        at = number - before
        if said["first"] is None:
            said["first"], said["value"] = at, known[0]
        if known[1]:
            said["certain"] = at
            break
    engine.abandon()
    return said


def in_one_feed(shape: str, size: int) -> float:
    """CPU seconds for a whole message that comes at once."""
    text = Ours.before + SHAPES[shape](size) + Ours.behind
    parser = Parser("hermes")
    start = time.process_time()
    parser.feed(text)
    return time.process_time() - start


def late_and_premature(text: str) -> tuple[int, int, int]:
    """Arguments, and how many of ours are told later or earlier than with the delta that completes them."""
    before = len(cut(Ours.before))
    due = {key: before + at // DELTA for key, at in closings(text, 0).items()}
    parser = Parser("hermes")
    late = premature = told = 0
    for number, delta in enumerate(deltas_of(Ours(), text)):
        for fact in parser.feed(delta):
            if isinstance(fact, ArgumentClosed):
                told += 1
                late += number > due[str(fact.path[0])]
                premature += number < due[str(fact.path[0])]
    return told, late + (len(due) - told), premature


def slope(sizes: Sequence[int], seconds: Sequence[float]) -> float:
    """The exponent of growth: least squares through the logarithms."""
    xs, ys = [math.log(size) for size in sizes], [math.log(second) for second in seconds]
    middle_x, middle_y = sum(xs) / len(xs), sum(ys) / len(ys)
    above = sum((x - middle_x) * (y - middle_y) for x, y in zip(xs, ys, strict=True))
    return above / sum((x - middle_x) ** 2 for x in xs)


def met(value: float, budget: float) -> str:
    return "met" if value <= budget else "NOT met"


def shown(cell: dict[str, Any]) -> str:
    mark = "~" if cell["extrapolated"] else ""
    return f"{mark}{cell['ns_per_byte']:,.0f} / {mark}{cell['us_per_delta']:,.2f}"


def compare(limit_s: float) -> dict[str, Any]:
    """Prints the comparison and returns its figures."""
    all_payloads = payloads()
    probe = SHAPES["dense"](SIZES["0.5 KB"])
    names: list[str] = []
    rows: list[list[str]] = []
    figures: dict[str, Any] = {}
    first_rows = []
    due = closings(probe, 0)["limit"] // DELTA
    for name, make, missing in engines():
        names.append(name)
        if missing:
            print(f"{name}: {missing}")
            rows.append([name, *["–"] * len(all_payloads)])
            continue
        cells = [measured(make, payload, limit_s) for payload in all_payloads]
        known = first_known(make, probe)
        figures[name] = {"cells": cells, "first_known": known}
        rows.append([name, *map(shown, cells)])
        said = "never before the end" if known["first"] is None else f"{known['first']} ({known['value']})"
        early = known["first"] is not None and known["value"] != 120
        certain = "only the reader of its text" if known["certain"] is None else str(known["certain"])
        first_rows.append([name, said + (" wrong" if early else ""), certain])
    print(f"\nns per byte / µs per delta of {DELTA} characters; ~ stopped after {limit_s:g} s and extrapolated\n")
    print(table(["parser", *(f"{payload.size} {payload.shape}" for payload in all_payloads)], rows))
    print(f'\nThe first parameter is `"limit": 120`; delta {due} of the arguments completes it\n')
    print(table(["parser", "first says (what)", "certain at delta"], first_rows))
    return figures


def budgets(figures: dict[str, Any]) -> dict[str, Any]:
    """Prints the budgets and returns their figures."""
    found: dict[str, Any] = {}
    print("\nBudgets\n")
    for shape, budget in BUDGETS_NS.items():
        for size, (name, what) in product(("20 KB", "500 KB"), OURS.items()):
            pick = [
                next(cell for cell in figures[row]["cells"] if (cell["shape"], cell["size"]) == (shape, size))
                for row in (name, "floor: append, one orjson.loads")
            ]
            ns = pick[0]["ns_per_byte"]
            print(
                f"- {shape}, {size}, {what}: {ns:.1f} ns/byte, {ns / pick[1]['ns_per_byte']:.1f} times the floor "
                f"(budget {budget:.0f}): {met(ns, budget)}"
            )
            found[f"{shape} {size} {what}"] = ns
        seconds = [min(once(Ours, SHAPES[shape](size), 60.0)[0] for _ in range(3)) for size in LINE_SIZES]
        grown = slope(LINE_SIZES, seconds)
        print(f"- {shape}, 80 KB to 8 MB: time grows with size to the power of {grown:.3f}: {met(grown, SLOPE_BUDGET)}")
        found[f"{shape} slope"] = grown
    for shape in ("dense", "small lists"):
        seconds = [min(in_one_feed(shape, size) for _ in range(3)) for size in LINE_SIZES]
        grown = slope(LINE_SIZES, seconds)
        ns = seconds[-1] * 1e9 / LINE_SIZES[-1]
        print(f"- {shape}, all in one feed: to the power of {grown:.3f} ({ns:.0f} ns/byte): {met(grown, SLOPE_BUDGET)}")
        found[f"{shape} one feed slope"] = grown
    told = late = premature = 0
    for payload in payloads({name: size for name, size in SIZES.items() if size < 100_000}):
        counts = late_and_premature(payload.text)
        told, late, premature = told + counts[0], late + counts[1], premature + counts[2]
    print(f"- {told} arguments: {late} told late, {premature} premature: {met(late + premature, 0)}")
    return {**found, "arguments": told, "late": late, "premature": premature}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--limit-s", type=float, default=3.0, help="CPU seconds after which a cell is stopped")
    options.add_argument("--splits", type=int, default=0, help="random splits over the traces of all formats")
    options.add_argument("--processes", type=int, default=1, help="how many processes read the splits")
    options.add_argument("--mutations", action="store_true", help="30,000 plans, half of them broken")
    options.add_argument("--plans", type=int, default=30_000, help="how many plans --mutations reads")
    chosen = options.parse_args()
    gc.disable()
    results: dict[str, Any] = {}
    if chosen.mutations:
        results["mutations"] = mutations(chosen.plans)
    if chosen.splits:
        results["splits"] = splits(chosen.splits, chosen.processes)
    if not results:
        results["engines"] = compare(chosen.limit_s)
        results["budgets"] = budgets(results["engines"])
    RESULTS.mkdir(exist_ok=True)
    file = RESULTS / f"parser-{datetime.now(UTC):%Y%m%dT%H%M%SZ}.json"
    file.write_bytes(orjson.dumps(results, option=orjson.OPT_INDENT_2))
    print(f"\n{file.relative_to(RESULTS.parent)}")


if __name__ == "__main__":
    main()
