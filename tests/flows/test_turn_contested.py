"""A turn owner that was away without knowing it: another had its partition meanwhile, and gave it back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from streams import ids
from streams.codec import Record, identity
from streams.errors import PeerUnavailable
from streams.events import InputItem
from streams.events.calling import CallFired
from streams.events.conversation import ConversationOpened
from streams.events.generating import AnswerDelta
from streams.events.turn import TurnAccepted, TurnAdopted, TurnCompleted
from streams.writer import StageWriter
from tests.support.turn_world import PLAN, T0, World, world
from workers.planning.holding import HeldPartition
from workers.planning.owner import TurnOwner

pytestmark = pytest.mark.asyncio
OTHER = "turns/other"


async def adopters(scene: World, turn: str) -> list[tuple[str, int]]:
    """Who adopted the turn, and with which epoch, in log order."""
    reader = await scene.bus.reader("events", {ids.partition_of(turn): "earliest"})
    try:
        end, found = await reader.end_offset(ids.partition_of(turn)), list[Record]()
        while reader.position(ids.partition_of(turn)) < end:
            found += await reader.batch()
    finally:
        await reader.close()
    mine = [record for record in found if record.type == TurnAdopted.TYPE and identity(record).subject == turn]
    return [(record.source, identity(record).epoch) for record in mine]


async def test_a_turn_that_another_adopted_and_left_is_adopted_back() -> None:
    async with world() as scene:
        await scene.owner()
        turn = await scene.submit(scene.conversation(), "Find nurses in Rome, and the weather", agent="recruiter")
        request = await scene.request("plan")
        other = StageWriter(scene.bus, scene.conversation(), turn, "turn", 2, OTHER)
        await other.write(TurnAdopted(at_ms=T0))
        await scene.write(request, PLAN)
        await scene.write(await scene.request("answer"), "Anna.")
        facts = await scene.facts(turn)
        assert isinstance(facts[-1], TurnCompleted)
        assert await adopters(scene, turn) == [(OTHER, 2), ("turns/0", 3)]


async def test_a_turn_that_another_accepted_and_left_is_adopted() -> None:
    async with world() as scene:
        await scene.owner()
        known = await scene.submit(scene.conversation(), "Hello", agent="companion")
        await scene.write(await scene.request("answer"), "Hello.")
        assert isinstance((await scene.facts(known))[-1], TurnCompleted)
        conversation = scene.conversation(5)
        turn = ids.turn_id(conversation, T0, b"entropy-00")
        other = StageWriter(scene.bus, conversation, turn, "turn", 1, OTHER)
        accepted = TurnAccepted(
            turn=turn, conversation=conversation, tenant="acme", user="ada", input=(InputItem(text="Hello?"),),
            at_ms=T0, deadline_at_ms=(1 << 42),
        )  # fmt: skip
        await other.write(accepted)
        await other.write(ConversationOpened(conversation=conversation, tenant="acme", user="ada", at_ms=T0))
        await scene.write(await scene.request("answer"), "Hello!")
        assert isinstance((await scene.facts(turn))[-1], TurnCompleted)
        assert await adopters(scene, turn) == [("turns/0", 2)]


async def test_a_call_of_its_own_earlier_life_is_not_sent_again() -> None:
    async with world() as scene:
        await scene.owner()
        scene.skills.hold("get_weather")
        turn = await scene.submit(scene.conversation(), "The weather in Rome", agent="desk")
        await scene.write(
            await scene.request("plan"), '[{"name": "get_weather", "arguments": {"city": "Rome"}}]'
        )  # fmt: skip
        await scene.facts(turn, until=frozenset({CallFired.TYPE}))
        other = StageWriter(scene.bus, scene.conversation(), turn, "turn", 2, OTHER)
        await other.write(TurnAdopted(at_ms=T0))
        while len(await adopters(scene, turn)) < 2:
            continue
        scene.skills.release("get_weather")
        await scene.write(await scene.request("answer"), "Mild.")
        facts = await scene.facts(turn)
        assert isinstance(facts[-1], TurnCompleted)
        assert [fact.claim for fact in facts if isinstance(fact, CallFired)] == [1]
        assert [skill for skill, _, _ in scene.skills.arrivals] == ["get_weather"]


class Outage:
    """The owner's way to the bus, which fails what is posted while it is shut, as a producer does that gave up."""

    def __init__(self, owner: TurnOwner) -> None:
        self.shut = False
        self.failed = 0
        self._post_raw = owner.bus.post_raw
        setattr(owner.bus, "post_raw", self.post_raw)  # noqa: B010

    async def post_raw(self, *arguments: Any) -> asyncio.Future[int]:
        if not self.shut:
            return await self._post_raw(*arguments)
        self.failed += 1
        given: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        given.set_exception(PeerUnavailable("the broker did not take a record"))
        given.exception()
        return given


