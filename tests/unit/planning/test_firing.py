"""The rules of firing, one by one, and what holds for every plan however it is cut into chunks."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from streams import ids
from streams.events import Event
from streams.events.calling import (
    ApprovalAsked,
    CallAnswered,
    CallArguments,
    CallClosed,
    CallFailed,
    CallFired,
    CallOpened,
    CallVoided,
    PlanCommitted,
    PlanRepaired,
)
from streams.events.registering import SkillManifest
from workers.planning.commands import AbortCall, Compensate, Fire, Publish
from workers.planning.firing import APPROVAL_EXPIRES_MS, Decision, FiringCore

T0 = 1_700_000_000_000.0
TURN = ids.turn_id(ids.conversation_id(1, int(T0), bytes(10)), int(T0), bytes(10))


def skill(
    name: str, required: Sequence[str] = (), optional: dict[str, Any] | None = None, **more: Any
) -> SkillManifest:
    """Text parameters; optional ones with their defaults (None: no default)."""
    properties: dict[str, Any] = {one: {"type": "string"} for one in required}
    for one, default in (optional or {}).items():
        properties[one] = {"type": "string"} | ({} if default is None else {"default": default})
    parameters = {
        "type": "object", "properties": properties, "required": list(required), "additionalProperties": False,
    }  # fmt: skip
    return SkillManifest(
        name=name, version="1", description=name, parameters=parameters, owner="test",
        url="http://127.0.0.1:1/", hosts=("127.0.0.1:1",), **more,
    )  # fmt: skip


FIND = skill("find", ["title"])
WEATHER = skill("weather", ["city"], {"day": "today", "units": None})
ROUTE = skill("route", ["start", "finish"], {"by": "car"}, fire_on=("start", "finish"))
LIST = skill("list_all", (), {"kind": "notes"})
HOLD = skill("hold_table", ["name"], {"note": None}, effect="reversible", compensate="free_table")
BOOK = skill("book", ["name"], effect="irreversible")
PAY = skill("pay", ["amount"], effect="irreversible", approval=True)
SKILLS = {one.name: one for one in (FIND, WEATHER, ROUTE, LIST, HOLD, BOOK, PAY)}
CLIENT = {"open_door": {"type": "object", "properties": {"door": {"type": "string"}}}}


def call(skill_name: str, /, **arguments: Any) -> dict[str, Any]:
    return {"name": skill_name, "arguments": arguments}


def plan(*calls: dict[str, Any]) -> str:
    return json.dumps(list(calls))


class Writing:
    """A plan being written: feeds a core, token by token, and keeps what it decided."""

    def __init__(self, max_calls: int = 6) -> None:
        self.core = FiringCore(TURN, SKILLS, CLIENT, dialect="json_list", max_calls=max_calls)
        self.decisions: list[Decision] = []
        self.now = T0
        self.token = -1

    def take(self, decisions: list[Decision]) -> list[Decision]:
        self.decisions += decisions
        return decisions

    def feed(self, *pieces: str) -> None:
        for piece in pieces:
            self.now += 10
            self.token += 1
            self.take(self.core.feed(piece, (self.token,), self.token, self.now))

    def finish(self, reason: str = "stop") -> None:
        self.now += 10
        self.take(self.core.finish(reason, self.now))

    def answer(self, number: int, result: Any = None, claim: int = 1) -> list[Decision]:
        self.now += 10
        text = json.dumps({} if result is None else result)
        event = CallAnswered(call=number, result=text, status=200, took_ms=10, at_ms=int(self.now))
        return self.take(self.core.outcome(event, claim, self.now))

    def fail(self, number: int, claim: int = 1) -> list[Decision]:
        self.now += 10
        event = CallFailed(call=number, code="skill_failed", message="no", at_ms=int(self.now))
        return self.take(self.core.outcome(event, claim, self.now))

    @property
    def fires(self) -> list[Fire]:
        return [decision for decision in self.decisions if isinstance(decision, Fire)]

    @property
    def fired(self) -> list[tuple[str, dict[str, Any]]]:
        return [(fire.manifest.name, fire.arguments) for fire in self.fires]

    def said(self, *kinds: type[Event]) -> list[Any]:
        return [one.event for one in self.decisions if isinstance(one, Publish) and isinstance(one.event, kinds)]

    def of(self, kind: type[Decision]) -> list[Any]:
        return [decision for decision in self.decisions if isinstance(decision, kind)]

    def voids(self) -> list[tuple[int, str, bool]]:
        return [(one.call, one.reason, one.refire) for one in self.said(CallVoided)]

    def states(self) -> list[str]:
        return [one.state for one in self.core.calls]


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
    writing.core.note_fired(sent, T0)
    assert writing.answer(0, "of claim 1", claim=1) == []
    writing.answer(0, "of claim 3", claim=3)
    assert writing.core.calls[0].result == '"of claim 3"'


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


# -- for every plan -------------------------------------------------------------------------------------------------

TEXTS = st.sampled_from(["Rome", "Oslo", "today", "", "naïve 🌍", 'a "quoted" \\ word', "$1.city", "$2", "$1.list[0]"])
OTHER = st.one_of(TEXTS, st.integers(0, 3), st.none())
NAMES = st.sampled_from([*SKILLS, "open_door", "unknown"])
PARAMETERS = ("city", "day", "units", "title", "start", "finish", "by", "kind", "name", "note", "amount", "door")


@st.composite
def calls(draw: st.DrawFn) -> dict[str, Any]:
    name = draw(NAMES)
    known = list(SKILLS[name].parameters["properties"]) if name in SKILLS else ["door"]
    likely = draw(st.permutations(known))[: draw(st.integers(max(0, len(known) - 1), len(known)))]
    arguments: dict[str, Any] = {one: draw(st.one_of(TEXTS, TEXTS, TEXTS, OTHER)) for one in likely}
    if draw(st.integers(0, 9)) == 0:
        arguments[draw(st.sampled_from(PARAMETERS))] = draw(OTHER)
    return call(name, **arguments)


def respond(fire: Fire) -> Any:
    """What a skill says to a request: the same to the same, so that a plan's outcome has one meaning."""
    words = sorted(str(value) for value in fire.arguments.values())
    return {"city": "Rome", "list": ["Oslo"], "said": words}


