"""A turn on one time axis, from its facts: what was looked up, each model call, each call from opening to answer, what
the in-stream checks held or changed, the frames that clients got, and when they acknowledged them. Pure.

Times are milliseconds since the turn was accepted. Facts carry whole milliseconds of several clocks, so a span may seem
to begin a millisecond before what caused it. A frame stands at the time at which the fact that makes it came into the
log: from then on any gateway sends it. The frames are the gateway's own (frames.py makes them), not told a second time.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any, Final, Protocol

import msgspec

from gateway.frames import TurnProjector
from streams.codec import Identity, Record
from streams.events import Event
from streams.events.calling import (
    ApprovalAsked,
    CallAnswered,
    CallClosed,
    CallFailed,
    CallFired,
    CallOpened,
    CallVoided,
)
from streams.events.generating import AnswerDelta, GenerationDelta, GenerationFinished, GenerationStarted, ModelAsked
from streams.events.recalling import Recalled, SkillsDiscovered
from streams.events.routing import RouteDecided
from streams.events.turn import TurnAccepted, TurnCancelled, TurnCompleted, TurnEnd, TurnFailed, TurnIncomplete
from streams.offsets import CursorMaker

FRAMES: Final = "frames"
CHECKS: Final = "checks"
ACKNOWLEDGED: Final = "acknowledged"
_LAST: Final = (CHECKS, FRAMES, ACKNOWLEDGED)


class Fact(Protocol):
    """One record of the turn that counts."""

    @property
    def record(self) -> Record: ...
    @property
    def identity(self) -> Identity: ...
    @property
    def event(self) -> Event: ...


class Span(msgspec.Struct, frozen=True, kw_only=True):
    """Something that took time. lane: the row it is drawn in. kind: looking | waiting | writing | running |
    checking."""

    lane: str
    name: str
    kind: str
    begin_ms: float
    end_ms: float
    detail: str = ""


class Mark(msgspec.Struct, frozen=True, kw_only=True):
    """Something that took none: a frame, an acknowledgement, a piece of the answer that a check changed."""

    lane: str
    name: str
    at_ms: float


class Axis(msgspec.Struct, frozen=True, kw_only=True):
    """One turn. saved_ms: what firing early saved, as its terminal fact says."""

    turn: str
    question: str
    took_ms: float
    saved_ms: float
    status: str
    spans: tuple[Span, ...]
    marks: tuple[Mark, ...] = ()

    @property
    def lanes(self) -> list[str]:
        """In the order in which they begin; what clients got of it last."""
        begins: dict[str, float] = {}
        for span in self.spans:
            begins[span.lane] = min(span.begin_ms, begins.get(span.lane, span.begin_ms))
        for mark in self.marks:
            begins.setdefault(mark.lane, mark.at_ms)
        return sorted(begins, key=lambda lane: (_LAST.index(lane) + 1 if lane in _LAST else 0, begins[lane]))

    @property
    def end_ms(self) -> float:
        """Where the last thing on it ends, at least 1."""
        return max([self.took_ms, *(span.end_ms for span in self.spans), *(mark.at_ms for mark in self.marks), 1.0])


def axis_of(facts: Sequence[Fact], acknowledged: Iterable[Mark] = ()) -> Axis:
    """The axis of one turn, also of one that has not ended. facts: those that count, in the log's order, from its
    `turn.accepted` on. acknowledged: marks of what clients said that they have."""
    accepted = facts[0].event
    if not isinstance(accepted, TurnAccepted):
        raise ValueError("a turn's facts begin with turn.accepted")
    fold = _Fold(accepted)
    for fact in facts:
        fold.feed(fact.identity, fact.event, float(fact.record.timestamp_ms - accepted.at_ms))
    return fold.axis([*_frames(accepted, facts), *acknowledged])


def _frames(accepted: TurnAccepted, facts: Sequence[Fact]) -> list[Mark]:
    projector = TurnProjector(accepted, CursorMaker(accepted.conversation, 0))
    marks = []
    for fact in facts:
        frames = projector.feed(fact.record.offset, fact.identity, fact.event)
        if not frames:
            continue
        names = list(dict.fromkeys(frame.type for frame in frames))
        size_bytes = sum(len(frame.body) for frame in frames)
        name = names[0] if len(frames) == 1 else f"{len(frames)} frames, {', '.join(names)}"
        at_ms = float(fact.record.timestamp_ms - accepted.at_ms)
        marks.append(Mark(lane=FRAMES, name=f"{name}, {size_bytes} bytes", at_ms=at_ms))
    return marks


class _Model(msgspec.Struct):
    """One model call, all epochs of it. told_ms: when the engine had its last token, by the worker's own clock."""

    step: str
    model: str
    asked_ms: float
    started_ms: float = -1.0
    first_ms: float = -1.0
    ended_ms: float = -1.0
    told_ms: float = -1.0
    reason: str = "running"
    tokens: str = ""
    filtered: tuple[str, ...] = ()


