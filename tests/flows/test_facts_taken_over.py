"""Facts whose turn changes hands, is stopped, or may not start over: taken in once, whatever happens in between."""

from __future__ import annotations

import pytest

from streams import ids
from streams.events.conversation import FactTaken
from streams.events.turn import TurnAccepted, TurnAdopted, TurnCancelled, TurnCompleted, TurnIncomplete
from tests.support.fact_course import HAPPENED, Course, fact_course, said
from tests.support.turn_world import vanish
from workers.planning.fact_desk import FactDesk
from workers.planning.owner import TurnOwner

EFFECT = '[{"name": "schedule_interview", "arguments": {"person": "Anna"}}]'


async def lose(owner: TurnOwner) -> None:
    """It dies without a word, but has committed whatever it may."""
    assert owner._group is not None
    await owner._commit(owner._group)
    await vanish(owner)


async def once(course: Course) -> FactTaken:
    """What became of the only fact; by now nothing more can become of it."""
    [taken] = await course.taken()
    assert len({fact.fact for fact in course.taken_so_far()}) == len(course.taken_so_far()) == 1
    return taken


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("policy", "moment", "outcome"),
    [
        ("tell", "before_plan", "told"), ("tell", "planning", "told"), ("tell", "call_in_flight", "told"),
        ("tell", "generating", "told"), ("steer", "before_plan", "steered"),
    ],
)  # fmt: skip
async def test_a_fact_that_was_heard_is_taken_in_by_the_next_owner(policy: str, moment: str, outcome: str) -> None:
    async with fact_course() as course:
        scene = course.scene
        first = await scene.owner()
        await course.come_to(moment)
        await course.publish(policy)
        await course.heard(first)
        assert course.taken_so_far() == []
        if moment == "call_in_flight":  # the worker that has the call keeps it, and its result counts
            second = await scene.owner()
            assert 1 in second.partitions
        else:
            await lose(first)
            await scene.owner()
        await scene.facts(course.turn, frozenset({TurnAdopted.TYPE}))
        await course.go_on(moment)
        taken = await once(course)
        assert (taken.policy, taken.moment, taken.outcome) == (policy, moment, outcome)
        assert isinstance((await scene.facts(course.turn))[-1], TurnCompleted)
        if taken.successor:
            await course.follow(taken.successor)
            assert HAPPENED in said(course.asked["next answer"])
        else:
            assert HAPPENED in said(course.asked["answer"])
        await course.replays()


