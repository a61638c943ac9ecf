"""Which skills are found: by vector and by words, of those in force that the agent and the tenant may use."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from memory.memory_store import MemoryStore
from streams.events.recalling import DiscoveredSkill
from streams.events.registering import SkillManifest
from workers.skills.catalog import Catalog
from workers.skills.discovery import WORDS_SHARE, Wording, discover, texts_of

pytestmark = pytest.mark.asyncio
EAST, NORTH, NORTH_EAST = [1.0, 0.0], [0.0, 1.0], [0.6, 0.8]


def skill(name: str, description: str, **fields: Any) -> SkillManifest:
    return SkillManifest(
        name=name, version="1", description=description, owner="team",
        parameters={"type": "object", "properties": {"booking": {"type": "string"}}},
        url="http://127.0.0.1:9/", hosts=("127.0.0.1:9",), **fields,
    )  # fmt: skip


class Shelf:
    """A catalog with a store and vectors as a registry holds them; `forgotten` are missing in the store."""

    def __init__(self, *placed: tuple[SkillManifest, list[float]], forgotten: Sequence[str] = ()) -> None:
        self.catalog, self.store = Catalog(), MemoryStore(dimensions=2)
        self.placed, self.forgotten = placed, forgotten

    async def find(
        self, text: str, vector: list[float], limit: int = 1, patterns: Sequence[str] = ("*",), tenant: str = "acme"
    ) -> list[DiscoveredSkill]:
        for manifest, own in self.placed:
            _ = self.catalog.register(manifest)
            _ = self.catalog.point(manifest.name, "1")
            if manifest.name not in self.forgotten:
                await self.store.upsert_skill(manifest, own)
        vectors = {manifest.id: own for manifest, own in self.placed}
        alike = Wording(self.catalog.in_force()).likeness(text)
        return await discover(self.store, self.catalog, vectors, alike, vector, tenant, patterns, limit)


CHANGE = skill("change_flight", "Moves a flight booking to another date.", examples=("a later plane",))
CANCEL = skill("cancel_flight", "Cancels a flight booking.", examples=("I cannot travel",))
WEATHER = skill("get_weather", "Tells the weather of a city.")


async def test_words_decide_between_what_is_equally_near() -> None:
    shelf = Shelf((CHANGE, EAST), (CANCEL, EAST))
    for manifest, text in ((CANCEL, "cancel it please"), (CHANGE, "can I have a later one")):
        [found] = await shelf.find(text, EAST)
        assert found.skill == manifest.id
        assert 1.0 < found.score <= 1.0 + WORDS_SHARE


async def test_what_is_much_nearer_is_not_beaten_by_a_word() -> None:
    [found] = await Shelf((CANCEL, EAST), (WEATHER, NORTH)).find("the weather spoils it: cancel", NORTH)
    assert found.skill == WEATHER.id


async def test_the_names_of_parameters_are_words_too() -> None:
    assert Wording([CHANGE]).likeness("my booking").keys() == {CHANGE.id}
    assert Wording([CHANGE]).likeness("something else") == {}
    assert texts_of(CHANGE) == ["change flight: Moves a flight booking to another date.", "a later plane"]


async def test_a_skill_that_the_store_does_not_know_yet_is_found_by_its_words() -> None:
    many = [(skill(f"other_{number}", "Something else entirely."), NORTH_EAST) for number in range(60)]
    shelf = Shelf((CANCEL, NORTH_EAST), *many, forgotten=["cancel_flight"])
    [found] = await shelf.find("cancel the flight", NORTH_EAST)
    assert found.skill == CANCEL.id
    assert found.score > 1.0


async def test_the_store_never_offers_what_is_not_in_force_or_not_allowed() -> None:
    shelf = Shelf((CANCEL, EAST), (WEATHER, NORTH))
    await shelf.store.upsert_skill(skill("gone", "Cancels a flight booking."), EAST)
    assert [row.skill for row in await shelf.find("cancel", EAST, limit=5)] == [CANCEL.id, WEATHER.id]
    assert [row.skill for row in await shelf.find("cancel", EAST, 5, ("get_*",))] == [WEATHER.id]
    assert await shelf.find("cancel", EAST, 5, ()) == []
    assert await shelf.find("cancel", EAST, 0) == []


async def test_a_skill_of_another_tenant_is_not_found_by_its_words_either() -> None:
    secret = skill("launch_rocket", "Launches the rocket.", tenants=("acme",))
    shelf = Shelf((secret, EAST), (WEATHER, NORTH))
    assert [row.skill for row in await shelf.find("launch the rocket", EAST, 5)] == [secret.id, WEATHER.id]
    assert [row.skill for row in await shelf.find("launch the rocket", EAST, 5, tenant="globex")] == [WEATHER.id]
