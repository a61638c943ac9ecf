"""Calls that have to do with each other: the same one twice, references, plans that end early or are written anew."""

from __future__ import annotations

from typing import Any

import pytest

from streams.events.calling import ApprovalAsked, CallClosed, CallFired, CallOpened, PlanRepaired
from tests.support.written_plans import FIND, T0, Writing, call, plan
from workers.planning.commands import AbortCall, Compensate, Fire
from workers.planning.inflight import adopt_all, note_fired

# -- the same call twice --------------------------------------------------------------------------------------------


def test_the_same_call_is_asked_once_and_shares_its_outcome() -> None:
    writing = Writing()
    writing.feed(plan(call("find", title="nurse"), call("find", title="nurse"), call("find", title="nurse")))
    writing.finish()
    assert len(writing.fires) == 1
    writing.answer(0, {"people": 3})
    assert [one.result for one in writing.core.calls] == ['{"people": 3}'] * 3
    assert not writing.core.pending


def test_a_failure_is_shared_too() -> None:
    """Otherwise a booking whose outcome is unknown would be sent again by its own repetition."""
    writing = Writing()
    again = call("book", name="$2.people[0]")
    writing.feed(plan(call("book", name="Ada"), call("find", title="boss"), again))
    writing.finish()
    writing.fail(0)
    writing.answer(1, {"people": ["Ada"]})
    assert [name for name, _ in writing.fired] == ["find", "book"]
    assert writing.states() == ["failed", "answered", "failed"]


def test_the_same_call_is_sent_once_also_when_the_first_of_the_two_waited_for_a_result() -> None:
    writing = Writing()
    writing.feed(plan(call("find", title="boss"), call("book", name="$1.people[0]"), call("book", name="Ada")))
    writing.finish()
    assert writing.fired == [("find", {"title": "boss"}), ("book", {"name": "Ada"})]
    writing.answer(0, {"people": ["Ada"]})
    assert len(writing.fires) == 2, "the same effect twice"
    writing.answer(2, {"booked": True})
    assert writing.states() == ["answered"] * 3
    assert writing.core.calls[1].result == '{"booked": true}'


def test_a_person_is_asked_once_for_the_same_call_and_once_for_each_other() -> None:
    writing = Writing()
    writing.feed(plan(call("pay", amount="5"), call("pay", amount="5"), call("pay", amount="6")))
    writing.finish()
    assert [(one.call, one.arguments) for one in writing.said(ApprovalAsked)] == [
        (0, {"amount": "5"}), (2, {"amount": "6"}),
    ]  # fmt: skip
    assert writing.states() == ["approval"] * 3
    assert not writing.core.pending


WRITTEN = plan(call("find", title="boss"), call("weather", city="$1.city"), call("weather", city="Rome"))[:-3]


def sharing() -> Writing:
    """The third call was fired while it is still written; the second turned out to be the same and shares with it."""
    writing = Writing()
    writing.feed(WRITTEN)
    writing.answer(0, {"city": "Rome"})
    assert writing.fired == [("find", {"title": "boss"}), ("weather", {"city": "Rome"})]
    assert [one.adopts for one in writing.core.calls] == [-1, 2, -1]
    return writing


def test_who_shares_an_outcome_goes_by_itself_when_that_outcome_ceases_to_count() -> None:
    writing = sharing()
    writing.feed(', "day": "friday"}}]')
    writing.finish()
    assert [(fire.call, fire.claim, fire.arguments) for fire in writing.fires[1:]] == [
        (2, 1, {"city": "Rome"}), (1, 1, {"city": "Rome"}), (2, 2, {"city": "Rome", "day": "friday"}),
    ]  # fmt: skip
    writing.answer(2, "friday", claim=2)
    writing.answer(1, "today")
    assert [one.result for one in writing.core.calls[1:]] == ['"today"', '"friday"']


def test_a_call_that_is_voided_leaves_nobody_waiting() -> None:
    writing = sharing()
    writing.feed(', "day": 5}}]')
    writing.finish()
    assert writing.states() == ["answered", "fired", "voided"]
    writing.answer(1, "warm")
    assert not writing.core.pending


def test_a_result_that_was_shared_before_its_call_changed_stays() -> None:
    writing = sharing()
    writing.answer(2, "today")
    writing.feed(', "day": "friday"}}]')
    writing.finish()
    writing.answer(2, "friday", claim=2)
    assert [one.result for one in writing.core.calls[1:]] == ['"today"', '"friday"']
    assert len(writing.fires) == 3


