"""A turn owner on a bus in memory, with real HTTP skills; generation workers are played by the test."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import msgspec
import pytest

from memory.embed import HashEmbedder
from memory.memory_store import MemoryStore
from streams import ids
from streams.bus import Start
from streams.codec import Record, decode, encode, identity
from streams.events import Event, InputItem, Usage
from streams.events.calling import ApprovalAsked, CallAnswered, CallClosed, CallFired, CallOpened
from streams.events.conversation import ConversationOpened
from streams.events.generating import (
    DELTA,
    FINISHED,
    STARTED,
    AnswerDelta,
    GenerationRequested,
    ModelAsked,
    PlanFinished,
)
from streams.events.intake import TurnCancel, TurnOptions, TurnSubmit
from streams.events.registering import SkillPointed, SkillRegistered
from streams.events.turn import TERMINAL_TYPES, TurnAccepted, TurnAdopted, TurnCancelled, TurnCompleted, TurnFailed
from streams.memory_bus import MemoryBroker, MemoryBus
from streams.models import ModelSpec
from streams.writer import StageWriter
from tests.support.skill_server import SkillServer, skill_server
from workers.agents.catalog import load_all
from workers.planning.effects import Effects
from workers.planning.machine import Setup
from workers.planning.owner import TurnOwner
from workers.routing.router import Router
from workers.skills.executor import HttpExecutor
from workers.skills.registry import SkillRegistry

pytestmark = pytest.mark.asyncio
T0 = 1_700_000_000_000
PLAN = (
    '[{"name": "search_people", "arguments": {"title": "nurse"}}, '
    '{"name": "get_weather", "arguments": {"city": "Rome"}}]'
)


class World:
    """One log, one store, one skill server, and owners as a test needs them."""

    def __init__(self, skills: SkillServer) -> None:
        self.broker = MemoryBroker(partitions=2)
        self.store = MemoryStore(dimensions=HashEmbedder().dimensions)
        self.skills = skills
        self.bus = MemoryBus(self.broker)
        self.owners: list[TurnOwner] = []
        self._closing: list[Callable[[], object]] = []
        self._seen: list[Record] = []
        self._generation_at: dict[int, int] = {}

    async def open(self) -> None:
        await self.bus.start()
        self.bus_epoch = self.bus.epoch
        self.store.follow(self.bus.epoch)
        message = {"effect": "irreversible", "approval": True}
        manifests = (
            self.skills.manifest("search_people", "title"),
            self.skills.manifest("get_weather", "city"),
            self.skills.manifest("send_message", "text", **message),
        )
        for manifest in manifests:
            registered, pointed = (
                SkillRegistered(manifest=manifest, at_ms=T0),
                SkillPointed(name=manifest.name, version="1", at_ms=T0),
            )
            await self.bus.publish("skills", 0, manifest.id, registered, manifest.id, "service/test")
            await self.bus.publish("skills", 0, manifest.name, pointed, manifest.name, "service/test")

    async def owner(self) -> TurnOwner:
        bus = MemoryBus(self.broker)
        await bus.start()
        embedder = HashEmbedder()
        every = {"skill_ratio": 0.0}  # whatever is registered is offered: likeness is not what is tested here
        agents = {name: msgspec.structs.replace(agent, **every) for name, agent in load_all().items()}
        vectors = {name: await embedder.embed(agent.utterances) for name, agent in agents.items() if agent.utterances}
        registry = SkillRegistry(bus, self.store, embedder)
        await registry.start()
        executor = HttpExecutor(signing_key=None, allow_private=True)
        number = len(self.owners)
        setup = Setup(agents=agents, models={"default": ModelSpec(engine="scripted")})

        def effects(owner: TurnOwner) -> Effects:
            return Effects(
                bus=bus, store=self.store, embedder=embedder, router=Router(vectors), registry=registry,
                executor=executor, past=owner, writer=f"turns/{number}", clock_ms=owner.clock_ms,
            )  # fmt: skip

        owner = TurnOwner(
            bus, self.store, setup, registry, effects, place=lambda r: ids.partition_of(r.conversation),
            writer=f"turns/{number}",
        )  # fmt: skip
        await owner.start()
        self.owners.append(owner)
        self._closing += [owner.stop, registry.close, executor.close, bus.stop]
        return owner

    async def close(self) -> None:
        for close in self._closing:
            await close()  # type: ignore[misc]

    def conversation(self, number: int = 0, partition: int = 1) -> str:
        return ids.conversation_id(partition, T0, bytes([number] * 10))

    async def submit(self, conversation: str, text: str, event_id: str = "", **options: object) -> str:
        number = len(self._seen) + 1
        turn = (
            ids.keyed_turn_id(conversation, "ada", event_id)
            if event_id
            else ids.turn_id(conversation, T0, number.to_bytes(10, "big"))
        )
        submit = TurnSubmit(
            turn=turn, conversation=conversation, tenant="acme", user="ada", input=(InputItem(text=text),), at_ms=T0,
            opens=True, event_id=event_id, options=TurnOptions(**options),  # type: ignore[arg-type]
        )  # fmt: skip
        await self.bus.publish("turns", ids.partition_of(conversation), conversation, submit, turn, "gateway/test")
        return turn

    async def request(self, step: str, epoch: int = 1) -> GenerationRequested:
        """The next request for a step, from whichever partition."""
        start: dict[int, Start] = {p: self._generation_at.get(p, "earliest") for p in range(2)}
        reader = await self.bus.reader("generations", start)
        try:
            while True:
                for record in await reader.batch():
                    event = decode(record)
                    self._generation_at[record.partition] = record.offset + 1
                    if isinstance(event, GenerationRequested) and event.step == step and event.epoch == epoch:
                        return event
        finally:
            await reader.close()

    async def write(
        self, request: GenerationRequested, *pieces: str, finish: str = "stop", name: str = "generation/1"
    ) -> None:
        writer = StageWriter(self.bus, request.conversation, request.turn, request.step, request.epoch, name)
        started = STARTED[request.step](model=request.model, engine="test", at_ms=T0)
        await writer.write(started)
        for index, piece in enumerate(pieces):
            await writer.write(DELTA[request.step](text=piece, index=index, ids=(index,)))
        if finish:
            await writer.write(FINISHED[request.step](reason=finish, usage=Usage(prompt=1, completion=1), at_ms=T0))

    async def facts(self, turn: str, until: frozenset[str] = TERMINAL_TYPES) -> list[Event]:
        """The turn's facts in log order, up to the first of the given types."""
        reader = await self.bus.reader("events", {ids.partition_of(turn): "earliest"})
        found: list[Event] = []
        try:
            while True:
                for record in await reader.batch():
                    if identity(record).subject == turn:
                        found.append(decode(record))
                        if record.type in until:
                            return found
        finally:
            await reader.close()


