"""Two runs of the same turns compared step by step: route, plan, arguments, results used, answer, times, tokens, cost.

Runs are matched by turn. What a model, a prompt or a person would notice is a *change*; times, and what follows from
them, are shown and are none. Pure; diff_text.py and diff_html.py draw it.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from headstart.replay.steps import CallStep, ModelStep, TurnSteps, plan_tree


class Line(msgspec.Struct, frozen=True):
    """One line of a text compared: sign " " | "-" | "+"."""

    sign: str
    text: str


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """One difference. step: route | recall | skills | plan | results | answer | prompt | end. what: in words.

    before, after: the values, as text. lines: for longer texts, line by line."""

    step: str
    what: str
    before: str = ""
    after: str = ""
    lines: tuple[Line, ...] = ()


class Figure(msgspec.Struct, frozen=True):
    """A number of both runs; None where one has none. unit: ms | tokens | usd."""

    name: str
    unit: str
    before: float | None
    after: float | None


class TurnDiff(msgspec.Struct, frozen=True, kw_only=True):
    """One turn. only: "" | "A" | "B", when the other run has not got it."""

    turn: str
    question: str
    changes: tuple[Change, ...] = ()
    figures: tuple[Figure, ...] = ()
    only: str = ""

    @property
    def same(self) -> bool:
        return not self.changes and not self.only


class Diff(msgspec.Struct, frozen=True, kw_only=True):
    """a, b: what the two runs are called, with what was changed in them."""

    a: str
    b: str
    turns: tuple[TurnDiff, ...]

    @property
    def same(self) -> bool:
        return all(turn.same for turn in self.turns)

    @property
    def changed(self) -> int:
        return sum(not turn.same for turn in self.turns)


def diff(a: str, before: Mapping[str, TurnSteps], b: str, after: Mapping[str, TurnSteps]) -> Diff:
    """Compares two runs, in A's order; turns that only B has come last."""
    turns = [_turn(steps, after.get(turn)) for turn, steps in before.items()]
    turns += [
        TurnDiff(turn=turn, question=steps.question, only="B") for turn, steps in after.items() if turn not in before
    ]
    return Diff(a=a, b=b, turns=tuple(turns))


def _turn(before: TurnSteps, after: TurnSteps | None) -> TurnDiff:
    if after is None:
        return TurnDiff(turn=before.turn, question=before.question, only="A")
    changes = [
        *_values("route", "agent", before.agent or "out of scope", after.agent or "out of scope"),
        *_values("route", "decided by", before.routed_by, after.routed_by),
        *_texts("recall", "memories", before.recalled, after.recalled),
        *_values("recall", "messages of the conversation", before.history, after.history),
        *_texts("skills", "offered to the plan", before.skills, after.skills),
        *_models(before.models, after.models),
        *_plan(before.calls, after.calls),
        *_results(before.calls, after.calls),
        *_texts("answer", "text", before.answer.splitlines(), after.answer.splitlines()),
        *_values("end", "status", _status(before), _status(after)),
    ]
    return TurnDiff(
        turn=before.turn, question=before.question, changes=tuple(changes), figures=tuple(_figures(before, after))
    )


def _values(step: str, what: str, before: object, after: object) -> list[Change]:
    return [] if before == after else [Change(step=step, what=what, before=str(before), after=str(after))]


def _texts(step: str, what: str, before: Iterable[str], after: Iterable[str]) -> list[Change]:
    one, other = list(before), list(after)
    return [] if one == other else [Change(step=step, what=what, lines=compared(one, other))]


def compared(before: list[str], after: list[str]) -> tuple[Line, ...]:
    """Two texts line by line; what is the same is kept, so that a person sees where they are."""
    lines: list[Line] = []
    for tag, begin, end, other_begin, other_end in difflib.SequenceMatcher(None, before, after, False).get_opcodes():
        if tag == "equal":
            lines += [Line(" ", text) for text in before[begin:end]]
        else:
            lines += [Line("-", text) for text in before[begin:end]]
            lines += [Line("+", text) for text in after[other_begin:other_end]]
    return tuple(lines)


