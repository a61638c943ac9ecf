"""What one turn did, folded from its frames: the route, the model's steps, each call's life, the answer, the saving.

Feed every frame of a turn in order; `TurnView` then holds what a terminal, a page of text or a test asks about.
Times are milliseconds of wall clock, as the facts carry them; -1 where a thing has not happened.

Pure.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from headstart.client_readers import TERMINAL, Frame


@dataclass(slots=True)
class CallView:
    """One call of the plan. written: its arguments as far as they are written, JSON text. outcome: "" while it is
    open, else answered | failed | voided | client (the client's own function). hidden_ms: how much of it ran while the
    plan was still being written, -1 when nobody said."""

    call: int
    skill: str
    opened_ms: int = -1
    opened_token: int = -1
    written: str = ""
    closed_ms: int = -1
    closed_token: int = -1
    fired_ms: int = -1
    fired_token: int = -1
    fired_early: bool = False
    fired_arguments: str = ""
    effect: str = ""
    firings: int = 0
    ended_ms: int = -1
    took_ms: float = -1.0
    outcome: str = ""
    detail: str = ""
    result: str = ""
    in_doubt: bool = False
    repairs: tuple[str, ...] = ()
    hidden_ms: float = -1.0


@dataclass(slots=True)
class StepView:
    """One model call: route, plan or answer, of one epoch."""

    step: str
    epoch: int
    model: str
    began_ms: int
    ended_ms: int = -1
    reason: str = ""
    tokens: int = 0
    first_token_ms: float = -1.0


@dataclass(slots=True)
class TurnView:
    """The fold. began_ms: when the turn was accepted, from its timeline if it has ended, else its first fact's time."""

    response: str = ""
    conversation: str = ""
    status: str = "in_progress"
    reason: str = ""
    error: str = ""
    began_ms: int = -1
    ended_ms: int = -1
    took_ms: int = -1
    agent: str | None = None
    route: Frame = field(default_factory=dict)
    recalled: Frame = field(default_factory=dict)
    skills: Frame = field(default_factory=dict)
    steps: list[StepView] = field(default_factory=list)
    calls: dict[int, CallView] = field(default_factory=dict)
    committed: Frame = field(default_factory=dict)
    approvals: list[Frame] = field(default_factory=list)
    repairs: list[str] = field(default_factory=list)
    text: str = ""
    summary: Frame = field(default_factory=dict)

    def feed(self, frame: Frame) -> None:
        """The turn's next frame; kinds that tell nothing new are passed over."""
        kind = str(frame.get("type", ""))
        at_ms = frame.get("at_ms")
        if self.began_ms < 0 and isinstance(at_ms, int) and kind != "headstart.timeline":
            self.began_ms = at_ms
        if kind == "response.created":
            self.response = str(frame["response"]["id"])
            self.conversation = str((frame["response"].get("conversation") or {}).get("id", ""))
        elif kind == "response.output_text.delta":
            self.text += str(frame["delta"])
        elif kind in TERMINAL:
            self._ended(frame)
        elif kind.startswith("headstart.tool."):
            self._call(kind.removeprefix("headstart.tool."), frame)
        elif kind == "headstart.step.started":
            step = StepView(frame["step"], int(frame.get("epoch", 1)), str(frame.get("model", "")), frame["at_ms"])
            self.steps.append(step)
        elif kind == "headstart.step.finished":
            self._finished(frame)
        elif kind == "headstart.plan.repaired":
            self.repairs.append(str(frame["rule"]))
        elif kind == "headstart.approval.asked":
            self.approvals.append(frame)
        elif kind == "headstart.timeline":
            self.summary = frame
            self.ended_ms = frame["at_ms"]
            self.took_ms = int(frame["took_ms"])
            self.began_ms = self.ended_ms - self.took_ms
        elif kind in _WHOLE:
            setattr(self, _WHOLE[kind], frame)
            if kind == "headstart.route.decided":
                self.agent = frame.get("agent")

    @property
    def plan_ended_ms(self) -> int:
        """When the plan's last token was there, -1 while it is being written or when there is none."""
        return max((step.ended_ms for step in self.steps if step.step == "plan"), default=-1)

    def _call(self, what: str, frame: Frame) -> None:
        call = self.calls.get(frame["call"])
        if call is None:
            call = self.calls[frame["call"]] = CallView(frame["call"], str(frame.get("skill", "")))
        match what:
            case "opened":
                call.skill, call.opened_ms, call.opened_token = frame["skill"], frame["at_ms"], frame["token"]
            case "arguments":
                call.written += str(frame["delta"])
            case "closed":
                call.closed_ms, call.closed_token = frame["at_ms"], frame["token"]
                call.written = compact(frame["arguments"])
                call.repairs = tuple(frame.get("repairs", ()))
            case "fired":
                call.fired_ms, call.fired_token = frame["at_ms"], frame["fired_at_token"]
                call.fired_early, call.effect = bool(frame.get("while_written")), str(frame.get("effect", ""))
                call.fired_arguments = compact(frame["arguments_so_far"])
                call.firings += 1
                call.outcome, call.detail, call.ended_ms = "", "", -1
            case "answered":
                call.ended_ms, call.took_ms, call.outcome = frame["at_ms"], float(frame["took_ms"]), "answered"
                call.detail, call.result = str(frame["status"]), str(frame["result"])
            case "failed":
                call.ended_ms, call.took_ms, call.outcome = frame["at_ms"], float(frame["took_ms"]), "failed"
                call.detail, call.in_doubt = str(frame["code"]), bool(frame.get("in_doubt"))
            case "voided":
                call.ended_ms, call.outcome, call.detail = frame["at_ms"], "voided", str(frame["reason"])
            case "saved":
                call.hidden_ms = float(frame["hidden_ms"])

    def _finished(self, frame: Frame) -> None:
        for step in reversed(self.steps):
            if step.step == frame["step"] and step.epoch == frame.get("epoch", step.epoch):
                step.ended_ms, step.reason = frame["at_ms"], str(frame["reason"])
                step.tokens = int(frame.get("completion_tokens", 0))
                step.first_token_ms = float(frame.get("first_token_ms", -1.0))
                return

    def _ended(self, frame: Frame) -> None:
        response: dict[str, Any] = frame["response"]
        self.status = str(response.get("status", ""))
        extra = response.get("headstart") or {}
        self.reason = str(extra.get("reason") or extra.get("awaiting") or "")
        if self.status == "failed":
            error = response.get("error") or {}
            self.error = f"{extra.get('code') or error.get('code', '')}: {error.get('message', '')}"


_WHOLE = {
    "headstart.route.decided": "route",
    "headstart.recalled": "recalled",
    "headstart.skills.discovered": "skills",
    "headstart.plan.committed": "committed",
}


def view_of(frames: Iterable[Frame]) -> TurnView:
    """The fold of a whole turn."""
    view = TurnView()
    for frame in frames:
        view.feed(frame)
    return view


def compact(value: object) -> str:
    """JSON text on one line, as people read it."""
    return json.dumps(value, ensure_ascii=False)


def printable(text: str, width: int = 0) -> str:
    """Text that can not steer a terminal: control characters other than line breaks and tabs become their pictures.
    width: on one line and cut with an ellipsis to so many characters; 0: as it is."""
    if width:
        text = " ".join(text.split())
        if len(text) > width:
            text = text[: width - 1] + "…"
    return "".join(
        chr(0x2400 + ord(c))
        if ord(c) < 32 and c not in "\n\t"
        else "\N{SYMBOL FOR DELETE}"
        if 127 <= ord(c) < 160
        else c
        for c in text
    )