def test_what_was_undone_is_shared_with_nobody() -> None:
    writing = Writing()
    hold = plan(call("find", title="boss"), call("hold_table", name="$1.name"), call("hold_table", name="Ada"))
    writing.feed(hold[:-3])
    writing.answer(0, {"name": "Ada"})
    writing.answer(2, {"table": 7})
    writing.feed(', "note": "window"}}]')
    writing.finish()
    assert [(fire.call, fire.claim) for fire in writing.fires[1:]] == [(2, 1), (1, 1), (2, 2)]
    assert [one.call for one in writing.of(Compensate)] == [2]


def test_a_cancel_sends_nothing() -> None:
    writing = Writing()
    writing.feed(plan(call("find", title="nurse"), call("find", title="nurse")))
    writing.take(writing.core.cancel(writing.now))
    assert len(writing.fires) == 1
    assert writing.states() == ["voided", "voided"]


def test_a_booking_that_is_stopped_on_its_way_is_in_doubt_and_a_search_never_is() -> None:
    writing = Writing()
    writing.feed(plan(call("find", title="nurse"), call("book", name="Ada"), call("book", name="$1.people[0]")))
    writing.finish()
    writing.take(writing.core.cancel(writing.now))
    assert [one.in_doubt for one in writing.core.calls] == [False, True, False], "the last one was never sent"


# -- references -----------------------------------------------------------------------------------------------------


def test_a_reference_waits_for_its_result() -> None:
    writing = Writing()
    writing.feed(plan(call("find", title="nurse"), call("weather", city="$1.people[0].city")))
    writing.finish()
    assert writing.fired == [("find", {"title": "nurse"})]
    writing.answer(0, {"people": [{"city": "Rome"}]})
    assert writing.fired[1] == ("weather", {"city": "Rome"})
    assert writing.fires[1].closed_at_ms == writing.now, "it could not go before that result"


@pytest.mark.parametrize("result", [{"people": []}, {"people": [{"city": 7}]}])
def test_a_reference_that_finds_nothing_or_something_wrong_voids_its_call(result: Any) -> None:
    writing = Writing()
    writing.feed(plan(call("find", title="nurse"), call("weather", city="$1.people[0].city")))
    writing.answer(0, result)
    assert writing.states() == ["answered", "voided"]


def test_a_failed_call_takes_those_with_it_that_refer_to_it() -> None:
    writing = Writing()
    writing.feed(
        plan(call("find", title="a"), call("find", title="$1.next"), call("weather", city="$2.city"))
    )  # fmt: skip
    writing.finish()
    writing.fail(0)
    assert writing.states() == ["failed", "voided", "voided"]
    assert not writing.core.pending


def test_a_reference_to_the_clients_own_function_cannot_be_met() -> None:
    writing = Writing()
    writing.feed(plan(call("open_door", door="2"), call("weather", city="$1.city")))
    writing.finish()
    assert writing.states() == ["client", "voided"]


# -- plans that end early, or anew ----------------------------------------------------------------------------------


def test_a_plan_cut_off_fires_nothing_whose_needed_values_were_not_closed() -> None:
    writing = Writing()
    writing.feed('[{"name": "find", "arguments": {"title": "nurse"}}, {"name": "weather", "arguments": {"city": "Ro')
    writing.finish("length")
    assert writing.fired == [("find", {"title": "nurse"})]
    assert writing.voids() == [(1, "cut_off", False)]


def test_a_call_fired_but_never_closed_is_stopped_when_the_plan_is_cut_off() -> None:
    writing = Writing()
    writing.feed('[{"name": "weather", "arguments": {"city": "Rome", "da')
    writing.finish("length")
    assert writing.voids() == [(0, "cut_off", False)]
    assert [one.call for one in writing.of(AbortCall)] == [0]


def test_a_new_plan_adopts_what_the_old_one_fired_and_voids_the_rest() -> None:
    writing = Writing()
    writing.feed(plan(call("find", title="nurse"), call("weather", city="Rome"))[:-1])
    writing.answer(0, {"people": 3})
    writing.core.restart()
    writing.feed(plan(call("find", title="nurse"), call("weather", city="Oslo")))
    writing.finish()
    assert writing.fired == [
        ("find", {"title": "nurse"}), ("weather", {"city": "Rome"}), ("weather", {"city": "Oslo"}),
    ]  # fmt: skip
    assert writing.voids() == [(1, "replanned", False)]
    assert [one.call for one in writing.of(AbortCall)] == [1]
    assert [one.call for one in writing.said(CallOpened)] == [0, 1, 2, 3]
    assert writing.core.calls[2].result == '{"people": 3}'