def _models(before: Mapping[str, ModelStep], after: Mapping[str, ModelStep]) -> list[Change]:
    changes: list[Change] = []
    for step in [*before, *(step for step in after if step not in before)]:
        one, other = before.get(step), after.get(step)
        if one is None or other is None:
            changes += _values("prompt", f"{step}: model call", "made" if one else "none", "made" if other else "none")
            continue
        changes += _values("prompt", f"{step}: model", one.model, other.model)
        changes += _values("prompt", f"{step}: prompt", one.prompt, other.prompt)
        changes += _values("prompt", f"{step}: parameters", _parameters(one), _parameters(other))
        changes += _texts("prompt", f"{step}: rendered messages", _rendered(one), _rendered(other))
        changes += _values("prompt", f"{step}: ended by", one.reason, other.reason)
    return changes


def _parameters(step: ModelStep) -> str:
    """Without the schema, which follows from the skills."""
    return _json({name: value for name, value in step.sampling.items() if name != "json_schema"})


def _rendered(step: ModelStep) -> list[str]:
    return [line for message in step.messages for line in (f"@{message.role}", *message.content.splitlines())]


def plan_lines(calls: Iterable[CallStep]) -> list[str]:
    """A plan as lines: what waits for a result stands below it."""
    return [f"{'  ' * depth}{call.skill} {_json(call.arguments)}" for depth, call in plan_tree(calls)]


def _plan(before: list[CallStep], after: list[CallStep]) -> list[Change]:
    """The plan as a tree; the arguments of calls that both plans have are compared one by one."""
    shape, other_shape = (
        [f"{'  ' * depth}{call.skill}" for depth, call in plan_tree(calls)] for calls in (before, after)
    )
    if shape != other_shape:
        return _texts("plan", "calls", plan_lines(before), plan_lines(after))
    changes: list[Change] = []
    for one, other in zip(before, after, strict=True):
        for name in sorted(one.arguments.keys() | other.arguments.keys()):
            old, new = one.arguments.get(name, _NOTHING), other.arguments.get(name, _NOTHING)
            if old != new:
                changes.append(
                    Change(
                        step="plan", what=f"call {one.index} {one.skill}: {name}", before=_shown(old), after=_shown(new)
                    )
                )
    return changes


def _results(before: list[CallStep], after: list[CallStep]) -> list[Change]:
    """What came of the calls that both plans have at the same place."""
    changes: list[Change] = []
    for one, other in zip(before, after, strict=False):
        if one.skill != other.skill:
            continue
        name = f"call {one.index} {one.skill}"
        changes += _values("results", f"{name}: outcome", _outcome(one), _outcome(other))
        if one.outcome == other.outcome == "answered" and one.result != other.result:
            changes.append(Change(step="results", what=f"{name}: result", before=one.result, after=other.result))
    return changes


def _outcome(call: CallStep) -> str:
    return f"{call.outcome} {call.detail}".strip()


def _status(steps: TurnSteps) -> str:
    return f"{steps.status} {steps.reason}".strip()


def _figures(before: TurnSteps, after: TurnSteps) -> list[Figure]:
    found = [_figure("turn", "ms", before.took_ms, after.took_ms)]
    for step in [*before.models, *(step for step in after.models if step not in before.models)]:
        one, other = before.models.get(step), after.models.get(step)
        for name, unit, field in _FIGURES:
            found.append(_figure(f"{step}: {name}", unit, _number(one, field), _number(other, field)))
    found += [
        _figure("saved by firing early", "ms", before.saved_ms, after.saved_ms),
        _figure("cost", "usd", before.cost_usd, after.cost_usd),
    ]
    return [figure for figure in found if figure.before is not None or figure.after is not None]


def _figure(name: str, unit: str, before: float, after: float) -> Figure:
    return Figure(name, unit, None if before < 0 else before, None if after < 0 else after)


def _number(step: ModelStep | None, field: str) -> float:
    return float(getattr(step, field)) if step is not None else -1.0


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, sort_keys=True)


def _shown(value: Any) -> str:
    return "–" if value is _NOTHING else _json(value)


_NOTHING = object()
_FIGURES = (
    ("first token", "ms", "first_ms"), ("end", "ms", "ended_ms"), ("tokens in", "tokens", "prompt_tokens"),
    ("tokens out", "tokens", "completion_tokens"),
)  # fmt: skip