class _Call(msgspec.Struct):
    index: int
    skill: str
    opened_ms: float
    closed_ms: float = -1.0
    fired_ms: float = -1.0
    ended_ms: float = -1.0
    arguments: dict[str, Any] = {}
    early: bool = False
    outcome: str = "open"


class _Fold:
    """The facts of one turn, as spans. Times are since the turn was accepted, -1 where a thing did not happen."""

    def __init__(self, accepted: TurnAccepted) -> None:
        self._accepted = accepted
        self._spans: list[Span] = []
        self._marks: list[Mark] = []
        self._models: dict[str, _Model] = {}
        self._calls: dict[int, _Call] = {}
        self._ids = False  # the engine tells token ids, so text without any was changed by a check
        self._last_ms = 0.0
        self._took_ms = -1.0
        self._saved_ms = 0.0
        self._status = "running"

    def feed(self, identity: Identity, event: Event, logged_ms: float) -> None:
        """The next fact. logged_ms: when it came into the log."""
        self._last_ms = max(self._last_ms, logged_ms)
        at_ms = float(getattr(event, "at_ms", self._accepted.at_ms + logged_ms) - self._accepted.at_ms)
        match event:
            case RouteDecided():
                self._looked("route", f"{event.agent or 'out of scope'} by {event.by}", at_ms, event.took_ms)
            case Recalled():
                detail = f"{len(event.items)} memories, embedded in {event.embed_ms:.1f} ms"
                self._looked("recall", detail, at_ms, event.took_ms + event.embed_ms)
            case SkillsDiscovered():
                self._looked("discover", ", ".join(row.skill for row in event.skills), at_ms, event.took_ms)
            case ModelAsked():
                self._models[event.step] = _Model(event.step, event.model, at_ms)
            case GenerationStarted() | GenerationDelta() | GenerationFinished():
                self._generation(identity.stage, event, at_ms, logged_ms)
            case TurnEnd():
                self._took_ms, self._saved_ms, self._status = at_ms, event.saved_ms, _status(event)
            case _:
                self._call(event, at_ms)

    def _looked(self, name: str, detail: str, end_ms: float, took_ms: float) -> None:
        begin_ms = max(0.0, end_ms - took_ms)
        self._spans.append(
            Span(lane=name, name=name, kind="looking", begin_ms=begin_ms, end_ms=end_ms, detail=detail)
        )  # fmt: skip

    def _generation(self, stage: str, event: Event, at_ms: float, logged_ms: float) -> None:
        model = self._models.get(stage)
        if model is None:  # a shortened log, or one of a build that did not say what it asked
            model = self._models[stage] = _Model(stage, getattr(event, "model", ""), at_ms)
        if isinstance(event, GenerationStarted):
            model.started_ms, model.model = at_ms, event.model
            if stage == "plan":  # written anew
                self._calls.clear()
        elif isinstance(event, GenerationDelta):
            model.first_ms = logged_ms if model.first_ms < 0 else model.first_ms
            if isinstance(event, AnswerDelta):
                self._ids = self._ids or bool(event.ids)
                if self._ids and event.text and not event.ids:
                    self._marks.append(Mark(lane=CHECKS, name="changed by a check", at_ms=logged_ms))
        elif isinstance(event, GenerationFinished):
            model.reason, model.ended_ms, model.filtered = event.reason, logged_ms, event.filtered
            model.tokens = f", {event.usage.prompt} tokens in, {event.usage.completion} out"
            if model.started_ms >= 0 and event.last_token_ms > 0:
                model.told_ms = model.started_ms + event.last_token_ms

    def _call(self, event: Event, at_ms: float) -> None:
        if isinstance(event, CallOpened):
            outcome = "left to the client" if event.client else "open"
            self._calls[event.call] = _Call(event.call, event.skill, at_ms, outcome=outcome)
            return
        call = self._calls.get(getattr(event, "call", -1))
        if call is None:
            return
        match event:
            case CallClosed():
                call.arguments, call.closed_ms = event.arguments, at_ms
            case CallFired():
                call.arguments = call.arguments or event.arguments
                call.fired_ms, call.ended_ms, call.early, call.outcome = at_ms, -1.0, event.written, "open"
            case CallAnswered():
                call.ended_ms, call.outcome = at_ms, f"answered {event.status}"
            case CallFailed():
                call.ended_ms, call.outcome = at_ms, f"failed {event.code}"
            case CallVoided() if not event.refire:
                call.ended_ms, call.outcome = at_ms, f"voided {event.reason}"
            case ApprovalAsked():
                call.outcome = "asked"

    def axis(self, marks: list[Mark]) -> Axis:
        end_ms = self._took_ms if self._took_ms >= 0 else self._last_ms
        spans = [*self._spans, *(span for model in self._models.values() for span in _model_spans(model, end_ms))]
        for call in self._calls.values():
            spans += _call_spans(call, end_ms, max(end_ms, self._last_ms))
        return Axis(
            turn=self._accepted.turn, question=self._accepted.question, took_ms=end_ms, saved_ms=self._saved_ms,
            status=self._status, spans=tuple(spans), marks=(*self._marks, *marks),
        )  # fmt: skip