@asynccontextmanager
async def world() -> AsyncIterator[World]:
    async with skill_server() as skills:
        scene = World(skills)
        await scene.open()
        try:
            async with asyncio.timeout(30):
                yield scene
        finally:
            await scene.close()


async def test_one_turn_goes_the_whole_way() -> None:
    async with world() as scene:
        await scene.owner()
        turn = await scene.submit(scene.conversation(), "Find nurses in Rome, and the weather", agent="recruiter")
        await scene.write(await scene.request("plan"), PLAN[:60], PLAN[60:])
        await scene.write(await scene.request("answer"), "Anna is ", "a nurse.")
        facts = await scene.facts(turn)
        kinds = [type(fact) for fact in facts]
        assert kinds[:2] == [TurnAccepted, ConversationOpened]
        assert kinds[-1] is TurnCompleted
        assert sorted(skill for skill, _, _ in scene.skills.arrivals) == ["get_weather", "search_people"]
        assert kinds.count(CallAnswered) == 2
        asked = [fact for fact in facts if isinstance(fact, ModelAsked)]
        assert "search_people: skill search_people, title nurse" in asked[1].messages[-1].content
        schema = asked[0].sampling.json_schema
        assert schema is not None
        assert "search_people" in str(schema)
        assert "delete_note" not in str(schema)  # the model can not name what was not discovered


