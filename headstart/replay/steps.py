"""What a turn did, step by step, folded from its facts: what two runs of it are compared by. Pure.

Times are milliseconds since the turn was accepted, -1 where a thing did not happen.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from headstart.replay.turns import TurnLog
from streams.events import Event
from streams.events.calling import (
    ApprovalAsked,
    CallAnswered,
    CallClosed,
    CallFailed,
    CallFired,
    CallOpened,
    CallVoided,
    PlanCommitted,
    PlanRepaired,
)
from streams.events.generating import GenerationDelta, GenerationFinished, GenerationStarted, Message, ModelAsked
from streams.events.recalling import Recalled, SkillsDiscovered
from streams.events.routing import RouteDecided
from streams.events.turn import TurnCancelled, TurnCompleted, TurnEnd, TurnFailed, TurnIncomplete
from workers.skills import references


class CallStep(msgspec.Struct, kw_only=True):
    """One call of the plan. after: indexes of the calls whose results it refers to. outcome: answered | failed | voided
    | asked (a person) | client | open. early: it left while it was being written."""

    index: int
    skill: str
    arguments: dict[str, Any] = msgspec.field(default_factory=dict)
    after: tuple[int, ...] = ()
    outcome: str = "open"
    detail: str = ""
    result: str = ""
    early: bool = False
    fired_ms: float = -1.0
    ended_ms: float = -1.0
    took_ms: float = -1.0
    repairs: tuple[str, ...] = ()


class ModelStep(msgspec.Struct, kw_only=True):
    """One model call, all epochs of it. text: what it said. ids: its tokens, where the engine tells them."""

    step: str
    model: str
    prompt: str
    messages: tuple[Message, ...] = ()
    sampling: dict[str, Any] = msgspec.field(default_factory=dict)
    text: str = ""
    ids: list[int] = msgspec.field(default_factory=list)
    reason: str = ""
    epochs: int = 1
    asked_ms: float = -1.0
    first_ms: float = -1.0
    ended_ms: float = -1.0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost_usd: float = 0.0


class TurnSteps(msgspec.Struct, kw_only=True):
    """One turn. status: completed | incomplete | cancelled | failed | running; reason says more."""

    turn: str
    conversation: str
    question: str
    agent: str = ""
    routed_by: str = ""
    recalled: tuple[str, ...] = ()
    history: int = 0
    skills: tuple[str, ...] = ()
    calls: list[CallStep] = msgspec.field(default_factory=list)
    repairs: tuple[str, ...] = ()
    models: dict[str, ModelStep] = msgspec.field(default_factory=dict)
    status: str = "running"
    reason: str = ""
    took_ms: float = -1.0
    saved_ms: float = 0.0
    route_ms: float = -1.0
    committed_ms: float = -1.0

    @property
    def answer(self) -> str:
        """What the person got to read."""
        return self.models["answer"].text if "answer" in self.models else ""

    @property
    def cost_usd(self) -> float:
        return sum(step.cost_usd for step in self.models.values())

    @property
    def tokens(self) -> int:
        return sum(step.prompt_tokens + step.completion_tokens for step in self.models.values())


def steps_of(turn: TurnLog) -> TurnSteps:
    """The steps of one turn. Facts after its terminal one tell only what became of calls."""
    accepted = turn.accepted
    steps = TurnSteps(turn=turn.turn, conversation=accepted.conversation, question=accepted.question)
    fold = _Fold(steps, accepted.at_ms)
    for fact in turn.facts:
        fold.feed(fact.identity.stage, fact.identity.epoch, fact.event, fact.record.timestamp_ms)
    return steps


class _Fold:
    def __init__(self, steps: TurnSteps, began_ms: int) -> None:
        self._steps, self._began_ms = steps, began_ms
        self._calls: dict[int, CallStep] = {}

    def feed(self, stage: str, epoch: int, event: Event, time_ms: int) -> None:
        steps = self._steps
        at_ms = float(getattr(event, "at_ms", time_ms) - self._began_ms)
        match event:
            case RouteDecided():
                steps.agent, steps.routed_by, steps.route_ms = event.agent, event.by, at_ms
            case Recalled():
                steps.recalled = tuple(item.text for item in event.items)
                steps.history = len(event.history)
            case SkillsDiscovered():
                steps.skills = tuple(row.skill for row in event.skills)
            case ModelAsked():
                steps.models[event.step] = ModelStep(
                    step=event.step, model=event.model, prompt=f"{event.prompt.id}@{event.prompt.version}",
                    messages=event.messages, sampling=msgspec.to_builtins(event.sampling), asked_ms=at_ms,
                )  # fmt: skip
            case GenerationStarted() | GenerationDelta() | GenerationFinished():
                self._generation(stage, epoch, event, time_ms - self._began_ms)
            case PlanRepaired():
                steps.repairs = (*steps.repairs, event.rule)
            case PlanCommitted():
                steps.committed_ms = at_ms
            case TurnEnd():
                self._end(event, at_ms)
            case _:
                self._call(event, at_ms)

    def _generation(self, stage: str, epoch: int, event: Event, at_ms: float) -> None:
        step = self._steps.models.get(stage)
        if step is None:
            return
        if isinstance(event, GenerationStarted):
            step.epochs = max(step.epochs, epoch)
            if stage != "answer":  # a plan is written anew, an answer goes on
                step.text, step.ids = "", []
                self._calls = {} if stage == "plan" else self._calls
        elif isinstance(event, GenerationDelta):
            if self._steps.status == "running":
                step.text += event.text
                step.ids += event.ids
            step.first_ms = at_ms if step.first_ms < 0 else step.first_ms
        elif isinstance(event, GenerationFinished):
            step.reason, step.ended_ms = event.reason, at_ms
            step.prompt_tokens, step.completion_tokens = event.usage.prompt, event.usage.completion

    def _call(self, event: Event, at_ms: float) -> None:
        if isinstance(event, CallOpened):
            call = self._calls[event.call] = CallStep(index=event.call, skill=event.skill)
            call.outcome = "client" if event.client else "open"
            self._steps.calls = list(self._calls.values())
            return
        found = self._calls.get(getattr(event, "call", -1))
        if found is not None:
            self._later(found, event, at_ms)

    def _later(self, call: CallStep, event: Event, at_ms: float) -> None:
        """What became of a call after it was opened."""
        match event:
            case CallClosed():
                call.arguments, call.repairs = event.arguments, event.repairs
                call.after = _after(event.arguments, event.call)
            case CallFired():
                call.arguments = call.arguments or event.arguments
                call.early, call.fired_ms = event.written, at_ms
                call.outcome = "open"
            case CallAnswered():
                call.outcome, call.result, call.took_ms, call.ended_ms = "answered", event.result, event.took_ms, at_ms
            case CallFailed():
                call.outcome, call.detail, call.took_ms, call.ended_ms = "failed", event.code, event.took_ms, at_ms
            case CallVoided():
                call.outcome, call.detail = ("open", "") if event.refire else ("voided", event.reason)
            case ApprovalAsked():
                call.outcome = "asked"

    def _end(self, event: TurnEnd, at_ms: float) -> None:
        steps = self._steps
        steps.took_ms, steps.saved_ms = at_ms, event.saved_ms
        for use in event.models:
            if use.step in steps.models:
                steps.models[use.step].cost_usd += use.cost_usd
        match event:
            case TurnCompleted():
                steps.status, steps.reason = "completed", event.awaiting
            case TurnIncomplete():
                steps.status, steps.reason = "incomplete", event.reason
            case TurnCancelled():
                steps.status, steps.reason = "cancelled", event.reason
            case TurnFailed():
                steps.status, steps.reason = "failed", event.code


def _after(arguments: dict[str, Any], call: int) -> tuple[int, ...]:
    try:
        return tuple(sorted({reference.call for reference in references.find(arguments, call)}))
    except Exception:  # a reference that is wrong voids its call; here it is only not drawn
        return ()


def plan_tree(calls: Iterable[CallStep]) -> list[tuple[int, CallStep]]:
    """The plan as a tree: each call with its depth, below the last of the calls that it waits for."""
    listed = list(calls)
    known = {call.index for call in listed}
    children: dict[int, list[CallStep]] = {}
    for call in listed:
        parents = [index for index in call.after if index in known and index != call.index]
        children.setdefault(parents[-1] if parents else -1, []).append(call)
    tree: list[tuple[int, CallStep]] = []

    def place(index: int, depth: int) -> None:
        for child in children.get(index, ()):
            tree.append((depth, child))
            place(child.index, depth + 1)

    place(-1, 0)
    return tree
