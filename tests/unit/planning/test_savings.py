"""What firing early saved: by hand for a few schedules, then for all of them, and again from the log alone."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.codec import Identity
from streams.events import Event
from streams.events.calling import CallAnswered, CallFired
from streams.events.generating import PlanDelta, PlanFinished, PlanStarted
from streams.events.turn import TurnCompleted
from tests.unit.planning.test_machine import PEOPLE, SETUP, T0, TURN, WEATHER, Turn
from workers.planning.commands import Fire, Publish
from workers.planning.machine import TurnMachine
from workers.planning.planned_call import PlannedCall
from workers.planning.restoring import restore
from workers.planning.savings import compute

START = 1_000.0


def called(index: int, needed: float, fired: float, ended: float, **more: Any) -> PlannedCall:
    """A call that ended; times since the plan's first token."""
    values: dict[str, Any] = {
        "index": index, "skill": "find@1", "manifest": None, "state": "answered", "closed": True,
        "opened_at_ms": START, "needed_at_ms": START + needed, "fired_at_ms": START + fired,
        "closed_at_ms": START + needed, "ended_at_ms": START + ended,
    }  # fmt: skip
    return PlannedCall(**(values | more))


def saved(plan_end: float, *calls: PlannedCall) -> tuple[float, float]:
    found = compute(calls, START, START + plan_end)
    return found.saved_ms, found.oracle_ms


def test_a_plan_without_calls_saves_nothing() -> None:
    assert saved(500) == (0, 0)


def test_a_call_that_ends_before_the_plan_is_hidden_whole() -> None:
    assert saved(1000, called(0, 200, 200, 500)) == (300, 300)


def test_a_call_that_outlives_the_plan_is_hidden_as_far_as_the_plan_went() -> None:
    assert saved(1000, called(0, 800, 800, 1300)) == (200, 200)


def test_a_call_fired_at_the_plans_end_saves_nothing() -> None:
    assert saved(1000, called(0, 1000, 1000, 1300)) == (0, 0)


def test_a_late_firing_saves_less_than_an_oracle() -> None:
    assert saved(1000, called(0, 100, 600, 1100)) == (400, 500)


def test_of_calls_side_by_side_the_longest_counts() -> None:
    assert saved(1000, called(0, 100, 100, 300), called(1, 500, 500, 1200)) == (500, 500)


def test_a_chain_counts_as_long_as_it_is() -> None:
    """200 ms and, on its result, 300 ms: waiting for the plan would end at 1,500 ms."""
    assert saved(1000, called(0, 100, 100, 300), called(1, 300, 300, 600, after=(0,))) == (500, 500)


def test_a_shared_outcome_is_counted_once() -> None:
    twin = called(1, 900, 100, 1300, adopts=0)
    assert saved(1000, called(0, 100, 100, 1300), twin) == saved(1000, called(0, 100, 100, 1300))


@pytest.mark.parametrize("state", ["voided", "client", "approval", "writing"])
def test_calls_without_an_outcome_are_listed_and_save_nothing(state: str) -> None:
    found = compute([called(0, 100, 100, 500, state=state)], START, START + 1000)
    assert (found.saved_ms, found.oracle_ms) == (0, 0)
    assert [one.hidden_ms for one in found.calls] == [0]


def test_a_failed_call_took_time_too() -> None:
    assert saved(1000, called(0, 100, 100, 500, state="failed")) == (400, 400)


def test_hidden_is_what_ran_while_the_plan_was_written() -> None:
    [one] = compute([called(0, 700, 800, 1300)], START, START + 1000).calls
    assert (one.fired_ms, one.ended_ms, one.hidden_ms) == (800, 1300, 200)


TIMES = st.floats(0, 20_000, allow_nan=False)
SPANS = st.floats(0, 3_000, allow_nan=False)


@st.composite
def schedules(draw: st.DrawFn) -> tuple[list[PlannedCall], float]:
    """Calls as the rules let them go: none before what it needs is there, none before what it refers to has ended."""
    calls: list[PlannedCall] = []
    for index in range(draw(st.integers(0, 6))):
        after = tuple(sorted(draw(st.sets(st.integers(0, index - 1), max_size=2)))) if index else ()
        needed = max([draw(TIMES), *(calls[number].ended_at_ms - START for number in after)])
        fired = needed + draw(st.one_of(st.just(0.0), SPANS))
        state = draw(st.sampled_from(["answered", "answered", "answered", "failed", "voided"]))
        calls.append(called(index, needed, fired, fired + draw(SPANS), after=after, state=state))
    return calls, draw(TIMES)


