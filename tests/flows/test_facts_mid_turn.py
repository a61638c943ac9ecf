"""Facts that services publish for a member while a turn runs: every policy at every moment, its outcome in the log."""

from __future__ import annotations

from typing import NamedTuple

import pytest

from streams.events.conversation import FactTaken
from streams.events.turn import TurnAccepted, TurnCompleted, TurnIncomplete
from tests.support.fact_course import HAPPENED, QUESTION, fact_course, said

MOMENTS = ("before_plan", "planning", "call_in_flight", "generating", "after_end")
POLICIES = ("ignore", "remember", "tell", "steer", "open")


class Cell(NamedTuple):
    """What a fact comes to. successor: a turn of its own tells it, or goes on."""

    outcome: str
    successor: bool = False


EXPECTED: dict[tuple[str, str], Cell] = {
    **{("ignore", moment): Cell("ignored") for moment in MOMENTS},
    **{("remember", moment): Cell("remembered") for moment in MOMENTS},
    ("tell", "before_plan"): Cell("told"),
    ("tell", "planning"): Cell("told"),
    ("tell", "call_in_flight"): Cell("told"),
    ("tell", "generating"): Cell("told", successor=True),
    ("tell", "after_end"): Cell("remembered"),
    ("steer", "before_plan"): Cell("steered"),
    ("steer", "planning"): Cell("steered", successor=True),
    ("steer", "call_in_flight"): Cell("steered", successor=True),
    ("steer", "generating"): Cell("steered", successor=True),
    ("steer", "after_end"): Cell("remembered"),
    **{("open", moment): Cell("opened", successor=True) for moment in MOMENTS},
}


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.asyncio
async def test_every_policy_at_every_moment(policy: str, moment: str) -> None:
    async with fact_course() as course:
        scene, expected = course.scene, EXPECTED[policy, moment]
        owner = await scene.owner()
        await course.come_to(moment)
        await course.publish(policy)
        await course.heard(owner)
        stopped = expected == Cell("steered", successor=True)
        if not stopped:
            await course.go_on(moment)
        [taken] = await course.taken()
        assert (taken.policy, taken.moment, taken.outcome) == (policy, moment, expected.outcome)
        assert (taken.kind, taken.agent, bool(taken.successor)) == (f"{policy}.x", "recruiter", expected.successor)
        facts = await scene.facts(course.turn)
        assert [fact for fact in facts if isinstance(fact, FactTaken)] == ([taken] if moment != "after_end" else [])
        end = facts[-1]
        if stopped:
            assert isinstance(end, TurnIncomplete)
            assert (end.reason, end.successor) == ("steered", taken.successor)
        else:
            assert isinstance(end, TurnCompleted)
            shown = [step for step in ("plan", "answer") if HAPPENED in said(course.asked[step])]
            inside = {"told": ["answer"], "steered": ["plan", "answer"]}
            assert shown == ([] if expected.successor else inside.get(expected.outcome, []))
            assert taken.text == (HAPPENED if shown else "")
        if expected.successor:
            follow = await course.follow(taken.successor)
            accepted = follow[0]
            assert isinstance(accepted, TurnAccepted)
            assert isinstance(follow[-1], TurnCompleted)
            assert accepted.steered_from == (course.turn if stopped else "")
            questions = [item.text for item in accepted.input if item.kind == "message"]
            assert questions == ([QUESTION] if stopped else [])
            assert [item.text for item in accepted.input if item.kind == "fact"] == [HAPPENED]
            assert HAPPENED in said(course.asked["next answer"])
            if "next plan" in course.asked:
                assert HAPPENED in said(course.asked["next plan"])
        assert len(course.taken_so_far()) == 1
        await course.replays()
