"""The registry on a log: it catches up, follows, sets bad records aside, and finds what fits a question."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import pytest_asyncio

from headstart.service_registration import read_catalog, register, versioned, withdraw
from memory.embed import HashEmbedder
from memory.memory_store import MemoryStore
from streams.bus import Bus
from streams.codec import Record
from streams.dead_letters import DeadLetter
from streams.errors import InvalidInput, PeerUnavailable, Refused
from streams.events.registering import SkillManifest, SkillPointed, SkillRegistered
from streams.events.turn import TurnHeartbeat
from streams.memory_bus import MemoryBroker, MemoryBus
from streams.topology import DEAD_LETTERS, SKILLS
from tests.support.buses import KINDS, OpenBus, open_buses
from workers.skills.registry import SkillRegistry

pytestmark = pytest.mark.asyncio


def skill(name: str, description: str, version: str = "1", **fields: Any) -> SkillManifest:
    return SkillManifest(
        name=name, version=version, description=description, owner=fields.pop("owner", "team"),
        parameters={"type": "object", "properties": {"q": {"type": "string"}}},
        url=f"http://127.0.0.1:9/skills/{name}", hosts=("127.0.0.1:9",), **fields,
    )  # fmt: skip


WEATHER = skill("get_weather", "Tells the weather of a city.", examples=("will it rain in Paris",))
PEOPLE = skill("search_people", "Finds people by job title and city.", examples=("data engineers in Berlin",))
NOTES = skill("save_note", "Saves a note.", examples=("remember to buy milk",), tenants=("acme",))


@pytest_asyncio.fixture
async def bus() -> Bus:
    made = MemoryBus(MemoryBroker(4), namespace="trial")
    await made.start()
    return made


@pytest_asyncio.fixture
async def store() -> MemoryStore:
    made = MemoryStore(HashEmbedder().dimensions)
    await made.open()
    return made


@pytest_asyncio.fixture
async def registry(bus: Bus, store: MemoryStore) -> AsyncIterator[SkillRegistry]:
    made = SkillRegistry(bus, store, HashEmbedder())
    yield made
    await made.close()


async def until(registry: SkillRegistry, holds: Callable[[], bool]) -> None:
    """Returns when the registry saw a change after which `holds`."""
    changed = asyncio.Event()
    registry.on_change(lambda name, manifest: changed.set())
    while not holds():
        await changed.wait()
        changed.clear()


async def letters(bus: Bus, count: int) -> list[tuple[DeadLetter, Record]]:
    """The first `count` dead letters, waiting for them."""
    reader = await bus.reader(DEAD_LETTERS.name, {0: "earliest"})
    found: list[Record] = []
    while len(found) < count:
        found += await reader.batch()
    await reader.close()
    return [(DeadLetter.of(record), record) for record in found]


async def test_what_stood_on_the_topic_is_in_force_at_the_start(
    bus: Bus, store: MemoryStore, registry: SkillRegistry
) -> None:
    await register(bus, "team", [WEATHER, PEOPLE, NOTES], 1)
    await withdraw(bus, "team", ["search_people"], 2)
    await registry.start()
    assert registry.in_force() == [WEATHER, NOTES]
    assert registry.in_force("other") == [WEATHER]
    assert registry.by_name("save_note", "other") is None
    assert registry.get(PEOPLE.id) == PEOPLE
    assert {name for name, _ in await store.nearest_skills("acme", [0.0] * store.dimensions, 9)} == {
        WEATHER.id, NOTES.id,
    }  # fmt: skip


async def test_a_change_is_seen_at_once(bus: Bus, registry: SkillRegistry) -> None:
    await registry.start()
    await register(bus, "team", [WEATHER], 1)
    await until(registry, lambda: registry.by_name("get_weather") == WEATHER)
    better = msgspec.structs.replace(WEATHER, version="2", timeout_ms=99)
    await register(bus, "team", [better], 2)
    await until(registry, lambda: registry.by_name("get_weather") == better)
    assert set(registry.every()) == {"get_weather@1", "get_weather@2"}
    await withdraw(bus, "team", ["get_weather"], 3)
    await until(registry, lambda: registry.by_name("get_weather") is None)
    assert await registry.discover("will it rain in Paris", "acme", ("*",), 3) == []
    assert registry.following


async def test_a_skill_is_found_the_moment_it_is_in_force(bus: Bus, registry: SkillRegistry) -> None:
    found: list[asyncio.Task[Any]] = []
    registry.on_change(
        lambda name, manifest: found.append(asyncio.ensure_future(registry.discover("weather", "acme", ("*",), 1)))
    )
    await registry.start()
    await register(bus, "team", [WEATHER], 1)
    await until(registry, lambda: bool(found))
    assert [row.skill for row in await found[0]] == [WEATHER.id]


async def test_discovery_finds_what_fits_and_only_what_is_allowed(bus: Bus, registry: SkillRegistry) -> None:
    await register(bus, "team", [WEATHER, PEOPLE, NOTES], 1)
    await registry.start()

    async def found(text: str, tenant: str = "acme", skills: tuple[str, ...] = ("*",), limit: int = 3) -> list[str]:
        return [row.skill for row in await registry.discover(text, tenant, skills, limit)]

    assert (await found("will it rain in Paris tomorrow"))[0] == WEATHER.id
    assert (await found("find data engineers in Berlin"))[0] == PEOPLE.id
    assert await found("remember to buy milk", limit=1) == [NOTES.id]
    assert NOTES.id not in await found("remember to buy milk", tenant="other")
    assert await found("remember to buy milk", skills=("search_*", "get_weather"), limit=9) == sorted(
        [WEATHER.id, PEOPLE.id], key=(await found("remember to buy milk")).index
    )
    assert await found("anything", skills=()) == []


async def test_an_agents_skills_are_found_among_many_others(bus: Bus, registry: SkillRegistry) -> None:
    crowd = [skill(f"weather_{number}", "Tells the weather of a city.") for number in range(60)]
    await register(bus, "team", [*crowd, NOTES], 1)
    await registry.start()
    rows = await registry.discover("the weather of a city", "acme", ("save_note",), 3)
    assert [row.skill for row in rows] == [NOTES.id]


async def test_bad_records_are_set_aside_and_nothing_else_is_disturbed(bus: Bus, registry: SkillRegistry) -> None:
    await registry.start()
    bad = msgspec.structs.replace(WEATHER, effect="magic")
    changed = msgspec.structs.replace(PEOPLE, timeout_ms=1)

    async def publish(key: str, event: Any) -> None:
        await bus.publish(SKILLS.name, 0, key, event, key, "test")

    await publish(PEOPLE.id, SkillRegistered(manifest=PEOPLE, at_ms=1))
    await publish(bad.id, SkillRegistered(manifest=bad, at_ms=1))
    await publish("get_weather", SkillPointed(name="get_weather", version="1", at_ms=1))
    await publish(PEOPLE.id, SkillRegistered(manifest=changed, at_ms=1))
    await publish("x", TurnHeartbeat(at_ms=1))
    await (await bus.post_raw(SKILLS.name, 0, b"junk", b"\xff\x00", [("ce_type", b"headstart.skill.registered.v1")]))
    await (await bus.post_raw(SKILLS.name, 0, b"future", b"{}", [("ce_type", b"headstart.skill.registered.v9")]))
    await publish("search_people", SkillPointed(name="search_people", version="1", at_ms=1))
    await until(registry, lambda: registry.by_name("search_people") == PEOPLE)
    found = await letters(bus, 6)
    assert [(letter.code, letter.offset, letter.stage) for letter, _ in found] == [
        ("invalid_manifest", 1, "skills"),
        ("unknown_version", 2, "skills"),
        ("version_changed", 3, "skills"),
        ("wrong_topic", 4, "skills"),
        ("invalid_event", 5, "skills"),
        ("unknown_version", 6, "skills"),
    ]
    assert found[4][1].value == b"\xff\x00"
    assert registry.following


async def test_a_bad_record_is_set_aside_once_over_restarts(bus: Bus, store: MemoryStore) -> None:
    bad = msgspec.structs.replace(WEATHER, effect="magic")
    await bus.publish(SKILLS.name, 0, bad.id, SkillRegistered(manifest=bad, at_ms=1), bad.id, "test")
    for _ in range(3):
        registry = SkillRegistry(bus, store, HashEmbedder())
        await registry.start()
        await registry.close()
    reader = await bus.reader(DEAD_LETTERS.name, {0: "earliest"})
    assert await reader.end_offset(0) == 1


async def test_a_store_that_fails_is_tried_again(bus: Bus, store: MemoryStore) -> None:
    stored = asyncio.Event()

    class Failing(MemoryStore):
        failures = 2

        async def upsert_skill(self, manifest: SkillManifest, vector: Any) -> None:
            if self.failures:
                self.failures -= 1
                raise PeerUnavailable("no database")
            await super().upsert_skill(manifest, vector)
            stored.set()

    registry = SkillRegistry(bus, Failing(HashEmbedder().dimensions), HashEmbedder(), retry_s=0)
    await registry.start()
    await register(bus, "team", [WEATHER], 1)
    await stored.wait()
    assert registry.by_name("get_weather") == WEATHER
    assert [row.skill for row in await registry.discover("weather", "acme", ("*",), 1)] == [WEATHER.id]
    await registry.close()


async def test_registering_again_says_nothing_and_a_changed_version_is_refused(bus: Bus) -> None:
    assert await register(bus, "team", [WEATHER, PEOPLE], 1) == [WEATHER.id, PEOPLE.id]
    reader = await bus.reader(SKILLS.name, {0: "earliest"})
    written = await reader.end_offset(0)
    assert await register(bus, "team", [WEATHER, PEOPLE], 2) == []
    with pytest.raises(InvalidInput) as changed:
        await register(bus, "team", [NOTES, msgspec.structs.replace(WEATHER, timeout_ms=1)], 3)
    assert changed.value.code == "version_changed"
    assert await reader.end_offset(0) == written


async def test_another_owners_skill_is_left_alone(bus: Bus) -> None:
    await register(bus, "team", [WEATHER], 1)
    with pytest.raises(Refused) as refused:
        await register(bus, "others", [msgspec.structs.replace(WEATHER, version="2", owner="others")], 2)
    assert refused.value.code == "skill_owned"
    assert await withdraw(bus, "others", ["get_weather"], 3) == []
    assert (await read_catalog(bus)).by_name("get_weather") == WEATHER


def breaking(manifest: SkillManifest) -> SkillManifest:
    """Its next version, which needs a parameter that nobody gave."""
    parameters = {"type": "object", "properties": {"q": {"type": "string"}, "r": {"type": "string"}}, "required": ["r"]}
    return msgspec.structs.replace(manifest, version="2", parameters=parameters)


async def test_a_service_is_told_what_its_new_version_would_break(bus: Bus) -> None:
    await register(bus, "team", [WEATHER], 1)
    with pytest.raises(Refused) as caught:
        await register(bus, "team", [PEOPLE, breaking(WEATHER)], 2)
    assert caught.value.code == "breaking_change"
    assert caught.value.facts["changes"] == ["parameters.r has become required"]
    assert (await read_catalog(bus)).in_force() == [WEATHER]
    await withdraw(bus, "team", ["get_weather"], 3)
    assert await register(bus, "team", [breaking(WEATHER)], 4) == ["get_weather@2"]


async def test_a_breaking_change_on_the_topic_is_refused_by_all_whenever_they_start(
    bus: Bus, store: MemoryStore, registry: SkillRegistry
) -> None:
    """Whoever writes it without asking: what was in force stays, and is said again, so that compaction keeps it."""
    await register(bus, "team", [WEATHER, PEOPLE], 1)
    await registry.start()
    worse = breaking(WEATHER)
    for key, event in (
        (worse.id, SkillRegistered(manifest=worse, at_ms=2)),
        (worse.name, SkillPointed(name=worse.name, version="2", at_ms=2)),
    ):
        await bus.publish(SKILLS.name, 0, key, event, key, "service/careless")
    [(letter, record)] = await letters(bus, 1)
    assert (letter.code, record.key) == ("breaking_change", b"get_weather")
    assert "parameters.r has become required" in letter.reason
    reader = await bus.reader(SKILLS.name, {0: 6})
    [restored] = await reader.batch()
    await reader.close()
    assert (restored.key, restored.source) == (b"get_weather", "registry")
    assert registry.in_force() == [WEATHER, PEOPLE]

    compacted = MemoryBus(MemoryBroker(4))
    await compacted.start()
    newest: dict[bytes | None, Record] = {}
    reader = await bus.reader(SKILLS.name, {0: "earliest"})
    for kept in await reader.batch():
        newest.pop(kept.key, None)
        newest[kept.key] = kept
    await reader.close()
    for kept in newest.values():
        await (await compacted.post_raw(SKILLS.name, 0, kept.key, kept.value, list(kept.headers)))
    late = SkillRegistry(compacted, store, HashEmbedder())
    await late.start()
    assert late.in_force() == [WEATHER, PEOPLE]
    await late.close()


async def test_a_version_is_the_hash_of_what_is_declared() -> None:
    unversioned = msgspec.structs.replace(WEATHER, version="")
    assert versioned(unversioned) == versioned(unversioned)
    assert versioned(unversioned).version != versioned(msgspec.structs.replace(unversioned, timeout_ms=1)).version
    assert versioned(WEATHER) == WEATHER


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


async def test_two_processes_on_each_broker(kind: str, tmp_path: Path) -> None:
    """A service registers, two registries that know nothing of each other see the same."""
    async with open_buses(kind, tmp_path) as open_bus:
        await _two_processes(open_bus)


async def _two_processes(open_bus: OpenBus) -> None:
    service_bus = await open_bus()
    await register(service_bus, "team", [WEATHER], 1)
    registries = []
    for _ in range(2):
        store = MemoryStore(HashEmbedder().dimensions)
        await store.open()
        registries.append(SkillRegistry(await open_bus(), store, HashEmbedder()))
        await registries[-1].start()
    assert [registry.in_force() for registry in registries] == [[WEATHER], [WEATHER]]
    await register(service_bus, "team", [PEOPLE], 2)
    for registry in registries:
        await until(registry, lambda registry=registry: registry.by_name("search_people") == PEOPLE)  # type: ignore[misc]
        await registry.close()