@pytest.mark.parametrize("lost", ["accepted", "request", "plan", "end"])
async def test_what_could_not_be_written_is_done_again_from_the_log(lost: str) -> None:
    """The bus is away for longer than a producer tries, and takes this fact of the turn, and what follows, with it."""
    async with world() as scene:
        outage = Outage(await scene.owner())
        outage.shut = lost == "accepted"
        turn = await scene.submit(scene.conversation(), "Find nurses in Rome, and the weather", agent="recruiter")
        if lost == "accepted":
            await once(lambda: outage.failed > 0)
            outage.shut = False
        if lost == "request":
            await scene.facts(turn, until=frozenset({ConversationOpened.TYPE}))
            outage.shut = True
            await once(lambda: outage.failed > 0)
            outage.shut = False
        request = await scene.request("plan")
        if lost == "plan":
            outage.shut = True
        await scene.write(request, PLAN)
        if lost == "plan":
            await once(lambda: outage.failed > 0)
            outage.shut = False
        # The successor finds the calls answered and the answer not asked for: it asks as for one nobody took up.
        answer = await scene.request("answer", 2 if lost == "plan" else 1)
        if lost == "end":
            outage.shut = True
        await scene.write(answer, "Anna.")
        if lost == "end":
            await once(lambda: outage.failed > 0)
            outage.shut = False
        facts = await scene.facts(turn)
        assert isinstance(facts[-1], TurnCompleted)
        assert "".join(fact.text for fact in facts if isinstance(fact, AnswerDelta)) == "Anna."
        if lost != "accepted":
            assert ("turns/0", 2) in await adopters(scene, turn)


async def test_what_was_sent_and_not_written_down_is_in_doubt_for_its_own_worker_too() -> None:
    async with world() as scene:
        outage = Outage(await scene.owner())
        scene.skills.hold("schedule_interview")
        turn = await scene.submit(scene.conversation(), "Schedule an interview", agent="recruiter")
        await scene.write(
            await scene.request("plan"), '[{"name": "schedule_interview", "arguments": {"person": "Ada"}}]'
        )  # fmt: skip
        await once(lambda: bool(scene.skills.arrivals))
        outage.shut = True
        scene.skills.release("schedule_interview")
        await once(lambda: outage.failed > 1)
        outage.shut = False
        await scene.write(await scene.request("answer", 1), "It may be fixed.")
        facts = await scene.facts(turn)
        assert isinstance(facts[-1], TurnCompleted)
        assert facts[-1].in_doubt == (0,)
        assert [skill for skill, _, _ in scene.skills.arrivals] == ["schedule_interview"]


async def once(holds: Callable[[], bool]) -> None:
    while not holds():  # noqa: ASYNC110 - what it looks at has no event
        await asyncio.sleep(0)


async def test_events_are_committed_no_further_than_the_oldest_command_in_hand() -> None:
    """Whatever was accepted after that command was read must be known to who reads it again."""
    partition = HeldPartition(0, 0)
    partition.caught_up, partition.next_offset = True, 100
    assert partition.positions() == (None, 100)
    assert partition.begin(9)
    partition.next_offset = 120
    assert partition.begin(10)
    partition.commands.finish(10)
    partition.next_offset = 150
    assert partition.positions() == (9, 100)
    partition.commands.finish(9)
    assert partition.positions() == (11, 150)
    assert not partition.begin(10)
    partition.caught_up = False
    assert partition.positions() == (11, None)