async def test_a_call_is_on_the_wire_before_the_plan_ends() -> None:
    async with world() as scene:
        await scene.owner()
        turn = await scene.submit(scene.conversation(), "Find nurses in Rome", agent="recruiter")
        request = await scene.request("plan")
        await scene.write(request, PLAN[: PLAN.index("}}") + 1], finish="")
        await scene.skills.arrived.wait()  # the plan is not finished: nobody has written its end
        facts = await scene.facts(turn, frozenset({CallFired.TYPE}))
        assert not any(isinstance(fact, CallClosed | PlanFinished) for fact in facts)
        assert any(isinstance(fact, CallOpened) for fact in facts)
        assert [fact.written for fact in facts if isinstance(fact, CallFired)] == [True]


async def test_the_second_turn_waits_and_sees_the_first() -> None:
    async with world() as scene:
        await scene.owner()
        conversation = scene.conversation()
        first = await scene.submit(conversation, "My name is Ada", agent="companion")
        second = await scene.submit(conversation, "What is my name?", agent="companion", event_id="two")
        await scene.write(await scene.request("answer"), "Hello Ada")
        await scene.facts(first)
        request = await scene.request("answer")
        assert request.turn == second
        said = [(message.role, message.content) for message in request.messages]
        assert ("user", "My name is Ada") in said
        assert ("assistant", "Hello Ada") in said
        await scene.write(request, "Ada.")
        facts = await scene.facts(second)
        accepted = facts[0]
        assert isinstance(accepted, TurnAccepted)
        assert accepted.previous_turn == first
        assert accepted.previous_offset >= 0


async def test_a_submit_sent_twice_is_one_turn() -> None:
    async with world() as scene:
        await scene.owner()
        conversation = scene.conversation()
        turn = await scene.submit(conversation, "Hello", event_id="e1", agent="companion")
        again = await scene.submit(conversation, "Hello", event_id="e1", agent="companion")
        assert again == turn
        await scene.write(await scene.request("answer"), "Hi")
        await scene.facts(turn)
        after = await scene.submit(conversation, "Bye", event_id="e2", agent="companion")
        assert (await scene.request("answer")).turn == after


async def test_busy_conversations_can_refuse() -> None:
    async with world() as scene:
        await scene.owner()
        conversation = scene.conversation()
        await scene.submit(conversation, "Hello", event_id="a", agent="companion")
        await scene.request("answer")
        refused = await scene.submit(conversation, "Hello?", event_id="b", agent="companion", on_busy="reject")
        end = (await scene.facts(refused))[-1]
        assert isinstance(end, TurnFailed)
        assert end.code == "conversation_busy"


async def test_cancel_ends_the_turn_and_keeps_what_was_delivered() -> None:
    async with world() as scene:
        await scene.owner()
        conversation = scene.conversation()
        turn = await scene.submit(conversation, "Tell me a story", agent="companion")
        await scene.write(await scene.request("answer"), "Once upon", finish="")
        cancel = TurnCancel(turn=turn, tenant="acme", user="ada", at_ms=T0)
        await scene.bus.publish("turns", 1, conversation, cancel, "c1", "gateway/test")
        facts = await scene.facts(turn)
        assert isinstance(facts[-1], TurnCancelled)
        assert "".join(fact.text for fact in facts if isinstance(fact, AnswerDelta)) == "Once upon"