@given(schedules())
def test_never_negative_and_never_more_than_an_oracle(schedule: tuple[list[PlannedCall], float]) -> None:
    calls, plan_end = schedule
    found = compute(calls, START, START + plan_end)
    assert 0 <= found.saved_ms <= found.oracle_ms + 0.002  # each is rounded to a microsecond
    for one, call in zip(found.calls, calls, strict=True):
        assert 0 <= one.hidden_ms <= call.ended_at_ms - call.fired_at_ms + 0.002
    longest = sum(call.ended_at_ms - call.fired_at_ms for call in calls)
    assert found.oracle_ms <= longest + 0.002, "more than all calls took cannot be saved"


@given(schedules(), st.floats(0, 1e6))
def test_only_differences_of_times_count(schedule: tuple[list[PlannedCall], float], shift: float) -> None:
    calls, plan_end = schedule
    before = compute(calls, START, START + plan_end)
    for call in calls:
        for name in ("opened_at_ms", "needed_at_ms", "fired_at_ms", "closed_at_ms", "ended_at_ms"):
            setattr(call, name, getattr(call, name) + shift)
    after = compute(calls, START + shift, START + shift + plan_end)
    assert after.saved_ms == pytest.approx(before.saved_ms, abs=0.01)
    assert after.oracle_ms == pytest.approx(before.oracle_ms, abs=0.01)


@given(st.lists(st.integers(1, 60), min_size=4, max_size=4), st.lists(st.integers(1, 400), min_size=2, max_size=2))
def test_they_can_be_computed_again_from_the_events_alone(gaps: list[int], spans: list[int]) -> None:
    """A turn is lived through once, its facts are written down with their times, and read by another machine."""
    turn = Turn()
    turn.to_plan(PEOPLE, WEATHER)
    log: list[tuple[Identity, Event, float]] = []
    seen = 0

    def note(stage: str, event: Event) -> None:
        log.append((Identity(TURN, stage, 1, len(log)), event, turn.now))

    def own() -> None:
        nonlocal seen
        for command in turn.commands[seen:]:
            if isinstance(command, Publish):
                note("turn", command.event)
            elif isinstance(command, Fire):
                note(f"call.{command.call}", CallFired(
                    call=command.call, skill=command.manifest.id, arguments=command.arguments, effect="pure",
                    claim=command.claim, token=command.token, at_ms=int(turn.now),
                ))  # fmt: skip
        seen = len(turn.commands)

    own()
    note("plan", PlanStarted(model="default", engine="scripted", at_ms=T0))
    text = json.dumps([
        {"name": "search_people", "arguments": {"title": "nurse"}},
        {"name": "get_weather", "arguments": {"city": "Rome"}},
    ])  # fmt: skip
    for index, gap in enumerate(gaps):
        turn.now += gap
        piece = text[index * len(text) // len(gaps) : (index + 1) * len(text) // len(gaps)]
        turn.write(piece)
        note("plan", PlanDelta(text=piece, index=index, ids=(index + 1,)))
        own()
    turn.finish()
    note("plan", PlanFinished(reason="stop", usage=turn.machine.uses[-1].usage, at_ms=int(turn.now)))
    own()
    for call, span in enumerate(spans):
        turn.answered(call, after_ms=span)
        note(f"call.{call}", CallAnswered(call=call, result="{}", status=200, took_ms=span, at_ms=int(turn.now)))
        own()
    turn.answer()
    [end] = turn.said(TurnCompleted)
    assert isinstance(end, TurnCompleted)
    again = TurnMachine(turn.machine.accepted, 7, SETUP)
    restore(again, log, {row.id: row for row in (PEOPLE, WEATHER)})
    assert again.firing is not None
    first_at_ms = next(at_ms for _, event, at_ms in log if isinstance(event, PlanDelta))
    end_at_ms = next(at_ms for _, event, at_ms in log if isinstance(event, PlanFinished))
    found = compute(again.firing.calls, first_at_ms, end_at_ms)
    assert (found.saved_ms, found.oracle_ms) == (end.saved_ms, end.oracle_ms)
    assert found.calls == end.savings
