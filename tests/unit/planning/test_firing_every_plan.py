"""What holds for every plan, however it is cut into chunks and whenever results come."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Sequence
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from streams.events.calling import CallArguments, CallClosed, PlanCommitted
from tests.support.written_plans import SKILLS, Writing, call, plan
from workers.planning.commands import Fire, Publish

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


@example([{"name": "hold_table", "arguments": {"name": "Rome", "note": "Rome"}}] * 2, [], 4)
@example([{"name": "weather", "arguments": {"day": "", "units": "", "city": "", "title": "Rome"}}], [69], 1)
@given(PLANS, st.lists(st.integers(0, 2000), max_size=30), st.integers(0, 2**32))
def test_whenever_results_come_the_outcome_is_the_same(
    written: list[dict[str, Any]], cuts: list[int], bits: int
) -> None:
    """Of a plan that is not cut off. Which first firings a late argument made void depends on it only where a call
    waits for another's result: it may be whole by the time it goes."""
    text = plan(*written)
    late = run(text, cuts, "stop", lambda _: False)
    mixed = run(text, cuts, "stop", lambda number: bool(bits >> (number % 32) & 1))
    assert last_word(mixed) == last_word(late)
    if not any(one.after for one in mixed.core.calls):
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
