"""The runs' results: a JSON line each, and a table of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

import msgspec

from tests.faults.cells import RunReport
from tests.faults.moments import MOMENTS
from tests.faults.stack import PARTS

COMPLETED: Final = 0.999  # of all turns; calls in doubt complete theirs


def append(file: Path, report: RunReport) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("ab") as lines:
        lines.write(msgspec.json.encode(report) + b"\n")


def read_reports(file: Path) -> list[RunReport]:
    return [msgspec.json.decode(line, type=RunReport) for line in file.read_bytes().splitlines()]


def holds(reports: Sequence[RunReport]) -> bool:
    """Nothing is broken, every moment was met, and enough turns were completed."""
    share = _total(reports, "completed") / max(1, _total(reports, "turns"))
    return share >= COMPLETED and not any(report.verdict.broken for report in reports)


def table(reports: Sequence[RunReport]) -> str:
    """By part and moment: turns completed of turns in flight, and the longest pause in a turn in seconds; then the
    sums."""
    lines = [f"{'':<12}" + "".join(f"{moment:>24}" for moment in MOMENTS)]
    for part in PARTS:
        row = [[one for one in reports if one.cell.part == part and one.cell.moment == moment] for moment in MOMENTS]
        if any(row):
            lines.append(f"{part:<12}" + "".join(f"{_cell(found):>24}" for found in row))
    return "\n".join([*lines, "", *_sums(reports)]) + "\n"


def _cell(reports: Sequence[RunReport]) -> str:
    if not reports:
        return "–"
    completed, turns = _total(reports, "completed"), _total(reports, "turns")
    pause_s = max(one.verdict.longest_pause_ms for one in reports) / 1000
    return f"{completed}/{turns} in {len(reports)}, {pause_s:.1f} s"


def _sums(reports: Sequence[RunReport]) -> Iterable[str]:
    turns, completed = _total(reports, "turns"), _total(reports, "completed")
    fenced: dict[str, int] = {}
    for report in reports:
        for why, number in report.verdict.fenced.items():
            fenced[why] = fenced.get(why, 0) + number
    missed = sum(not report.hit for report in reports)
    broken = [
        f"seed {one.seed} ({one.cell.text()}): {what}"
        for one in reports
        for what in [*one.verdict.failed, *one.verdict.broken]
    ]
    yield f"runs {len(reports)}, of which {missed} did not meet their moment; turns in flight {turns}"
    share = 100 * completed / max(1, turns)
    yield f"completed {completed} ({share:.3f} %); calls in doubt {_total(reports, 'in_doubt')}"
    yield f"frames compared {_total(reports, 'frames')}; frames that came on sockets {_total(reports, 'sockets')}"
    yield f"facts that no reader counted: {fenced or 'none'}"
    yield f"turns not completed: {turns - completed}; broken promises: {len(broken) - turns + completed}"
    yield from (f"  {line[:300]}" for line in broken)


def _total(reports: Iterable[RunReport], name: str) -> int:
    return sum(getattr(report.verdict, name) for report in reports)
