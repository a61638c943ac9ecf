"""The rules of firing, one by one: when a call goes, goes again, or does not go at all."""

from __future__ import annotations

import json

import pytest

from streams.events.calling import ApprovalAsked, CallClosed, PlanCommitted
from streams.events.registering import SkillManifest
from tests.support.written_plans import T0, TURN, Writing, call, plan
from workers.planning.commands import AbortCall, Compensate, Fire, Publish
from workers.planning.firing import APPROVAL_EXPIRES_MS, FiringCore

# -- when a pure call goes ------------------------------------------------------------------------------------------


def test_nothing_is_fired_on_a_value_that_may_still_grow() -> None:
    writing = Writing()
    writing.feed('[{"name": "find", "arguments": {"title": "nurse')
    assert writing.fires == []
    writing.feed('"')
    [fire] = writing.fires
    assert fire.arguments == {"title": "nurse"}
    assert fire.written
    assert (fire.claim, fire.token, fire.closed_at_ms) == (1, 1, writing.now)


def test_a_number_is_not_closed_by_its_own_digits() -> None:
    count = SkillManifest(
        name="count", version="1", description="c", owner="test", url="http://127.0.0.1:1/", hosts=("127.0.0.1:1",),
        parameters={"type": "object", "properties": {"to": {"type": "integer"}}, "required": ["to"]},
    )  # fmt: skip
    core = FiringCore(TURN, {"count": count}, {}, dialect="json_list", max_calls=6)
    assert not any(isinstance(one, Fire) for one in core.feed('[{"name": "count", "arguments": {"to": 12', (), 0, T0))
    fires = [one for one in core.feed("3}", (), 1, T0) if isinstance(one, Fire)]
    assert [fire.arguments for fire in fires] == [{"to": 123}]


def test_it_goes_when_every_parameter_of_fire_on_is_closed() -> None:
    writing = Writing()
    writing.feed('[{"name": "route", "arguments": {"finish": "Rome", ')
    assert writing.fires == []
    writing.feed('"start": "Bari"')
    assert writing.fired == [("route", {"finish": "Rome", "start": "Bari"})]


def test_where_everything_is_optional_only_the_close_says_what_was_meant() -> None:
    writing = Writing()
    writing.feed('[{"name": "list_all", "arguments": {')
    assert writing.fires == []
    writing.feed('"kind": "jobs"}')
    writing.feed("}")
    assert writing.fired == [("list_all", {"kind": "jobs"})]
    assert not writing.fires[0].written


def test_calls_are_fired_side_by_side() -> None:
    writing = Writing()
    writing.feed(plan(call("find", title="nurse"), call("weather", city="Rome")))
    assert writing.states() == ["fired", "fired"]


# -- an argument is validated when it closes ------------------------------------------------------------------------


def test_a_wrong_argument_voids_its_call_at_once() -> None:
    writing = Writing()
    writing.feed('[{"name": "weather", "arguments": {"city": 5,')
    [(number, reason, refire)] = writing.voids()
    assert (number, refire) == (0, False)
    assert reason
    writing.feed('"day": "today"}}]')
    writing.finish()
    assert writing.fires == []
    assert not writing.said(CallClosed)


def test_a_wrong_late_argument_voids_what_was_fired_and_stops_it() -> None:
    writing = Writing()
    writing.feed('[{"name": "weather", "arguments": {"city": "Rome", ', '"day": 5, ')
    assert [one.call for one in writing.of(AbortCall)] == [0]
    assert writing.states() == ["voided"]
    assert writing.answer(0) == []
    assert writing.states() == ["voided"]


def test_a_missing_parameter_voids_the_call_when_it_closes() -> None:
    writing = Writing()
    writing.feed(plan(call("route", start="Bari")))
    assert writing.fires == []
    assert len(writing.voids()) == 1


def test_an_unknown_skill_is_voided_by_name() -> None:
    writing = Writing()
    writing.feed('[{"name": "launch_rocket", "arguments": {}}]')
    assert writing.voids() == [(0, "unknown_skill", False)]


def test_calls_beyond_the_limit_are_voided() -> None:
    writing = Writing(max_calls=1)
    writing.feed(plan(call("find", title="nurse"), call("weather", city="Rome")))
    writing.finish()
    assert writing.fired == [("find", {"title": "nurse"})]
    assert writing.voids() == [(1, "too_many_calls", False)]


# -- late arguments -------------------------------------------------------------------------------------------------