async def test_another_users_cancel_is_a_dead_letter_and_changes_nothing() -> None:
    async with world() as scene:
        await scene.owner()
        conversation = scene.conversation()
        turn = await scene.submit(conversation, "Tell me a story", agent="companion")
        request = await scene.request("answer")
        stranger = TurnCancel(turn=turn, tenant="acme", user="eve", at_ms=T0)
        await scene.bus.publish("turns", 1, conversation, stranger, "c1", "gateway/test")
        reader = await scene.bus.reader("dead_letters", dict.fromkeys(range(4), "earliest"))
        records: list[Record] = []
        while not records:
            records = await reader.batch()
        await reader.close()
        await scene.write(request, "The end")
        assert isinstance((await scene.facts(turn))[-1], TurnCompleted)


async def test_a_submit_of_an_unknown_version_fails_its_turn_and_nothing_else() -> None:
    async with world() as scene:
        await scene.owner()
        conversation = scene.conversation()
        turn = ids.turn_id(conversation, T0, bytes(10))
        submit = TurnSubmit(turn=turn, conversation=conversation, tenant="acme", user="ada", input=(), at_ms=T0)
        headers, value = encode(submit, turn, "gateway/test")
        unknown = [(name, b"headstart.turn.submit.v9" if name == "ce_type" else header) for name, header in headers]
        await (await scene.bus.post_raw("turns", 1, conversation.encode(), value, unknown))
        end = (await scene.facts(turn))[-1]
        assert isinstance(end, TurnFailed)
        assert end.code == "unknown_version"
        after = await scene.submit(scene.conversation(7), "Hello", agent="companion")
        await scene.write(await scene.request("answer"), "Hi")
        assert isinstance((await scene.facts(after))[-1], TurnCompleted)


async def test_a_submit_on_a_wrong_partition_is_forwarded() -> None:
    async with world() as scene:
        owner = await scene.owner()
        conversation = scene.conversation(partition=1)
        turn = ids.turn_id(conversation, T0, bytes(10))
        submit = TurnSubmit(
            turn=turn, conversation=conversation, tenant="acme", user="ada", input=(InputItem(text="Hello"),),
            at_ms=T0, opens=True, options=TurnOptions(agent="companion"),
        )  # fmt: skip
        await scene.bus.publish("turns", 0, conversation, submit, turn, "gateway/test")
        await scene.write(await scene.request("answer"), "Hi")
        assert isinstance((await scene.facts(turn))[-1], TurnCompleted)
        assert owner.forwarded == 1


@pytest.mark.parametrize("at", ["before_plan", "mid_plan", "calls_in_flight", "mid_answer"])
async def test_a_second_worker_takes_over_and_ends_the_turn(at: str) -> None:
    """The first owner vanishes without a word; the second rebuilds the turn from the log alone."""
    async with world() as scene:
        first = await scene.owner()
        turn = await scene.submit(scene.conversation(), "Find nurses in Rome", agent="recruiter")
        plan = await scene.request("plan")
        answer = None
        if at == "mid_plan":
            await scene.write(plan, PLAN[:70], finish="")
            await scene.facts(turn, frozenset({CallAnswered.TYPE}))
        elif at == "calls_in_flight":
            scene.skills.hold("get_weather")
            await scene.write(plan, PLAN)
            await scene.facts(turn, frozenset({CallAnswered.TYPE}))
        elif at == "mid_answer":
            await scene.write(plan, PLAN)
            answer = await scene.request("answer")
            await scene.write(answer, "Anna ", finish="")
        await vanish(first)
        if at == "calls_in_flight":
            scene.skills.release("get_weather")
        await scene.owner()
        await scene.facts(turn, frozenset({TurnAdopted.TYPE}))
        if at == "before_plan":
            plan = await scene.request("plan", 2)
            await scene.write(plan, PLAN)
        elif at == "mid_plan":
            plan = await scene.request("plan", 2)  # its lease is over: the plan is written anew
            await scene.write(plan, PLAN, name="generation/2")
        if at == "mid_answer":
            answer = await scene.request("answer", 2)
            assert answer.resume
        else:
            answer = await scene.request("answer")
        await scene.write(answer, "is a nurse.", name="generation/2")
        facts = await scene.facts(turn)
        assert isinstance(facts[-1], TurnCompleted)
        counted = [skill for skill, _, _ in scene.skills.arrivals if skill == "search_people"]
        assert len(counted) == 1  # its result was in the log: it is adopted, not asked again


