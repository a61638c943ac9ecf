"""Turns while Postgres is away for a moment: they wait for what only it knows, and go on."""

from __future__ import annotations

import pytest

from streams import ids
from streams.errors import PeerUnavailable
from streams.events import InputItem
from streams.events.calling import CallAnswered
from streams.events.intake import TurnSubmit
from streams.events.registering import SkillPointed, SkillRegistered
from streams.events.turn import TurnCompleted, TurnFailed
from tests.support.turn_world import PLAN, T0, World, world

pytestmark = pytest.mark.asyncio


def away(scene: World, *methods: str, times: int = 2) -> dict[str, int]:
    """Lets each of these fail so often. Gives how often each was asked."""
    asked: dict[str, int] = {}

    def failing(name: str) -> None:
        real = getattr(scene.store, name)

        async def method(*arguments: object) -> object:
            asked[name] = asked.get(name, 0) + 1
            if asked[name] <= times:
                raise PeerUnavailable("the database can not be reached", code="database_unavailable")
            return await real(*arguments)

        setattr(scene.store, name, method)

    for name in methods:
        failing(name)
    return asked


async def test_a_turn_waits_for_its_history_and_its_skills() -> None:
    async with world() as scene:
        await scene.owner()
        asked = away(scene, "history", "nearest_skills")
        turn = await scene.submit(scene.conversation(), "Find nurses in Rome, and the weather", agent="recruiter")
        await scene.write(await scene.request("plan"), PLAN)
        await scene.write(await scene.request("answer"), "Anna.")
        facts = await scene.facts(turn)
        assert isinstance(facts[-1], TurnCompleted)
        assert asked["history"] == asked["nearest_skills"] == 3


async def test_a_turn_that_has_no_time_left_says_what_was_missing() -> None:
    async with world() as scene:
        await scene.owner()
        away(scene, "history", times=1_000)
        turn = await scene.submit(scene.conversation(), "Hello", agent="companion", deadline_ms=1_500)
        facts = await scene.facts(turn)
        assert isinstance(facts[-1], TurnFailed)
        assert facts[-1].code == "database_unavailable"


async def test_a_turn_of_an_old_conversation_waits_until_it_is_known_whose_it_is() -> None:
    async with world() as scene:
        await scene.owner()
        asked = away(scene, "conversation")
        conversation = scene.conversation(3)
        turn = ids.turn_id(conversation, T0, b"entropy-00")
        submit = TurnSubmit(
            turn=turn, conversation=conversation, tenant="acme", user="ada", input=(InputItem(text="Go on"),), at_ms=T0
        )
        await scene.bus.publish("turns", 1, conversation, submit, turn, "gateway/test")
        await scene.write(await scene.request("answer"), "Yes.")
        assert isinstance((await scene.facts(turn))[-1], TurnCompleted)
        assert asked["conversation"] == 3


async def test_a_claimed_call_waits_for_the_ledger() -> None:
    """Before it is sent it is claimed, however long that takes; an outcome that cannot be settled harms no turn."""
    async with world() as scene:
        note = scene.skills.manifest("save_note", "text", effect="irreversible", idempotent_key=True)
        for event in (SkillRegistered(manifest=note, at_ms=T0), SkillPointed(name=note.name, version="1", at_ms=T0)):
            await scene.bus.publish("skills", 0, note.name, event, event.TYPE, "service/test")
        await scene.owner()
        asked = away(scene, "claim", "settle")
        turn = await scene.submit(scene.conversation(), "Take a note: call Anna", agent="desk")
        await scene.write(
            await scene.request("plan"), '[{"name": "save_note", "arguments": {"text": "call Anna"}}]'
        )  # fmt: skip
        await scene.write(await scene.request("answer"), "Noted.")
        facts = await scene.facts(turn)
        assert isinstance(facts[-1], TurnCompleted)
        assert [fact.call for fact in facts if isinstance(fact, CallAnswered)] == [0]
        assert len([skill for skill, _, _ in scene.skills.arrivals if skill == "save_note"]) == 1
        assert asked["claim"] >= 3
        assert facts[-1].in_doubt == ()
