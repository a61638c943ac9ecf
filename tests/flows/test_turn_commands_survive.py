"""What a client says of a running turn, when the owner dies before the log has what came of it."""

from __future__ import annotations

import asyncio

import pytest

from streams import ids
from streams.events import InputItem
from streams.events.intake import TurnCancel, TurnSteer
from streams.events.turn import TurnAccepted, TurnCancelled, TurnCompleted, TurnIncomplete
from tests.support.turn_world import T0, World, vanish, world
from workers.planning.intake import Intake
from workers.planning.live import LiveTurn
from workers.planning.owner import GROUP

pytestmark = pytest.mark.asyncio


async def steer(scene: World, turn: str, user: str = "ada") -> str:
    successor = ids.successor_turn_id(turn, "more")
    command = TurnSteer(
        turn=turn, successor=successor, tenant="acme", user=user, input=(InputItem(text="And in Bern?"),), at_ms=T0
    )
    await scene.bus.publish("turns", 1, scene.conversation(), command, f"steer/{turn}/{user}", "gateway/test")
    return successor


async def test_the_next_owner_begins_the_turn_that_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    async with world() as scene:
        owner = await scene.owner()
        turn = await scene.submit(scene.conversation(), "The weather in Rome?", agent="companion")
        await scene.request("answer")
        with monkeypatch.context() as dying:
            dying.setattr(Intake, "open_next", lambda *_: None)
            successor = await steer(scene, turn)
            ended = (await scene.facts(turn))[-1]
            assert isinstance(ended, TurnIncomplete)
            assert ended.successor == successor
            await owner._commit(owner._group)  # type: ignore[arg-type]
            await vanish(owner)
        await scene.owner()
        await scene.write(await scene.request("answer"), "In Bern too.")
        facts = await scene.facts(successor)
        assert isinstance(facts[-1], TurnCompleted)
        [accepted] = [fact for fact in facts if isinstance(fact, TurnAccepted)]
        assert (accepted.steered_from, accepted.options.agent) == (turn, "companion")


async def test_a_steer_is_done_once_its_successor_is_in_the_log() -> None:
    async with world() as scene:
        owner = await scene.owner()
        turn = await scene.submit(scene.conversation(), "The weather in Rome?", agent="companion")
        await scene.request("answer")
        stranger = await steer(scene, turn, "bob")
        successor = await steer(scene, turn)
        assert stranger == successor
        await scene.write(await scene.request("answer"), "In Bern too.")
        assert isinstance((await scene.facts(successor))[-1], TurnCompleted)
        await owner.stop()
        assert scene.broker.commits[(GROUP, "turns", 1)] == 3, "the submit, a stranger's steer and the member's"
        await scene.owner()
        again = await scene.submit(scene.conversation(), "Thanks", agent="companion")
        await scene.write(await scene.request("answer"), "Welcome.")
        assert isinstance((await scene.facts(again))[-1], TurnCompleted)


async def test_a_cancel_is_heard_by_the_next_owner(monkeypatch: pytest.MonkeyPatch) -> None:
    async with world() as scene:
        owner = await scene.owner()
        turn = await scene.submit(scene.conversation(), "The weather in Rome?", agent="companion")
        await scene.request("answer")
        heard = asyncio.Event()
        with monkeypatch.context() as dying:
            dying.setattr(LiveTurn, "deliver", lambda *_: heard.set())
            command = TurnCancel(turn=turn, tenant="acme", user="ada", at_ms=T0)
            await scene.bus.publish("turns", 1, scene.conversation(), command, f"cancel/{turn}", "gateway/test")
            await heard.wait()
            await owner._commit(owner._group)  # type: ignore[arg-type]
            await vanish(owner)
        await scene.owner()
        assert isinstance((await scene.facts(turn))[-1], TurnCancelled)
        again = await scene.submit(scene.conversation(), "Thanks", agent="companion")
        await scene.write(await scene.request("answer"), "Welcome.")
        assert isinstance((await scene.facts(again))[-1], TurnCompleted)
        await scene.owners[-1].stop()
        assert scene.broker.commits[(GROUP, "turns", 1)] == 3, "both submits, and the cancel between them"