@pytest.mark.asyncio
@pytest.mark.parametrize("policy", ["steer", "open"])
@pytest.mark.parametrize("moment", ["generating", "after_end"])
async def test_a_turn_that_a_fact_opens_is_opened_by_the_next_owner(
    policy: str, moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first owner dies between `fact.taken` and the successor's `turn.accepted`."""
    async with fact_course() as course:
        scene = course.scene
        first = await scene.owner()
        await course.come_to(moment)
        with monkeypatch.context() as never:
            never.setattr(FactDesk, "_open", lambda *_: None)
            await course.publish(policy)
            taken = await once(course)
            if policy == "steer" and moment == "after_end":
                assert taken.outcome == "remembered"
                return
            if policy == "steer":
                assert isinstance((await scene.facts(course.turn))[-1], TurnIncomplete)
            else:
                await course.go_on(moment)
            await course.read_by(first)
            await lose(first)
        await scene.owner()
        follow = await course.follow(taken.successor)
        assert len([fact for fact in follow if isinstance(fact, TurnAccepted)]) == 1
        assert isinstance(follow[-1], TurnCompleted)
        assert (await once(course)).successor == taken.successor
        await course.replays()


@pytest.mark.asyncio
async def test_a_fact_without_a_turn_is_taken_in_by_the_next_owner(monkeypatch: pytest.MonkeyPatch) -> None:
    async with fact_course() as course:
        first = await course.scene.owner()
        await course.come_to("after_end")
        with monkeypatch.context() as never:
            never.setattr(FactDesk, "tell", lambda *_: None)
            await course.publish("open")
            await course.read_by(first)
            await lose(first)
        assert course.taken_so_far() == []
        await course.scene.owner()
        taken = await once(course)
        assert (taken.moment, taken.outcome, taken.agent) == ("after_end", "opened", "recruiter")
        assert isinstance((await course.follow(taken.successor))[-1], TurnCompleted)
        assert len(course.taken_so_far()) == 1


@pytest.mark.asyncio
async def test_a_cancelled_turn_leaves_the_fact_to_memory() -> None:
    async with fact_course() as course:
        owner = await course.scene.owner()
        await course.come_to("planning")
        await course.publish("tell")
        await course.heard(owner)
        await course.cancel()
        assert isinstance((await course.scene.facts(course.turn))[-1], TurnCancelled)
        taken = await once(course)
        assert (taken.policy, taken.moment, taken.outcome) == ("tell", "after_end", "remembered")
        await course.replays()


@pytest.mark.asyncio
async def test_a_cancelled_turn_leaves_the_fact_to_the_turn_that_waits() -> None:
    async with fact_course() as course:
        scene = course.scene
        owner = await scene.owner()
        await course.come_to("planning")
        await course.publish("tell")
        await course.heard(owner)
        waiting = await scene.submit(course.conversation, "And in Rome?", agent="companion")
        await course.queued(owner)
        await course.cancel()
        answer = await scene.request("answer")
        assert answer.turn == waiting
        assert HAPPENED in said(answer)
        await scene.write(answer, "Anna.")
        facts = await scene.facts(waiting)
        taken = await once(course)
        assert [fact for fact in facts if isinstance(fact, FactTaken)] == [taken]
        assert (taken.agent, taken.moment, taken.outcome) == ("companion", "before_plan", "told")
        await course.replays()


@pytest.mark.asyncio
async def test_a_turn_whose_calls_had_an_effect_is_not_started_over() -> None:
    async with fact_course() as course:
        scene = course.scene
        owner = await scene.owner()
        await course.come_to("generating", EFFECT)
        await course.publish("steer")
        await course.heard(owner)
        await course.end_answer()
        taken = await once(course)
        assert (taken.policy, taken.outcome) == ("steer", "told")
        assert isinstance((await scene.facts(course.turn))[-1], TurnCompleted)
        follow = await course.follow(taken.successor)
        assert isinstance(follow[-1], TurnCompleted)
        assert [skill for skill, _, _ in scene.skills.arrivals].count("schedule_interview") == 1
        await course.replays()


@pytest.mark.asyncio
async def test_a_turn_is_steered_by_one_fact_and_told_the_next() -> None:
    async with fact_course() as course:
        scene = course.scene
        owner = await scene.owner()
        await course.come_to("planning")
        await course.publish("tell")
        await course.heard(owner)
        await course.publish("steer", 1)
        told, steered = sorted(await course.taken(2), key=lambda one: one.policy, reverse=True)
        assert (told.outcome, steered.outcome, told.successor) == ("told", "steered", steered.successor)
        plan = await scene.request("plan")
        assert plan.turn == steered.successor
        assert said(plan).count(HAPPENED) == 2
        await course.publish("steer", 2)
        await scene.write(plan, "[]")
        answer = await scene.request("answer")
        assert said(answer).count(HAPPENED) == 3
        await scene.write(answer, "Noted.")
        facts = await scene.facts(steered.successor)
        [late] = [fact for fact in facts if isinstance(fact, FactTaken)]
        assert (late.policy, late.outcome, late.moment, late.successor) == ("steer", "told", "planning", "")
        assert isinstance(facts[-1], TurnCompleted)
        await course.replays()


@pytest.mark.asyncio
async def test_a_fact_that_comes_twice_is_taken_in_once() -> None:
    async with fact_course() as course:
        owner = await course.scene.owner()
        await course.come_to("after_end")
        await course.publish("open")
        taken = await once(course)
        await course.publish("open")  # the same event id
        await course.publish("remember", 1)
        second = (await course.taken(2))[1]
        assert (second.kind, second.outcome) == ("remember.x", "remembered") or second.moment == "before_plan"
        assert isinstance((await course.follow(taken.successor))[-1], TurnCompleted)
        assert [fact.policy for fact in course.taken_so_far()] == ["open", "remember"]
        assert owner.running == 0
        assert ids.partition_of(taken.successor) == 1


@pytest.mark.asyncio
async def test_what_waits_holds_the_position_back(monkeypatch: pytest.MonkeyPatch) -> None:
    async with fact_course() as course:
        owner = await course.scene.owner()
        await course.come_to("after_end")
        monkeypatch.setattr(FactDesk, "tell", lambda *_: None)
        await course.publish("remember")
        await course.read_by(owner)
        partition = owner.partitions[1]
        [due] = partition.view.facts.of(course.conversation)
        assert partition.positions()[1] == due.offset
        assert due.offset < partition.next_offset or due.offset == partition.next_offset - 1


@pytest.mark.asyncio
async def test_a_fact_for_a_member_goes_to_the_conversation_they_used_last() -> None:
    async with fact_course() as course:
        owner = await course.scene.owner()
        await course.publisher.fact("ada", "", "tell.early", HAPPENED)
        assert await course.dead_letter() == "unknown_member"
        await course.come_to("planning")
        await course.stored()
        for _ in range(2):  # sent again it is the same one
            await course.publisher.fact("ada", "", "tell.x", HAPPENED, event_id="once")
        await course.heard(owner)
        await course.publish("remember", 1)
        await course.heard(owner, 2)
        await course.go_on("planning")
        taken = await course.taken(2)
        assert {(one.kind, one.outcome, one.moment) for one in taken} == {
            ("tell.x", "told", "planning"), ("remember.x", "remembered", "planning"),
        }  # fmt: skip
        assert said(course.asked["answer"]).count(HAPPENED) == 1
        assert len(course.taken_so_far()) == 2
        await course.replays()
