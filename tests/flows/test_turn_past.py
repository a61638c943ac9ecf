"""What an owner knows of the time before it: Postgres is behind, and the owner before has committed past it."""

from __future__ import annotations

import pytest

from memory.rows import History
from streams import ids
from streams.bus import Place
from streams.events import InputItem
from streams.events.calling import ApprovalAsked
from streams.events.conversation import ConversationOpened
from streams.events.generating import ModelAsked
from streams.events.intake import TurnOptions, TurnSubmit
from streams.events.turn import TurnAccepted, TurnCompleted
from tests.support.turn_world import T0, World, world
from workers.planning.owner import GROUP

pytestmark = pytest.mark.asyncio
MESSAGE = '[{"name": "send_message", "arguments": {"text": "You are invited"}}]'


async def taken_over(scene: World) -> None:
    """The owner stops, having committed everything; nothing of it is stored; another takes over."""
    await scene.owners[-1].stop()
    commits = scene.broker.commits
    assert all(commits[(GROUP, place.topic, place.partition)] > 0 for place in [Place("events", 1), Place("turns", 1)])
    await scene.owner()


async def first_turn(scene: World, event_id: str = "") -> str:
    turn = await scene.submit(scene.conversation(), "My dog is called Rex", event_id, agent="companion")
    await scene.write(await scene.request("answer"), "Hello Rex.")
    await scene.facts(turn)
    return turn


async def again(scene: World, number: int, **options: object) -> str:
    """One more turn of the conversation, as a gateway submits it that knows of the first."""
    conversation = scene.conversation()
    turn = ids.turn_id(conversation, T0 + 1, bytes([number] * 10))
    submit = TurnSubmit(
        turn=turn, conversation=conversation, tenant="acme", user="ada", at_ms=T0,
        **{"input": (InputItem(text="What is my dog called?"),), "options": TurnOptions(agent="companion"), **options},  # type: ignore[arg-type]
    )  # fmt: skip
    await scene.bus.publish("turns", 1, conversation, submit, turn, "gateway/test")
    return turn


async def test_a_turn_sees_the_one_before_it_that_only_the_log_has() -> None:
    async with world() as scene:
        await scene.owner()
        first = await first_turn(scene)
        await taken_over(scene)
        turn = await again(scene, 2)
        await scene.write(await scene.request("answer"), "Rex.")
        facts = await scene.facts(turn)
        assert isinstance(facts[-1], TurnCompleted)
        [asked] = [fact for fact in facts if isinstance(fact, ModelAsked)]
        assert "Hello Rex." in "\n".join(message.content for message in asked.messages)
        [accepted] = [fact for fact in facts if isinstance(fact, TurnAccepted)]
        assert accepted.previous_turn == first
        assert not any(isinstance(fact, ConversationOpened) for fact in facts)


async def test_a_turn_is_whole_of_which_the_owner_read_only_the_end() -> None:
    """Another conversation's turn began while it ran and is still open, so that is where the successor begins to read;
    Postgres has stored some records past there, and waits for the turn's end."""
    async with world() as scene:
        await scene.owner()
        first = await scene.submit(scene.conversation(), "My dog is called Rex", agent="companion")
        request = await scene.request("answer")
        await scene.submit(scene.conversation(1), "And mine Bello", agent="companion")
        await scene.request("answer")
        begun = await scene.bus.reader("events", {1: "earliest"})
        beyond = await begun.end_offset(1)
        await begun.close()
        await scene.write(request, "Hello Rex.")
        assert isinstance((await scene.facts(first))[-1], TurnCompleted)
        await scene.owners[-1].stop()
        assert 0 < scene.broker.commits[(GROUP, "events", 1)] < beyond
        await scene.store.project(1, beyond - 1, [], resume=0)
        await scene.owner()
        turn = await again(scene, 2)
        await scene.write(await scene.request("answer"), "Rex.")
        [asked] = [fact for fact in await scene.facts(turn) if isinstance(fact, ModelAsked)]
        assert "Hello Rex." in "\n".join(message.content for message in asked.messages)


async def test_an_approval_is_found_that_only_the_log_has() -> None:
    async with world() as scene:
        await scene.owner()
        asking = await scene.submit(scene.conversation(), "Send her a message", agent="recruiter")
        await scene.write(await scene.request("plan"), MESSAGE)
        [asked] = [fact for fact in await scene.facts(asking) if isinstance(fact, ApprovalAsked)]
        await taken_over(scene)
        approval = InputItem(kind="approval", role="user", call_id=asked.request, approve=True)
        turn = await again(scene, 2, input=(approval,), options=TurnOptions(agent="recruiter"))
        await scene.write(await scene.request("answer"), "Sent.")
        assert isinstance((await scene.facts(turn))[-1], TurnCompleted)
        assert [skill for skill, _, _ in scene.skills.arrivals] == ["send_message"]


async def test_a_past_that_postgres_stores_while_it_is_asked_is_not_lost() -> None:
    """Its answer to this turn is from before, and another turn's, from after, has let the owner drop what it kept."""
    async with world() as scene:
        owner = await scene.owner()
        await first_turn(scene)
        history = scene.store.history

        async def slow(conversation: str, turns: int) -> History:
            found = await history(conversation, turns)
            owner.partitions[1].view.stored(1 << 40)
            return found

        setattr(scene.store, "history", slow)  # noqa: B010
        turn = await again(scene, 2)
        await scene.write(await scene.request("answer"), "Rex.")
        [asked] = [fact for fact in await scene.facts(turn) if isinstance(fact, ModelAsked)]
        assert "Hello Rex." in "\n".join(message.content for message in asked.messages)
