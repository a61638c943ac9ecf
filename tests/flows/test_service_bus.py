"""The service SDK on the bus: one suite on FastStream's test broker and on Apache Kafka."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from headstart.service import Caller, Fact, Service
from streams import ids
from streams.codec import decode, identity
from streams.embedded import Broker
from streams.errors import InvalidInput, Misconfigured, PeerTimeout
from streams.events.calling import CallAnswered, CallFailed, CallFired, CallRequested
from streams.events.conversation import FactPublished
from streams.events.intake import CallResult, TurnCancel, TurnOptions, TurnSubmit
from streams.events.turn import TurnCancelled, TurnCompleted
from tests.support.bus_services import AGENT, SECRET, TENANT, Rig, broker_for, rig
from workers.generation.scripted_engine import Rule

pytestmark = pytest.mark.asyncio(loop_scope="module")
KINDS = ("memory", pytest.param("kafka", marks=pytest.mark.kafka))
OPTIONS = TurnOptions(agent=AGENT)
ANSWER = Rule(say="It is done.")


@pytest_asyncio.fixture(params=KINDS, scope="module", loop_scope="module")
async def broker(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Broker | None]:
    """One for all tests; each has a namespace of its own."""
    async with broker_for(request.param, tmp_path_factory.mktemp("kafka")) as made:
        yield made


@pytest_asyncio.fixture(loop_scope="module")
async def scene(request: pytest.FixtureRequest, broker: Broker | None) -> AsyncIterator[Rig]:
    name = re.sub(r"[^a-z_]+", "-", request.node.name.removeprefix("test_"))
    async with rig(broker, name) as made:
        yield made


def plan(*calls: tuple[str, dict[str, Any]]) -> Rule:
    return Rule(step="plan", say=json.dumps([{"name": name, "arguments": given} for name, given in calls]))


def of_type(facts: list[Any], kind: type[Any]) -> list[Any]:
    return [fact for fact in facts if isinstance(fact, kind)]


class Desk:
    """A service on the bus with skills that tell what happened."""

    def __init__(self, api_key: str, name: str = "desk") -> None:
        self.service = Service(name, over="bus", api_key=api_key, tenant=TENANT, signing_key=SECRET)
        self.runs: list[str] = []
        self.started, self.stopped, self.go = asyncio.Event(), asyncio.Event(), asyncio.Event()
        service = self.service

        @service.skill(examples=("find a cook",))
        async def find(title: str, caller: Caller) -> dict[str, str]:
            """Finds somebody."""
            self.runs.append(f"find {title} for {caller.user}@{caller.tenant}")
            return {"name": f"{title} Ada"}

        @service.skill(effect="irreversible", idempotent_key=True)
        async def pay(amount: int) -> dict[str, int]:
            """Pays an amount."""
            self.runs.append(f"pay {amount}")
            if amount < 0:
                raise InvalidInput("an amount is positive", code="bad_amount")
            return {"paid": amount}

        @service.skill(retries=0)
        async def wait(text: str) -> str:
            """Waits until it is told to go on."""
            self.started.set()
            try:
                await self.go.wait()
            except asyncio.CancelledError:
                self.stopped.set()
                raise
            return text


async def test_a_call_over_the_bus_goes_the_whole_way(scene: Rig) -> None:
    desk = Desk(await scene.key("desk"))
    await scene.serve(desk.service)
    await scene.turns("find", "pay")
    await scene.generation([plan(("find", {"title": "cook"}), ("pay", {"amount": 5})), ANSWER])
    publisher = await scene.publisher()
    submitted = await publisher.turn("ada", "Find a cook and pay five", options=OPTIONS)
    ended = await publisher.ended(submitted.turn)
    assert (ended.status, ended.text) == ("completed", "It is done.")
    fired, answered = of_type(list(ended.facts), CallFired), of_type(list(ended.facts), CallAnswered)
    assert sorted(fact.skill.partition("@")[0] for fact in fired) == ["find", "pay"]
    assert {fact.result for fact in answered} == {'{"name":"cook Ada"}', '{"paid":5}'}
    assert sorted(desk.runs) == ["find cook for ada@acme", "pay 5"]
    [first, second] = [record for record in await scene.records("turns") if record.type == CallResult.TYPE]
    assert {first.source, second.source} == {"service/desk"}
    asked = [decode(record) for record in await scene.records("calls")]
    assert all(isinstance(event, CallRequested) and event.tenant == TENANT for event in asked)


async def test_what_a_function_refuses_and_what_breaks_in_it(scene: Rig) -> None:
    desk = Desk(await scene.key("desk"))

    @desk.service.skill(retries=0)
    async def broken(text: str) -> str:
        """Breaks."""
        raise RuntimeError("secret detail")

    await scene.serve(desk.service)
    await scene.turns("pay", "broken")
    await scene.generation([plan(("pay", {"amount": -1}), ("broken", {"text": "x"})), ANSWER])
    publisher = await scene.publisher()
    ended = await publisher.ended((await publisher.turn("ada", "Pay minus one", options=OPTIONS)).turn)
    failed = of_type(list(ended.facts), CallFailed)
    assert sorted(fact.code for fact in failed) == ["skill_failed", "skill_refused"]
    assert not any(fact.in_doubt for fact in failed)
    assert "secret detail" not in str(ended.facts)


async def test_a_cancelled_turn_stops_a_pure_skill(scene: Rig) -> None:
    desk = Desk(await scene.key("desk"))
    await scene.serve(desk.service)
    await scene.turns("wait")
    await scene.generation([plan(("wait", {"text": "x"})), ANSWER])
    publisher = await scene.publisher()
    submitted = await publisher.turn("ada", "Wait", options=OPTIONS)
    await desk.started.wait()
    cancel = TurnCancel(turn=submitted.turn, tenant=TENANT, user="ada", at_ms=1)
    partition = ids.partition_of(submitted.conversation)
    await scene.bus.publish("turns", partition, submitted.conversation, cancel, "cancel", "gateway/test")
    await desk.stopped.wait()
    ended = await publisher.ended(submitted.turn)
    assert isinstance(ended.end, TurnCancelled)
    assert not [record for record in await scene.records("turns") if record.type == CallResult.TYPE]


@pytest.mark.parametrize("result", ["while_nobody_owns_the_turn", "after_it_was_taken_over"])
async def test_the_result_of_a_call_whose_worker_is_gone_is_used(scene: Rig, result: str) -> None:
    """The request was sent once; the worker that takes the turn over sends nothing and takes what comes, or came."""
    desk = Desk(await scene.key("desk"))
    once: list[str] = []

    @desk.service.skill(effect="irreversible")
    async def book(day: str) -> str:
        """Books a day, and would book it twice."""
        once.append(day)
        desk.started.set()
        await desk.go.wait()
        return f"booked {day}"

    await scene.serve(desk.service)
    first = await scene.turns("book", name="turns/first")
    await scene.generation([plan(("book", {"day": "monday"})), ANSWER])
    publisher = await scene.publisher()
    submitted = await publisher.turn("ada", "Book monday", options=OPTIONS)
    await desk.started.wait()
    await first.stop()
    if result == "while_nobody_owns_the_turn":
        desk.go.set()
        await scene.result_of(submitted.turn)
    await scene.turns("book", name="turns/second")
    desk.go.set()
    ended = await publisher.ended(submitted.turn)
    [answered] = of_type(list(ended.facts), CallAnswered)
    assert (ended.status, answered.result) == ("completed", '"booked monday"')
    assert once == ["monday"]
    assert [fact.claim for fact in of_type(list(ended.facts), CallFired)] == [1, 2]
    assert len(await scene.records("calls")) == 1


async def test_facts_reach_their_handlers_by_type_and_in_order(scene: Rig) -> None:
    heard: asyncio.Queue[Fact] = asyncio.Queue()
    service = Service("listener", api_key=await scene.key("listener"), tenant=TENANT)

    @service.on(FactPublished, TurnCompleted)
    async def on_fact(fact: Fact) -> None:
        await heard.put(fact)

    await scene.serve(service)
    await scene.turns()
    await scene.generation([ANSWER])
    publisher = service.publisher
    submitted = await publisher.turn("ada", "Hello", options=TurnOptions(agent="companion"))
    await publisher.ended(submitted.turn)
    for number in range(3):
        await publisher.fact("ada", submitted.conversation, "job.posted", f"Job {number}.", data={"id": number})
    facts = [await heard.get() for _ in range(4)]
    assert isinstance(facts[0].event, TurnCompleted)
    assert facts[0].identity.subject == submitted.turn
    assert [fact.event.data["id"] for fact in facts[1:] if isinstance(fact.event, FactPublished)] == [0, 1, 2]
    assert {fact.conversation for fact in facts} == {submitted.conversation}


async def test_a_handler_that_fails_is_called_again_and_then_its_record_is_set_aside(scene: Rig) -> None:
    tries: list[str] = []
    heard = asyncio.Event()
    service = Service("listener", api_key=await scene.key("listener"), tenant=TENANT)

    @service.on(FactPublished)
    async def on_fact(fact: Fact) -> None:
        assert isinstance(fact.event, FactPublished)
        tries.append(fact.event.kind)
        if fact.event.kind == "bad":
            raise RuntimeError("no")
        heard.set()

    await scene.serve(service)
    await scene.turns()
    await scene.generation([ANSWER])
    publisher = service.publisher
    submitted = await publisher.turn("ada", "Hello", options=TurnOptions(agent="companion"))
    await publisher.ended(submitted.turn)
    await publisher.fact("ada", submitted.conversation, "bad", "x")
    await publisher.fact("ada", submitted.conversation, "good", "x")
    await heard.wait()
    assert tries == ["bad"] * 4 + ["good"]
    [(letter, record)] = await scene.letters(1)
    assert (letter.stage, letter.code, record.type) == ("service/listener", "defect", FactPublished.TYPE)


async def test_a_turn_sent_again_is_the_same_and_is_awaited_by_its_id(scene: Rig) -> None:
    await scene.turns()
    await scene.generation([ANSWER])
    publisher = await scene.publisher()
    first = await publisher.turn("ada", "Hello", event_id="e-1", options=TurnOptions(agent="companion"))
    again = await publisher.turn(
        "ada", "Hello", conversation=first.conversation, event_id="e-1", options=TurnOptions(agent="companion")
    )  # fmt: skip
    assert again.turn == first.turn
    assert (await publisher.ended(first.turn)).text == "It is done."
    assert (await publisher.ended(first.turn)).text == "It is done."
    accepted = [
        record for record in await scene.records("events")
        if record.type.startswith("headstart.turn.accepted") and identity(record).subject == first.turn
    ]  # fmt: skip
    assert len(accepted) == 1


async def test_a_forged_call_is_set_aside_and_not_answered(scene: Rig) -> None:
    """A request that no turns worker signed: whoever may write to `calls` does not speak for a member by that."""
    desk = Desk(await scene.key("desk"))
    await scene.serve(desk.service)
    conversation = ids.conversation_id(1, 1, bytes(10))
    turn = ids.turn_id(conversation, 1, bytes(10))
    forged = CallRequested(
        conversation=conversation, turn=turn, call=0, claim=1, skill="find@1", arguments={"title": "x"}, tenant=TENANT,
        user="eve", key="k", at_ms=1, deadline_at_ms=1 << 50,
    )  # fmt: skip
    await scene.bus.publish("calls", 1, conversation, forged, "forged", "eve", [("ce_subject", b"find@1")])
    [(letter, _)] = await scene.letters(1)
    assert (letter.code, letter.stage, desk.runs) == ("context_missing", "service/desk", [])


async def test_a_service_of_another_name_is_left_to_its_owner(scene: Rig) -> None:
    """Two services read `calls`; each answers its own skills only."""
    desk = Desk(await scene.key("desk"))
    other = Service("other", over="bus", api_key=await scene.key("other"), tenant=TENANT, signing_key=SECRET)
    ran: list[str] = []

    @other.skill()
    async def tell(text: str) -> str:
        """Tells."""
        ran.append(text)
        return text

    await scene.serve(desk.service)
    await scene.serve(other)
    await scene.turns("find", "tell")
    await scene.generation([plan(("find", {"title": "cook"}), ("tell", {"text": "hi"})), ANSWER])
    publisher = await scene.publisher()
    ended = await publisher.ended((await publisher.turn("ada", "Both", options=OPTIONS)).turn)
    assert len(of_type(list(ended.facts), CallAnswered)) == 2
    assert (desk.runs, ran) == (["find cook for ada@acme"], ["hi"])


async def test_without_an_end_the_wait_ends() -> None:
    async with rig() as scene:
        publisher = await scene.publisher()
        submitted = await publisher.turn("ada", "Hello")
        with pytest.raises(PeerTimeout) as caught:
            await publisher.ended(submitted.turn, timeout_s=0.01)
        assert caught.value.code == "turn_not_ended"


async def test_what_a_service_needs_is_said() -> None:
    service = Desk("").service
    with pytest.raises(Misconfigured, match="a bus and a broker"):
        await service.start()
    with pytest.raises(Misconfigured, match="once it has started"):
        _ = service.publisher
    with pytest.raises(Misconfigured, match="not a fact of the log"):
        service.on(TurnSubmit)