def test_a_late_argument_that_equals_the_default_changes_nothing() -> None:
    writing = Writing()
    writing.feed('[{"name": "weather", "arguments": {"city": "Rome", ', '"day": "today"', "}}]")
    writing.finish()
    assert writing.fired == [("weather", {"city": "Rome"})]
    assert writing.voids() == []


def test_a_late_argument_that_changes_the_request_fires_once_more_when_the_call_is_whole() -> None:
    writing = Writing()
    writing.feed('[{"name": "weather", "arguments": {"city": "Rome", ', '"day": "friday", ')
    assert writing.voids() == [(0, "late_argument", True)]
    assert [one.call for one in writing.of(AbortCall)] == [0]
    writing.feed('"units": "metric"')
    assert len(writing.fires) == 1, "the call is not whole: a third firing could follow"
    writing.feed("}}]")
    writing.finish()
    assert [(fire.claim, fire.arguments) for fire in writing.fires] == [
        (1, {"city": "Rome"}), (2, {"city": "Rome", "day": "friday", "units": "metric"}),
    ]  # fmt: skip
    writing.answer(0, "old", claim=1)
    assert writing.states() == ["fired"]
    writing.answer(0, "new", claim=2)
    assert writing.core.calls[0].result == '"new"'


def test_a_refires_lag_counts_from_the_moment_the_call_was_whole() -> None:
    writing = Writing()
    writing.feed('[{"name": "weather", "arguments": {"city": "Rome", ', '"day": "friday"', " ", "}", "}]")
    second = writing.fires[1]
    assert second.closed_at_ms == T0 + 50, "the closing brace is the fifth token"


def test_a_result_that_came_before_the_late_argument_is_dropped() -> None:
    writing = Writing()
    writing.feed('[{"name": "weather", "arguments": {"city": "Rome", ')
    writing.answer(0, "for today")
    writing.feed('"day": "friday"}}]')
    writing.finish()
    assert writing.of(AbortCall) == []
    assert writing.states() == ["fired"]
    writing.answer(0, "for friday", claim=2)
    assert writing.core.calls[0].result == '"for friday"'


def test_a_parameter_written_twice_counts_as_written_last() -> None:
    writing = Writing()
    writing.feed('[{"name": "weather", "arguments": {"city": "Rome", "city": "Oslo"}}]')
    writing.finish()
    assert [fire.arguments for fire in writing.fires] == [{"city": "Rome"}, {"city": "Oslo"}]


def test_a_reversible_call_is_undone_before_it_goes_again() -> None:
    writing = Writing()
    writing.feed('[{"name": "hold_table", "arguments": {"name": "Ada", ')
    writing.answer(0, {"table": 7})
    writing.feed('"note": "window"}}]')
    [undo] = writing.of(Compensate)
    assert (undo.arguments, json.loads(undo.result)) == ({"name": "Ada"}, {"table": 7})
    assert [fire.claim for fire in writing.fires] == [1, 2]
    assert writing.decisions.index(undo) < writing.decisions.index(writing.fires[1])


# -- irreversible calls ---------------------------------------------------------------------------------------------


def test_an_irreversible_call_waits_for_the_committed_plan() -> None:
    writing = Writing()
    writing.feed(plan(call("book", name="Ada")))
    assert writing.fires == []
    writing.finish()
    assert writing.fired == [("book", {"name": "Ada"})]
    said = [one.event if isinstance(one, Publish) else one for one in writing.decisions]
    committed = next(index for index, one in enumerate(said) if isinstance(one, PlanCommitted))
    assert committed < said.index(writing.fires[0])


def test_its_lag_counts_from_the_commit() -> None:
    writing = Writing()
    writing.feed(plan(call("book", name="Ada")), "  ")
    writing.finish()
    assert writing.fires[0].closed_at_ms == writing.now


@pytest.mark.parametrize("reason", ["length", "error", "abort", "filtered"])
def test_without_a_commit_it_is_voided_and_nobody_waits_for_it(reason: str) -> None:
    writing = Writing()
    writing.feed(plan(call("book", name="Ada")))
    writing.finish(reason)
    assert writing.fires == []
    assert writing.said(PlanCommitted) == []
    assert writing.voids() == [(0, "cut_off", False)]
    assert not writing.core.pending


def test_one_that_asks_for_approval_is_asked_for_and_never_fired() -> None:
    writing = Writing()
    writing.feed(plan(call("pay", amount="5")))
    writing.finish()
    assert writing.fires == []
    [asked] = writing.said(ApprovalAsked)
    assert asked.arguments == {"amount": "5"}
    assert asked.expires_at_ms == asked.at_ms + APPROVAL_EXPIRES_MS
    assert not writing.core.pending
