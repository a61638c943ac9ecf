"""What a service may not say is refused, named and counted, and nothing else is disturbed."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
import pytest_asyncio

from headstart.publisher import Publisher, Submitted
from headstart.service import Service
from streams import ids
from streams.bus import Headers
from streams.codec import Record, decode, encode
from streams.errors import InvalidInput
from streams.events import Event
from streams.events.calling import CallAnswered, CallRequested
from streams.events.conversation import FactPublished
from streams.events.intake import FACT_BYTES, CallResult, FactPublish, TurnOptions, TurnSubmit
from streams.events.registering import SkillPointed, SkillRegistered
from streams.events.turn import TurnFailed
from streams.signing import signed
from streams.topology import DAY_MS
from tests.support.bus_services import AGENT, SECRET, TENANT, Rig, rig
from workers.generation.scripted_engine import Rule, When
from workers.planning.owner import TurnOwner

pytestmark = pytest.mark.asyncio
OPTIONS = TurnOptions(agent="companion")
T0 = time.time_ns() // 1_000_000  # records count for some days


class Scene:
    """A world in which one conversation of ada at acme is open, and a skill on the bus is in force."""

    def __init__(self, world: Rig, owner: TurnOwner, publisher: Publisher, opened: Submitted, key: str) -> None:
        self.world, self.owner, self.publisher, self.opened, self.key = world, owner, publisher, opened, key
        self.conversation = opened.conversation
        self.partition = ids.partition_of(opened.conversation)

    async def say(self, event: Event, extra: Headers, event_id: str = "e-1") -> None:
        await self.world.bus.publish("turns", self.partition, self.conversation, event, event_id, "service/x", extra)

    def fact(self, **more: Any) -> FactPublish:
        values: dict[str, Any] = {
            "conversation": self.conversation, "tenant": TENANT, "user": "ada", "kind": "k", "text": "x", "at_ms": T0,
        } | more  # fmt: skip
        return FactPublish(**values)

    def signed(self, event: Event, key: str = "", event_id: str = "e-1") -> Headers:
        return signed(event, event_id, "turns", self.conversation, key or self.key)

    def refused(self) -> dict[str, float]:
        """The counter, by reason."""
        [family] = self.owner.metrics.refused.collect()
        return {sample.labels["code"]: sample.value for sample in family.samples if sample.name.endswith("_total")}

    async def facts_published(self, at_least: int = 0) -> list[str]:
        """The kinds of those in the log, once there are so many."""
        while True:
            events = [decode(record) for record in await self.world.records("events")]
            kinds = [event.kind for event in events if isinstance(event, FactPublished)]
            if len(kinds) >= at_least:
                return kinds
            await asyncio.sleep(0)

    async def undisturbed(self) -> None:
        """The conversation goes on, and the skill answers."""
        submitted = await self.publisher.turn(
            "ada", "Tell", conversation=self.conversation, options=TurnOptions(agent=AGENT)
        )
        ended = await self.publisher.ended(submitted.turn)
        assert ended.status == "completed"
        assert [fact.result for fact in ended.facts if isinstance(fact, CallAnswered)] == ['"told hi"']
        await self.publisher.fact("ada", self.conversation, "last", "x")
        reader = await self.world.bus.reader("events", {self.partition: "earliest"})
        kinds: list[str] = []
        while "last" not in kinds:
            kinds += [event.kind for one in await reader.batch() if isinstance(event := decode(one), FactPublished)]
        await reader.close()


async def tell(text: str) -> str:
    """Tells."""
    return f"told {text}"


@pytest_asyncio.fixture
async def scene() -> AsyncIterator[Scene]:
    async with rig() as world, asyncio.timeout(60):
        service = Service("teller", over="bus", api_key=await world.key("teller"), tenant=TENANT, signing_key=SECRET)
        service.skill()(tell)
        await world.serve(service)
        owner = await world.turns("tell")
        plans = {name: json.dumps([{"name": name, "arguments": {"text": "hi"}}]) for name in ("tell", "tell_slowly")}
        slowly = Rule(step="plan", when=When(contains="slowly"), say=plans["tell_slowly"])
        await world.generation([slowly, Rule(step="plan", say=plans["tell"]), Rule(say="Done.")])
        key = await world.key("caller")
        publisher = Publisher(world.bus, TENANT, key)
        opened = await publisher.turn("ada", "Hello", options=OPTIONS)
        await publisher.ended(opened.turn)
        yield Scene(world, owner, publisher, opened, key)


async def test_forged_tenants_wrong_signatures_replays_and_giants(scene: Scene) -> None:
    world, fact = scene.world, scene.fact()
    stranger = await world.key("stranger", tenant="globex")
    plain = await world.store.create_key(TENANT, "ada", "test", ("chat",), T0)
    mine = scene.signed(fact)
    forged_text = scene.fact(text="another text")
    giant, old = scene.fact(text="x" * FACT_BYTES), scene.fact(at_ms=T0 - 14 * DAY_MS)
    said: list[tuple[str, Event, Headers]] = [
        ("signature_missing", fact, []),
        ("signature_wrong", forged_text, mine),
        ("key_unknown", fact, signed(fact, "e-1", "turns", scene.conversation, "hs_0123456789ab_" + "A" * 43)),
        ("not_a_service", fact, scene.signed(fact, plain)),
        ("wrong_tenant", fact, scene.signed(fact, stranger)),
        ("wrong_tenant", scene.fact(tenant="globex"), scene.signed(scene.fact(tenant="globex"))),
        ("not_permitted", scene.fact(user="eve"), scene.signed(scene.fact(user="eve"), event_id="e-1")),
        ("fact_too_large", giant, scene.signed(giant)),
        ("out_of_time", old, scene.signed(old)),
    ]
    for number, (code, event, extra) in enumerate(said, 1):
        await scene.say(event, extra)
        letter, record = (await world.letters(number))[-1]
        assert (letter.code, letter.stage, letter.topic) == (code, "turns", "turns")
        assert record.value == encode(event, "", "")[1], "kept whole"
    assert await scene.facts_published() == []

    again = scene.signed(fact, event_id="e-2")
    for _ in range(2):
        await scene.say(fact, again, "e-2")
    letter, _ = (await world.letters(len(said) + 1))[-1]
    assert letter.code == "replayed"
    assert await scene.facts_published(1) == ["k"]
    assert scene.refused() == {
        "signature_missing": 1, "signature_wrong": 1, "key_unknown": 1, "not_a_service": 1, "wrong_tenant": 2,
        "not_permitted": 1, "fact_too_large": 1, "out_of_time": 1, "replayed": 1,
    }  # fmt: skip
    await scene.undisturbed()


async def test_a_forged_submit_says_nothing_in_the_conversation(scene: Scene) -> None:
    turn = ids.turn_id(scene.conversation, T0, b"0123456789")
    submit = TurnSubmit(
        turn=turn, conversation=scene.conversation, tenant=TENANT, user="ada", input=(), at_ms=T0, origin="service"
    )  # fmt: skip
    stranger = await scene.world.key("stranger", tenant="globex")
    await scene.say(submit, scene.signed(submit, stranger))
    [(letter, _)] = await scene.world.letters(1)
    assert letter.code == "wrong_tenant"
    assert not any(turn in record.event_id for record in await scene.world.records("events"))
    await scene.undisturbed()


async def test_a_turn_that_was_recorded_is_not_run_again(scene: Scene) -> None:
    [first] = [record for record in await scene.world.records("turns") if record.type == TurnSubmit.TYPE]
    headers = list(first.headers)
    _ = await (await scene.world.bus.post_raw("turns", first.partition, first.key, first.value, headers))
    [(letter, _)] = await scene.world.letters(1)
    assert (letter.code, scene.refused()) == ("replayed", {"replayed": 1})
    accepted = [one for one in await scene.world.records("events") if one.event_id == f"{scene.opened.turn}/turn/1/0"]
    assert len(accepted) == 1
    await scene.undisturbed()


async def test_only_the_skills_owner_answers_its_call_and_only_for_its_tenant(scene: Scene) -> None:
    """The service is away, so the call waits; others try."""
    world = scene.world
    go = asyncio.Event()
    slow = Service("slow", over="bus", api_key=await world.key("slow"), tenant=TENANT, signing_key=SECRET)

    @slow.skill(name="tell_slowly")
    async def tell_slowly(text: str) -> str:
        """Tells slowly."""
        await go.wait()
        return f"told {text}"

    await world.serve(slow)
    owner = await world.turns("tell_slowly", name="turns/2")
    await scene.owner.stop()
    submitted = await scene.publisher.turn("ada", "Slowly", options=TurnOptions(agent=AGENT))
    request = await requested(world, submitted.turn)
    place = ids.partition_of(submitted.turn)
    colleague, stranger = await world.key("colleague"), await world.key("slow", tenant="globex")
    everywhere = await world.key("slow", "every_tenant", tenant="platform")
    lie = CallResult(
        turn=request.turn, call=request.call, claim=request.claim, at_ms=T0, result='"lies"', key=request.key,
        tenant=TENANT,
    )  # fmt: skip
    other = msgspec.structs.replace(lie, tenant="globex")
    for number, (code, event, key) in enumerate(
        (("not_the_owner", lie, colleague), ("wrong_tenant", lie, stranger), ("wrong_tenant", other, stranger)), 1
    ):
        extra = signed(event, f"lie-{number}", "turns", submitted.conversation, key)
        await world.bus.publish("turns", place, submitted.conversation, event, f"lie-{number}", "service/x", extra)
        letter, _ = (await world.letters(number))[-1]
        assert letter.code == code
    truth = msgspec.structs.replace(lie, result='"told by the platform"')
    extra = signed(truth, "truth", "turns", submitted.conversation, everywhere)
    await world.bus.publish("turns", place, submitted.conversation, truth, "truth", "service/slow", extra)
    ended = await scene.publisher.ended(submitted.turn)
    [answered] = [fact for fact in ended.facts if isinstance(fact, CallAnswered)]
    assert answered.result == '"told by the platform"'
    go.set()
    reader = await world.bus.reader("turns", {place: "earliest"})
    late: list[str] = []
    while f"{request.turn}/call.0/1/1/result" not in late:
        late += [record.event_id for record in await reader.batch()]
    await reader.close()
    after = await scene.publisher.turn("ada", "Hello", conversation=submitted.conversation, options=OPTIONS)
    await scene.publisher.ended(after.turn)
    [family] = owner.metrics.results.collect()
    verdicts = {sample.labels["verdict"]: sample.value for sample in family.samples if sample.name.endswith("_total")}
    assert verdicts == {"taken": 1, "late": 1}


async def requested(world: Rig, turn: str) -> CallRequested:
    reader = await world.bus.reader("calls", {ids.partition_of(turn): "earliest"})
    try:
        while True:
            for record in await reader.batch():
                event = decode(record)
                if isinstance(event, CallRequested) and event.turn == turn:
                    return event
    finally:
        await reader.close()


async def test_a_breaking_manifest_is_refused_and_the_old_one_serves_on(scene: Scene) -> None:
    catalog = [decode(record) for record in await scene.world.records("skills", 1)]
    [manifest] = [event.manifest for event in catalog if isinstance(event, SkillRegistered)]
    parameters = {"type": "object", "properties": {"words": {"type": "string"}}, "required": ["words"]}
    worse = msgspec.structs.replace(manifest, version="worse", parameters=parameters)
    for key, event in (
        (worse.id, SkillRegistered(manifest=worse, at_ms=T0)),
        (worse.name, SkillPointed(name=worse.name, version="worse", at_ms=T0)),
    ):
        await scene.world.bus.publish("skills", 0, key, event, key, "service/teller")
    [(letter, _)] = await scene.world.letters(1)
    assert (letter.code, letter.topic, letter.stage) == ("breaking_change", "skills", "skills")
    assert "parameters.text is gone" in letter.reason
    assert "parameters.words has become required" in letter.reason
    assert b'headstart_skills_refused_total{code="breaking_change"} 1.0' in scene.owner.metrics.text()
    await scene.undisturbed()


async def test_over_its_quota_a_submit_is_told_so_by_a_fact(scene: Scene) -> None:
    busy = Publisher(scene.world.bus, TENANT, await scene.world.key("busy", "quota=2"))
    turns = [await busy.turn("ada", f"Hello {number}", options=OPTIONS) for number in range(3)]
    ended = [await busy.ended(one.turn) for one in turns]
    assert [one.status for one in ended] == ["completed", "completed", "failed"]
    end = ended[2].end
    assert isinstance(end, TurnFailed)
    assert (end.code, end.fault) == ("over_quota", "caller")
    assert "send it again in" in end.hint
    [(letter, _)] = await scene.world.letters(1)
    assert (letter.code, scene.refused()) == ("over_quota", {"over_quota": 1})
    await busy.fact("ada", scene.conversation, "too.much", "x")
    assert [letter.code for letter, _ in await scene.world.letters(2)] == ["over_quota"] * 2
    foreign = await busy.turn("eve", "Hello", conversation=scene.conversation, options=OPTIONS)
    assert (await scene.world.letters(3))[-1][0].code == "not_permitted"
    assert not any(foreign.turn in record.event_id for record in await scene.world.records("events"))
    await scene.undisturbed()


async def test_a_giant_is_refused_where_it_is_made(scene: Scene) -> None:
    with pytest.raises(InvalidInput) as caught:
        await scene.publisher.fact("ada", scene.conversation, "k", "x" * FACT_BYTES)
    assert caught.value.code == "fact_too_large"
    assert caught.value.facts["size_bytes"] > FACT_BYTES


async def test_a_development_profile_may_take_what_is_not_signed() -> None:
    async with rig() as world, asyncio.timeout(60):
        await world.turns(allow_unsigned=True)
        await world.generation([Rule(say="Done.")])
        publisher = await world.publisher()
        opened = await publisher.turn("ada", "Hello", options=OPTIONS)
        await publisher.ended(opened.turn)
        fact = FactPublish(conversation=opened.conversation, tenant=TENANT, user="ada", kind="k", text="x", at_ms=T0)
        partition = ids.partition_of(opened.conversation)
        await world.bus.publish("turns", partition, opened.conversation, fact, "e-1", "service/x")
        await world.bus.publish("turns", partition, opened.conversation, fact, "e-2", "x", [("ce_keyid", b"key_none")])
        [(letter, _)] = await world.letters(1)
        assert letter.code == "key_unknown"
        await world.bus.publish("turns", partition, opened.conversation, fact, "e-3", "service/x")
        reader = await world.bus.reader("events", {partition: "earliest"})
        published: list[Record] = []
        while len(published) < 2:
            published += [record for record in await reader.batch() if record.type == FactPublished.TYPE]
        await reader.close()
        assert len(published) == 2, "e-1 and e-3"
