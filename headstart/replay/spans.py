"""A turn on one time axis: route, recall, each model call, each call from opening to answer, and what ran beside what.

Times are milliseconds since the turn was accepted. Facts carry whole milliseconds of several clocks, so a span may seem
to begin a millisecond before what caused it. `svg` draws a picture, `perfetto` writes what ui.perfetto.dev opens. Pure.
"""

from __future__ import annotations

import json
from html import escape
from typing import Any, Final

import msgspec

from headstart.replay.steps import CallStep, ModelStep, steps_of
from headstart.replay.turns import TurnLog
from streams.events.calling import CallClosed, CallOpened
from streams.events.recalling import Recalled, SkillsDiscovered
from streams.events.routing import RouteDecided

COLUMNS: Final = 56  # of a picture in text
_MARKS: Final = {"waiting": "·", "writing": "░", "running": "━", "looking": "▪"}


class Span(msgspec.Struct, frozen=True, kw_only=True):
    """Something that took time. lane: the row it is drawn in. kind: looking | waiting | writing | running."""

    lane: str
    name: str
    kind: str
    begin_ms: float
    end_ms: float
    detail: str = ""


class Axis(msgspec.Struct, frozen=True, kw_only=True):
    """One turn. saved_ms: what firing early saved, as its terminal fact says."""

    turn: str
    question: str
    took_ms: float
    saved_ms: float
    status: str
    spans: tuple[Span, ...]

    @property
    def lanes(self) -> list[str]:
        """In the order in which they begin."""
        begins: dict[str, float] = {}
        for span in self.spans:
            begins[span.lane] = min(span.begin_ms, begins.get(span.lane, span.begin_ms))
        return sorted(begins, key=lambda lane: begins[lane])


def axis_of(turn: TurnLog) -> Axis:
    """The axis of one turn, also of one that has not ended."""
    steps = steps_of(turn)
    began_ms = turn.accepted.at_ms
    last_ms = max(float(fact.record.timestamp_ms - began_ms) for fact in turn.facts)
    end_ms = steps.took_ms if steps.took_ms >= 0 else last_ms
    spans = [*_looking(turn, began_ms), *(span for step in steps.models.values() for span in _model(step, end_ms))]
    written = {fact.event.call: [0.0, end_ms] for fact in turn.facts if isinstance(fact.event, CallOpened)}
    for fact in turn.facts:
        if isinstance(fact.event, CallOpened):
            written[fact.event.call][0] = float(fact.event.at_ms - began_ms)
        elif isinstance(fact.event, CallClosed) and fact.event.call in written:
            written[fact.event.call][1] = float(fact.event.at_ms - began_ms)
    for call in steps.calls:
        spans += _call(call, written.get(call.index), max(end_ms, last_ms))
    return Axis(
        turn=turn.turn, question=steps.question, took_ms=end_ms, saved_ms=steps.saved_ms,
        status=f"{steps.status} {steps.reason}".strip(), spans=tuple(spans),
    )  # fmt: skip


def _looking(turn: TurnLog, began_ms: int) -> list[Span]:
    """What was looked up: each says how long it took when it was done."""
    spans: list[Span] = []
    for fact in turn.facts:
        match fact.event:
            case RouteDecided() as event:
                spans.append(_looked("route", f"{event.agent or 'out of scope'} by {event.by}", event, began_ms))
            case Recalled() as event:
                spans.append(_looked("recall", f"{len(event.items)} memories", event, began_ms))
            case SkillsDiscovered() as event:
                spans.append(_looked("discover", ", ".join(row.skill for row in event.skills), event, began_ms))
    return spans


def _looked(name: str, detail: str, event: RouteDecided | Recalled | SkillsDiscovered, began_ms: int) -> Span:
    end_ms = float(event.at_ms - began_ms)
    begin_ms = max(0.0, end_ms - event.took_ms)
    return Span(lane=name, name=name, kind="looking", begin_ms=begin_ms, end_ms=end_ms, detail=detail)


def _model(step: ModelStep, end_ms: float) -> list[Span]:
    first_ms = step.first_ms if step.first_ms >= 0 else end_ms
    ended_ms = step.ended_ms if step.ended_ms >= 0 else end_ms
    detail = f"{step.model}, {step.prompt_tokens} tokens in, {step.completion_tokens} out"
    spans = [
        Span(lane=step.step, name="first token", kind="waiting", begin_ms=step.asked_ms, end_ms=first_ms, detail=detail)
    ]
    if step.first_ms >= 0:
        text = f"{step.reason or 'running'}, {detail}"
        spans.append(
            Span(lane=step.step, name=step.step, kind="writing", begin_ms=first_ms, end_ms=ended_ms, detail=text)
        )  # fmt: skip
    return spans


def _call(call: CallStep, written: list[float] | None, end_ms: float) -> list[Span]:
    lane = f"call {call.index} {call.skill.partition('@')[0]}"
    spans = []
    if written is not None:
        text = json.dumps(call.arguments, ensure_ascii=False)
        spans.append(
            Span(lane=lane, name="written", kind="writing", begin_ms=written[0], end_ms=written[1], detail=text)
        )  # fmt: skip
    if call.fired_ms >= 0:
        ended_ms = call.ended_ms if call.ended_ms >= 0 else end_ms
        name = f"{call.outcome} {call.detail}".strip()
        detail = "while it was being written" if call.early else ""
        spans.append(Span(lane=lane, name=name, kind="running", begin_ms=call.fired_ms, end_ms=ended_ms, detail=detail))
    return spans


def text(axis: Axis) -> str:
    """The axis for a terminal."""
    end_ms = max([axis.took_ms, *(span.end_ms for span in axis.spans), 1.0])
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
        lines.append(f"{lane:<{width}}  {''.join(cells).rstrip()}")
    lines.append("▪ looking  · waiting  ░ written  ━ running  █ running while written")
    return "\n".join(lines) + "\n"


_COLOURS: Final = {"looking": "#8a63d2", "waiting": "#c9ccd1", "writing": "#e3b341", "running": "#2f81f7"}


def svg(axis: Axis) -> str:
    """The axis as a picture, with a title on each span for whoever points at it."""
    end_ms = max([axis.took_ms, *(span.end_ms for span in axis.spans), 1.0])
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
    return json.dumps({"traceEvents": events, "displayTimeUnit": "ms"}, ensure_ascii=False) + "\n"


def _title(span: Span) -> str:
    return f"{span.name}: {span.begin_ms:,.0f} to {span.end_ms:,.0f} ms. {span.detail[:300]}"
