"""A turn's time axis as text, as a picture (SVG), and as a trace that ui.perfetto.dev opens. Pure."""

from __future__ import annotations

import json
from html import escape
from typing import Any, Final

from gateway.axis import Axis, Span

COLUMNS: Final = 56  # of a picture in text
_MARKS: Final = {"waiting": "·", "writing": "░", "running": "━", "looking": "▪", "checking": "▒"}
_TICK: Final = "╵"


def text(axis: Axis) -> str:
    """The axis for a terminal."""
    end_ms = axis.end_ms
    width = max([len(lane) for lane in axis.lanes], default=0)
    lines = [f"{axis.turn}: {axis.status} in {axis.took_ms:,.0f} ms, saved {axis.saved_ms:,.0f} ms", ""]
    lines.append(f"{'':<{width}}  0{f'{end_ms:,.0f} ms':>{COLUMNS - 1}}")
    for lane in axis.lanes:
        cells = [" "] * COLUMNS
        for span in (span for span in axis.spans if span.lane == lane):
            first = min(COLUMNS - 1, int(span.begin_ms / end_ms * COLUMNS))
            last = max(first + 1, round(span.end_ms / end_ms * COLUMNS))
            for cell in range(max(0, first), min(COLUMNS, last)):
                cells[cell] = "█" if cells[cell] == "░" and span.kind == "running" else _MARKS[span.kind]
        for mark in (mark for mark in axis.marks if mark.lane == lane):
            cells[min(COLUMNS - 1, max(0, int(mark.at_ms / end_ms * COLUMNS)))] = _TICK
        lines.append(f"{lane:<{width}}  {''.join(cells).rstrip()}")
    lines.append("▪ looking  · waiting  ░ written  ━ running  █ running while written  ▒ held by a check  ╵ a frame")
    return "\n".join(lines) + "\n"


_COLOURS: Final = {
    "looking": "#8a63d2", "waiting": "#c9ccd1", "writing": "#e3b341", "running": "#2f81f7", "checking": "#bf3989",
}  # fmt: skip


def svg(axis: Axis) -> str:
    """The axis as a picture, with a title on each span for whoever points at it."""
    end_ms = axis.end_ms
    left, width, row = 190, 760, 26
    height = row * len(axis.lanes) + 90
    scale = width / end_ms
    parts = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {left + width + 30} {height}" '
            'font-family="system-ui, sans-serif" font-size="12">'
        ),
        (
            f'<rect width="100%" height="100%" fill="#fff"/><text x="10" y="20" font-weight="600">'
            f"{escape(axis.question[:90])}</text>"
        ),
        (
            f'<text x="10" y="38" fill="#57606a">{escape(axis.status)} in {axis.took_ms:,.0f} ms, '
            f"saved {axis.saved_ms:,.0f} ms</text>"
        ),
    ]
    for number in range(5):
        x = left + width * number / 4
        parts.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="50" y2="{height - 30}" stroke="#d8dee4"/>')
        parts.append(f'<text x="{x:.1f}" y="{height - 12}" text-anchor="middle">{end_ms * number / 4:,.0f} ms</text>')
    for index, lane in enumerate(axis.lanes):
        y = 56 + index * row
        parts.append(f'<text x="10" y="{y + 14}">{escape(lane[:28])}</text>')
        for span in (span for span in axis.spans if span.lane == lane):
            x, wide = left + span.begin_ms * scale, max(1.5, (span.end_ms - span.begin_ms) * scale)
            high, down = (8, 10) if span.kind == "running" else (18, 0)
            parts.append(
                f'<rect x="{x:.1f}" y="{y + down}" width="{wide:.1f}" height="{high}" rx="2" '
                f'fill="{_COLOURS[span.kind]}"><title>{escape(_title(span))}</title></rect>'
            )
        for mark in (mark for mark in axis.marks if mark.lane == lane):
            x = left + max(0.0, mark.at_ms) * scale
            parts.append(
                f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{y + 3}" y2="{y + 17}" stroke="#57606a">'
                f"<title>{escape(mark.name)} at {mark.at_ms:,.0f} ms</title></line>"
            )
    return "\n".join([*parts, "</svg>"]) + "\n"


def perfetto(axis: Axis) -> str:
    """The axis in the Trace Event format (JSON): one thread per lane, microseconds."""
    threads = {lane: number for number, lane in enumerate(axis.lanes, 1)}
    events: list[dict[str, Any]] = [
        {"ph": "M", "pid": 1, "name": "process_name", "args": {"name": f"{axis.turn}: {axis.question[:80]}"}}
    ]
    events += [
        {"ph": "M", "pid": 1, "tid": number, "name": "thread_name", "args": {"name": lane}}
        for lane, number in threads.items()
    ]
    events += [
        {
            "ph": "X", "pid": 1, "tid": threads[span.lane], "name": span.name, "cat": span.kind,
            "ts": round(span.begin_ms * 1000), "dur": max(1, round((span.end_ms - span.begin_ms) * 1000)),
            "args": {"detail": span.detail},
        }
        for span in axis.spans
    ]  # fmt: skip
    events += [
        {"ph": "i", "s": "t", "pid": 1, "tid": threads[mark.lane], "name": mark.name, "cat": mark.lane,
         "ts": round(mark.at_ms * 1000)}
        for mark in axis.marks
    ]  # fmt: skip
    return json.dumps({"traceEvents": events, "displayTimeUnit": "ms"}, ensure_ascii=False) + "\n"


def _title(span: Span) -> str:
    return f"{span.name}: {span.begin_ms:,.0f} to {span.end_ms:,.0f} ms. {span.detail[:300]}"