def _model_spans(model: _Model, end_ms: float) -> list[Span]:
    ended_ms = model.ended_ms if model.ended_ms >= 0 else end_ms
    first_ms = model.first_ms if model.first_ms >= 0 else ended_ms
    detail = f"{model.model}{model.tokens}"
    spans = [
        Span(lane=model.step, name="first token", kind="waiting", begin_ms=model.asked_ms, end_ms=first_ms,
             detail=detail)
    ]  # fmt: skip
    if model.first_ms >= 0:
        spans.append(
            Span(lane=model.step, name=model.step, kind="writing", begin_ms=first_ms, end_ms=ended_ms,
                 detail=f"{model.reason}, {detail}")
        )  # fmt: skip
    held = model.told_ms >= 0 and model.ended_ms - model.told_ms >= 1
    if model.step == "answer" and (held or model.filtered):
        # What the checks held back until they knew how the text goes on leaves after the engine's last token.
        said = f"changed by {', '.join(model.filtered)}" if model.filtered else "nothing changed"
        begin_ms = model.told_ms if held else ended_ms
        spans.append(
            Span(lane=CHECKS, name="held to the end", kind="checking", begin_ms=begin_ms, end_ms=ended_ms, detail=said)
        )
    return spans


def _call_spans(call: _Call, plan_end_ms: float, end_ms: float) -> list[Span]:
    lane = f"call {call.index} {call.skill.partition('@')[0]}"
    closed_ms = call.closed_ms if call.closed_ms >= 0 else plan_end_ms
    written = json.dumps(call.arguments, ensure_ascii=False)
    spans = [Span(lane=lane, name="written", kind="writing", begin_ms=call.opened_ms, end_ms=closed_ms, detail=written)]
    if call.fired_ms >= 0:
        ended_ms = call.ended_ms if call.ended_ms >= 0 else end_ms
        detail = "while it was being written" if call.early else ""
        spans.append(
            Span(lane=lane, name=call.outcome, kind="running", begin_ms=call.fired_ms, end_ms=ended_ms, detail=detail)
        )
    return spans


def _status(end: TurnEnd) -> str:
    match end:
        case TurnCompleted():
            return f"completed {end.awaiting}".strip()
        case TurnIncomplete() | TurnCancelled():
            return f"{'incomplete' if isinstance(end, TurnIncomplete) else 'cancelled'} {end.reason}".strip()
        case TurnFailed():
            return f"failed {end.code}"
    return "ended"