@pytest.mark.parametrize("approve", [True, False])
async def test_an_irreversible_call_waits_for_a_person(approve: bool) -> None:
    async with world() as scene:
        await scene.owner()
        conversation = scene.conversation()
        asking = await scene.submit(conversation, "Tell Lena that I am late", agent="recruiter")
        await scene.write(await scene.request("plan"), '[{"name": "send_message", "arguments": {"text": "late"}}]')
        facts = await scene.facts(asking)
        [asked] = [fact for fact in facts if isinstance(fact, ApprovalAsked)]
        end = facts[-1]
        assert isinstance(end, TurnCompleted)
        assert end.awaiting == "approval"
        assert scene.skills.arrivals == []
        turn = ids.turn_id(conversation, T0 + 5, bytes(10))
        answer = InputItem(kind="approval", call_id=asked.request, approve=approve)
        submit = TurnSubmit(
            turn=turn, conversation=conversation, tenant="acme", user="ada", input=(answer,), at_ms=T0,
            options=TurnOptions(agent="recruiter"),
        )  # fmt: skip
        await scene.bus.publish("turns", 1, conversation, submit, turn, "gateway/test")
        await scene.write(await scene.request("answer"), "Done.")
        facts = await scene.facts(turn)
        assert isinstance(facts[-1], TurnCompleted)
        sent = [(skill, arguments) for skill, arguments, _ in scene.skills.arrivals]
        assert sent == ([("send_message", {"text": "late"})] if approve else [])


async def test_an_approval_of_nothing_fails_its_turn() -> None:
    async with world() as scene:
        await scene.owner()
        conversation = scene.conversation()
        turn = ids.turn_id(conversation, T0 + 5, bytes(10))
        item = InputItem(kind="approval", call_id=ids.item_id("mcpr", turn, 0), approve=True)
        submit = TurnSubmit(
            turn=turn, conversation=conversation, tenant="acme", user="ada", input=(item,), at_ms=T0, opens=True,
        )  # fmt: skip
        await scene.bus.publish("turns", 1, conversation, submit, turn, "gateway/test")
        end = (await scene.facts(turn))[-1]
        assert isinstance(end, TurnFailed)
        assert end.code == "approval_unknown"


async def vanish(owner: TurnOwner) -> None:
    """As kill -9 would: no commit, no goodbye; the group notices."""
    for task in owner._tasks:
        task.cancel()
    for partition in owner.partitions.values():
        for live in partition.lives.values():
            live.abandon(calls=True)
    group = owner._group
    owner._group = None
    assert group is not None
    await group.close()


async def test_a_call_outlives_the_partition_and_its_result_counts() -> None:
    """The partition moves while a long call runs: the worker that fired it keeps it, the new owner uses its result."""
    async with world() as scene:
        await scene.owner()
        scene.skills.hold("get_weather")
        turn = await scene.submit(scene.conversation(), "Weather in Rome?", agent="recruiter")
        await scene.write(await scene.request("plan"), '[{"name": "get_weather", "arguments": {"city": "Rome"}}]')
        await scene.facts(turn, frozenset({CallFired.TYPE}))
        second = await scene.owner()  # partition 1 of 2 goes to the second member
        assert 1 in second.partitions
        await scene.facts(turn, frozenset({TurnAdopted.TYPE}))
        scene.skills.release("get_weather")
        answer = await scene.request("answer")
        assert "Rome" in answer.messages[-1].content
        await scene.write(answer, "Sunny.")
        facts = await scene.facts(turn)
        assert [fact.claim for fact in facts if isinstance(fact, CallFired)] == [1]
        assert len(scene.skills.arrivals) == 1
        assert isinstance(facts[-1], TurnCompleted)