def test_a_new_plans_references_count_its_own_calls() -> None:
    writing = Writing()
    writing.feed(plan(call("find", title="old"))[:-1])
    writing.core.restart()
    writing.feed(plan(call("find", title="new"), call("weather", city="$1.city")))
    writing.finish()
    writing.answer(1, {"city": "Rome"})
    assert writing.fired[-1] == ("weather", {"city": "Rome"})


def test_cancel_stops_what_flies_and_undoes_what_can_be_undone() -> None:
    writing = Writing()
    writing.feed(plan(call("find", title="nurse"), call("hold_table", name="Ada"), call("book", name="Ada"))[:-1])
    writing.answer(1, {"table": 7})
    writing.take(writing.core.cancel(writing.now))
    assert [one.call for one in writing.of(AbortCall)] == [0]
    assert [one.call for one in writing.of(Compensate)] == [1]
    assert writing.voids() == [(0, "cancelled", False), (2, "cancelled", False)]


def test_what_the_log_says_about_a_claim_gives_way_to_nothing() -> None:
    writing = Writing()
    writing.feed(plan(call("find", title="nurse")))
    sent = CallFired(call=0, skill=FIND.id, arguments={"title": "nurse"}, effect="pure", claim=3, token=0, at_ms=1)
    note_fired(writing.core, sent, T0)
    assert writing.answer(0, "of claim 1", claim=1) == []
    writing.answer(0, "of claim 3", claim=3)
    assert writing.core.calls[0].result == '"of claim 3"'


def fired(claim: int, **arguments: str) -> CallFired:
    return CallFired(call=0, skill="weather@1", arguments=arguments, effect="pure", claim=claim, token=0, at_ms=1)


def test_a_firing_that_was_voided_is_not_taken_for_the_one_that_follows() -> None:
    """The worker died when the log had its first firing and not yet the second."""
    writing = Writing()
    writing.feed(plan(call("weather", city="Rome", day="friday")))
    note_fired(writing.core, fired(1, city="Rome"), T0)
    assert writing.core.calls[0].sent == {"city": "Rome", "day": "friday"}
    assert writing.answer(0, "today", claim=1) == []
    [again] = adopt_all(writing.core, T0)
    assert isinstance(again, Fire)
    assert (again.claim, again.arguments) == (2, {"city": "Rome", "day": "friday"})


def test_a_firing_that_was_voided_is_not_taken_up_while_the_call_is_still_written() -> None:
    writing = Writing()
    writing.feed(plan(call("weather", city="Rome", day="friday"))[:-2])
    note_fired(writing.core, fired(1, city="Rome"), T0)
    assert writing.states() == ["writing"]
    writing.feed("}]")
    assert [fire.claim for fire in writing.fires] == [1, 2]


def test_the_answer_to_a_voided_firing_is_not_taken_for_the_one_it_shares_now() -> None:
    writing = Writing()
    whole = call("weather", city="Rome", day="friday")
    writing.feed(plan(whole, whole))
    assert [(fire.call, fire.claim) for fire in writing.fires] == [(0, 1), (0, 2), (1, 1)]
    assert writing.core.calls[1].adopts == 0
    writing.answer(1, "today", claim=1)
    assert writing.states() == ["fired", "fired"]
    writing.answer(0, "friday", claim=2)
    assert [one.result for one in writing.core.calls] == ['"friday"', '"friday"']


def test_repairs_are_named_and_counted() -> None:
    writing = Writing()
    writing.feed("[{'name': 'find', 'arguments': {'title': 'nurse',}}]")
    writing.finish()
    assert writing.fired == [("find", {"title": "nurse"})]
    rules = {one.rule for one in writing.said(PlanRepaired)}
    assert rules
    [closed] = writing.said(CallClosed)
    assert set(closed.repairs) <= rules


def test_text_beside_the_calls_is_kept() -> None:
    writing = Writing()
    writing.feed(plan(call("find", title="nurse")), " That is all.")
    writing.finish()
    assert "That is all." in writing.core.text
    assert writing.states() == ["fired"]
