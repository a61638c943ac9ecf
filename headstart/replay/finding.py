"""Turns that fit a description: by person, skill, error, text, prompt version, agent, end, slow step. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec

from headstart.replay.steps import TurnSteps, steps_of
from headstart.replay.turns import TurnLog
from streams.errors import InvalidInput


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """All that is said must hold; "" says nothing.

    user, tenant: whose turn. skill: a name, or name@version, that was called. error: a code with which the turn or one
    of its calls failed. text: stands in the question, the answer, an argument or a result, letter case aside. prompt:
    an id, or id@version, that was rendered. agent, status: as the turn has them. slow: (step, ms): route, a model's
    step, a skill or "turn" took at least as long.
    """

    user: str = ""
    tenant: str = ""
    skill: str = ""
    error: str = ""
    text: str = ""
    prompt: str = ""
    agent: str = ""
    status: str = ""
    slow: tuple[str, float] | None = None


def find(turns: Iterable[TurnLog], wanted: Wanted) -> Iterator[tuple[TurnLog, TurnSteps]]:
    """The turns that fit, in the order given, with their steps."""
    for turn in turns:
        accepted = turn.accepted
        if (wanted.user and accepted.user != wanted.user) or (wanted.tenant and accepted.tenant != wanted.tenant):
            continue
        steps = steps_of(turn)
        if _fits(steps, wanted):
            yield turn, steps


def slow(text: str) -> tuple[str, float]:
    """`answer=2000` or `2000` (the turn) as a step and milliseconds. Raises InvalidInput."""
    step, equals, number = text.partition("=")
    step, number = (step, number) if equals else ("turn", step)
    try:
        return step, float(number.removesuffix("ms"))
    except ValueError as error:
        raise InvalidInput(
            f"{text!r} names no slow step", hint="STEP=MS, such as answer=2000 or search_people=500"
        ) from error


def _fits(steps: TurnSteps, wanted: Wanted) -> bool:
    return (
        (not wanted.agent or steps.agent == wanted.agent)
        and (not wanted.status or wanted.status in (steps.status, steps.reason))
        and (not wanted.skill or any(_named(wanted.skill, call.skill) for call in steps.calls))
        and (not wanted.prompt or any(_named(wanted.prompt, step.prompt) for step in steps.models.values()))
        and (not wanted.error or wanted.error in _errors(steps))
        and (not wanted.text or any(wanted.text.lower() in text.lower() for text in _texts(steps)))
        and (wanted.slow is None or _took_ms(steps, wanted.slow[0]) >= wanted.slow[1])
    )


def _named(wanted: str, name: str) -> bool:
    return wanted in (name, name.partition("@")[0])


def _errors(steps: TurnSteps) -> set[str]:
    failed = {call.detail for call in steps.calls if call.outcome in ("failed", "voided")}
    return failed | ({steps.reason} if steps.status in ("failed", "incomplete") else set())


def _texts(steps: TurnSteps) -> Iterator[str]:
    yield steps.question
    yield steps.answer
    for call in steps.calls:
        yield msgspec.json.encode(call.arguments).decode()
        yield call.result


def _took_ms(steps: TurnSteps, name: str) -> float:
    """How long a step took; -1 when the turn has none of that name."""
    if name == "turn":
        return steps.took_ms
    if name == "route":
        return steps.route_ms
    if (step := steps.models.get(name)) is not None:
        return step.ended_ms - step.asked_ms if step.ended_ms >= 0 else -1.0
    return max((call.took_ms for call in steps.calls if _named(name, call.skill)), default=-1.0)