def deliver(writing: Writing, fire: Fire) -> None:
    if fire.arguments.get("title") == "today":
        writing.fail(fire.call, fire.claim)
    else:
        writing.answer(fire.call, respond(fire), fire.claim)


def run(text: str, cuts: Sequence[int], reason: str, at_once: Callable[[int], bool]) -> Writing:
    """The whole life of a plan's calls. at_once: whether the nth firing has its outcome before anything else."""
    writing = Writing()
    waiting: list[Fire] = []
    seen = 0

    def settle() -> None:
        nonlocal seen
        while seen < len(writing.fires):
            fire = writing.fires[seen]
            seen += 1
            if at_once(seen - 1):
                deliver(writing, fire)
            else:
                waiting.append(fire)

    edges = [0, *sorted({cut % (len(text) + 1) for cut in cuts}), len(text)]
    for start, end in itertools.pairwise(edges):
        writing.feed(text[start:end])
        settle()
    writing.finish(reason)
    settle()
    while waiting:
        deliver(writing, waiting.pop(0))
        settle()
    return writing


def last_word(writing: Writing) -> list[tuple[str, str, str, str]]:
    """Each call's end: its skill, what was sent last, how it ended, with what result."""
    return [
        (one.skill, json.dumps(one.sent, sort_keys=True), one.state, one.result)
        for one in writing.core.calls
    ]  # fmt: skip


PLANS = st.lists(calls(), max_size=5)
REASONS = st.sampled_from(["stop", "stop", "stop", "length"])


@given(PLANS, st.lists(st.integers(0, 2000), max_size=30), REASONS, st.data())
def test_however_a_plan_is_cut_into_chunks_the_same_is_fired_with_the_same_outcome(
    written: list[dict[str, Any]], cuts: list[int], reason: str, data: st.DataObject
) -> None:
    text = plan(*written)
    text = text[: data.draw(st.integers(len(text) // 2, len(text)))] if reason == "length" else text
    whole = run(text, (), reason, lambda _: False)
    cut = run(text, cuts, reason, lambda _: False)
    assert sorted(map(str, cut.fired)) == sorted(map(str, whole.fired))
    assert last_word(cut) == last_word(whole)
    single = run(text, range(len(text)), reason, lambda _: False)
    assert sorted(map(str, single.fired)) == sorted(map(str, whole.fired))
    assert last_word(single) == last_word(whole)


@example([{"name": "weather", "arguments": {"day": "", "units": "", "city": "", "title": "Rome"}}], [69], 1)
@given(PLANS, st.lists(st.integers(0, 2000), max_size=30), st.integers(0, 2**32))
def test_whenever_results_come_the_outcome_is_the_same(
    written: list[dict[str, Any]], cuts: list[int], bits: int
) -> None:
    """Of a plan that is not cut off; which first firings a late argument made void depends on nothing else either."""
    text = plan(*written)
    late = run(text, cuts, "stop", lambda _: False)
    mixed = run(text, cuts, "stop", lambda number: bool(bits >> (number % 32) & 1))
    assert last_word(mixed) == last_word(late)
    assert {str(one) for one in mixed.fired} == {str(one) for one in late.fired}


@given(PLANS, st.lists(st.integers(0, 2000), max_size=30), REASONS, st.integers(0, 2**32))
def test_what_holds_for_every_plan(written: list[dict[str, Any]], cuts: list[int], reason: str, bits: int) -> None:
    writing = run(plan(*written), cuts, reason, lambda number: bool(bits >> (number % 32) & 1))
    committed = False
    for decision in writing.decisions:
        if isinstance(decision, Publish) and isinstance(decision.event, PlanCommitted):
            committed = True
        elif isinstance(decision, Fire):
            assert decision.claim <= 2, "more than one refire"
            assert committed or decision.manifest.effect != "irreversible"
            assert not decision.manifest.approval
    assert committed == (reason == "stop")
    claims = [(fire.call, fire.claim) for fire in writing.fires]
    assert len(claims) == len(set(claims))
    final = [json.dumps([fire.manifest.name, fire.arguments], sort_keys=True) for fire in writing.fires]
    irreversible = [
        one for one, fire in zip(final, writing.fires, strict=True) if fire.manifest.effect == "irreversible"
    ]
    assert len(irreversible) == len(set(irreversible)), "the same effect twice"
    assert not writing.core.pending
    assert all(one.state != "writing" for one in writing.core.calls)
    voided = [number for number, _, refire in writing.voids() if not refire]
    assert len(voided) == len(set(voided))
    assert {one.index for one in writing.core.calls if one.state == "voided"} == set(voided)
    pieces = "".join(one.text for one in writing.said(CallArguments) if one.call == 0)
    for closed in writing.said(CallClosed):
        if closed.call == 0:
            assert json.loads(pieces) == closed.arguments
