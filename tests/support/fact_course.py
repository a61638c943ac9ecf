"""A turn brought to a moment, a service's fact published there, and both followed to their ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from headstart.publisher import Publisher
from headstart.replay.compare import compare
from headstart.replay.recorder import Selection, record
from headstart.replay.stub import recorded_setups, replay_stub
from headstart.replay.turns import conversations
from memory.keys import SERVICE_SCOPE
from memory.rows import Change, ConversationRow
from streams.codec import decode, identity
from streams.dead_letters import DeadLetter
from streams.events import Event, Usage
from streams.events.calling import PlanCommitted
from streams.events.conversation import FactPublished, FactTaken
from streams.events.generating import (
    AnswerDelta,
    AnswerFinished,
    AnswerStarted,
    GenerationRequested,
    PlanDelta,
    PlanFinished,
    PlanStarted,
)
from streams.events.intake import TurnCancel
from streams.events.turn import TurnAccepted
from streams.fence import Fence
from streams.topology import DEAD_LETTERS
from streams.writer import StageWriter
from tests.support.turn_world import PLAN, T0, World, world
from workers.planning.owner import TurnOwner

ON_FACT = {f"{policy}.*": policy for policy in ("ignore", "remember", "tell", "steer", "open")}
HAPPENED = "The interview with Anna is off."
QUESTION = "Find nurses in Rome"
DEAD_PARTITIONS = DEAD_LETTERS.partitions or 0


class Course:
    """One turn, brought to a moment and from there to its end, whoever owns it by then."""

    def __init__(self, scene: World) -> None:
        self.scene, self.conversation = scene, scene.conversation()
        self.turn = ""
        self.asked: dict[str, GenerationRequested] = {}
        self._recalls = asyncio.Event()
        self._held = False
        self._answer: StageWriter | None = None

    async def open(self) -> None:
        key = await self.scene.store.create_key("acme", "hiring", "test", (SERVICE_SCOPE,), T0)
        self.publisher = Publisher(self.scene.bus, "acme", key)
        history = self.scene.store.history

        async def held(*arguments: Any) -> Any:
            await self._recalls.wait()
            return await history(*arguments)

        self.scene.store.history = held  # type: ignore[method-assign, assignment]

    async def come_to(self, moment: str, plan_text: str = PLAN) -> None:
        self.turn = await self.scene.submit(self.conversation, QUESTION, agent="recruiter")
        await self.scene.facts(self.turn, frozenset({TurnAccepted.TYPE}))
        if moment == "before_plan":
            return
        self._recalls.set()
        plan = self.asked["plan"] = await self.scene.request("plan")
        if moment == "planning":
            await self.scene.write(plan, PLAN[:20], finish="")
            return
        if moment == "call_in_flight":
            self.scene.skills.hold("get_weather")
            self._held = True
        await self.scene.write(plan, plan_text)
        await self.scene.facts(self.turn, frozenset({PlanCommitted.TYPE}))
        if moment == "call_in_flight":
            return
        await self.say_answer()
        if moment == "after_end":
            await self.end_answer()

    async def publish(self, policy: str, number: int = 0) -> None:
        await self.publisher.fact("ada", self.conversation, f"{policy}.x", HAPPENED, event_id=f"{policy}-{number}")
        await self.records(lambda event: isinstance(event, FactPublished), number + 1)

    async def say_answer(self, epoch: int = 1) -> None:
        asked = self.asked["answer"] = await self.scene.request("answer", epoch)
        self._answer = StageWriter(self.scene.bus, self.conversation, asked.turn, "answer", epoch, "generation/1")
        await self._answer.write(AnswerStarted(model=asked.model, engine="test", at_ms=T0))
        await self._answer.write(AnswerDelta(text="Anna ", index=0, ids=(1,)))
        await self.scene.facts(asked.turn, frozenset({AnswerDelta.TYPE}))

    async def end_answer(self) -> None:
        assert self._answer is not None
        await self._answer.write(AnswerFinished(reason="stop", usage=Usage(prompt=1, completion=1), at_ms=T0))
        await self.scene.facts(self.turn)

    async def go_on(self, moment: str) -> None:
        """From the moment to the end of the turn, unless a fact has ended it."""
        if moment == "before_plan":
            self._recalls.set()
            plan = self.asked["plan"] = await self.scene.request("plan")
            await self.scene.write(plan, PLAN)
        elif moment == "planning":
            await self._rest_of_plan()
        elif moment == "call_in_flight":
            self._release()
        if moment in ("before_plan", "planning", "call_in_flight"):
            await self.say_answer()
        if moment != "after_end":
            await self.end_answer()

    def _release(self) -> None:
        if self._held:
            self.scene.skills.release("get_weather")
            self._held = False

    async def _rest_of_plan(self) -> None:
        asked = self.asked["plan"]
        writer = StageWriter(self.scene.bus, self.conversation, asked.turn, "plan", 2, "generation/2")
        await writer.write(PlanStarted(model=asked.model, engine="test", at_ms=T0))
        await writer.write(PlanDelta(text=PLAN, index=0, ids=(1,)))
        await writer.write(PlanFinished(reason="stop", usage=Usage(prompt=1, completion=1), at_ms=T0))

    async def follow(self, successor: str) -> list[Event]:
        """The turn that a fact opened, to its end."""
        self._release()
        accepted = (await self.scene.facts(successor, frozenset({TurnAccepted.TYPE})))[0]
        assert isinstance(accepted, TurnAccepted)
        if accepted.origin != "tell":
            plan = self.asked["next plan"] = await self.scene.request("plan")
            assert plan.turn == successor
            await self.scene.write(plan, PLAN)
        answer = self.asked["next answer"] = await self.scene.request("answer")
        assert answer.turn == successor
        await self.scene.write(answer, "So it is off.")
        return await self.scene.facts(successor)

    async def records(self, wanted: Callable[[Event], bool], count: int) -> list[Event]:
        """Facts of the conversation that count and are wanted, once there are so many."""
        reader = await self.scene.bus.reader("events", {1: "earliest"})
        found: list[Event] = []
        fence = Fence()
        try:
            while len(found) < count:
                counting = [
                    one for one in await reader.batch() if fence.judge(identity(one), one.source, one.type) == "counts"
                ]
                found += [event for one in counting if wanted(event := decode(one))]
        finally:
            await reader.close()
        return found

    def taken_so_far(self) -> list[FactTaken]:
        events = [decode(one) for one in self.scene.broker.log_of("events", 1).records]
        return [event for event in events if isinstance(event, FactTaken)]

    async def taken(self, count: int = 1) -> list[FactTaken]:
        found = await self.records(lambda event: isinstance(event, FactTaken), count)
        return [event for event in found if isinstance(event, FactTaken)]

    async def heard(self, owner: TurnOwner, count: int = 1) -> None:
        """The turn has heard of so many facts, or they are taken."""
        partition = owner.partitions[1]
        while True:
            live = partition.lives.get(self.turn)
            waiting = len(live.machine.facts.heard) if live is not None and live.machine is not None else 0
            if waiting + len(self.taken_so_far()) >= count:
                return
            await asyncio.sleep(0)

    async def stored(self) -> None:
        """The memory worker has come as far as the conversation's beginning."""
        row = ConversationRow(conversation=self.conversation, tenant="acme", user="ada", created_at_ms=T0)
        assert await self.scene.store.project(1, 0, [Change(0, row)])

    async def dead_letter(self) -> str:
        """The code of the first dead letter."""
        reader = await self.scene.bus.reader(DEAD_LETTERS.name, dict.fromkeys(range(DEAD_PARTITIONS), "earliest"))
        try:
            while not (found := await reader.batch()):
                pass
        finally:
            await reader.close()
        return DeadLetter.of(found[0]).code

    async def cancel(self) -> None:
        cancel = TurnCancel(turn=self.turn, tenant="acme", user="ada", at_ms=T0)
        await self.scene.bus.publish("turns", 1, self.conversation, cancel, f"{self.turn}/cancel", "gateway/test")

    async def queued(self, owner: TurnOwner) -> None:
        """A turn waits behind the one that runs."""
        while self.conversation not in owner.partitions[1].inbox:  # noqa: ASYNC110 - an owner has no event for it
            await asyncio.sleep(0)

    async def read_by(self, owner: TurnOwner) -> None:
        """The owner has read all that stands in the log now."""
        await owner.partitions[1].read_up_to(self.scene.broker.log_of("events", 1).end)

    async def replays(self) -> None:
        """The recording of it all comes out the same."""
        recording = await record(self.scene.bus, Selection(), now_ms=T0, origin="memory")
        again = await replay_stub(recording, recorded_setups(recording, self.scene.setup))
        found = compare(conversations(recording.events, recording.commands), again)
        assert [one.text() for one in found] == []


@asynccontextmanager
async def fact_course() -> AsyncIterator[Course]:
    """A course in a world whose agents do with a fact what the first word of its kind says."""
    async with world() as scene:
        scene.every["on_fact"] = ON_FACT
        made = Course(scene)
        await made.open()
        yield made


def said(request: GenerationRequested) -> str:
    return "\n".join(message.content for message in request.messages)
