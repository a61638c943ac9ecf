"""What somebody says of their memories from a shell: the real owner of a partition, the memory worker, no gateway."""

from __future__ import annotations

import asyncio

import pytest

from headstart.memory_edits import say
from memory.embed import HashEmbedder
from memory.habits import habit_id
from memory.rows import Change, MemoryRow, Observed
from streams.errors import InvalidInput, NotFound, PeerTimeout
from streams.events.editing import MemoryEdit
from tests.support.turn_world import T0, World, world
from workers.remembering.worker import MemoryWorker

pytestmark = pytest.mark.asyncio


def edit(item: str, *, text: str = "", muted: bool = False, forget: bool = False, user: str = "ada") -> MemoryEdit:
    return MemoryEdit(
        conversation="", tenant="acme", user=user, item=item, at_ms=T0 + 5, text=text, muted=muted, forget=forget
    )


async def remembered(scene: World) -> str:
    """A memory of a conversation that is over; its id."""
    row = MemoryRow(
        id="mem_town", layer="fact", tenant="acme", user="ada", text="I live in Basel", vector=[0.0] * 384, at_ms=T0,
        conversation=scene.conversation(), speaker="user", valid_from_ms=T0,
    )  # fmt: skip
    assert await scene.store.project(30, 0, [Change(0, row)])
    return row.id


async def test_a_word_is_applied_by_way_of_the_log() -> None:
    async with world() as scene:
        await scene.owner()
        worker = MemoryWorker(scene.bus, scene.store, HashEmbedder(384))
        await worker.start()
        try:
            memory = await remembered(scene)
            await say(scene.bus, scene.store, edit(memory, text="I live in Bern"), None, "n1")
            [row] = await scene.store.known_memories("acme", "ada", [memory])
            [correction] = await scene.store.known_memories("acme", "ada", [row.superseded_by])
            assert (correction.text, correction.layer) == ("I live in Bern", "fact")
            with pytest.raises(InvalidInput, match="taken the place"):
                await say(scene.bus, scene.store, edit(memory, text="No"), None, "n2")
            await say(scene.bus, scene.store, edit(correction.id, forget=True), None, "n3")
            assert await scene.store.memories("acme", "ada", 9) == []
            seen = Observed(tenant="acme", user="ada", kind="skill", name="fly", taken=True, at_ms=T0)
            assert await scene.store.project(31, 0, [Change(0, seen)])
            habit = habit_id("acme", "ada", "skill", "fly")
            await say(scene.bus, scene.store, edit(habit, text="Only by train.", muted=True), None, "n4")
            [known] = await scene.store.habits("acme", "ada")
            assert (known.correction, known.muted) == ("Only by train.", True)
            await say(scene.bus, scene.store, edit(habit, forget=True), None, "n5")
            assert await scene.store.habits("acme", "ada") == []
        finally:
            await worker.stop()


async def test_what_names_nothing_of_theirs_is_refused() -> None:
    async with world() as scene:
        memory = await remembered(scene)
        for wrong in (edit("mem_none", forget=True), edit(memory, forget=True, user="eve"), edit("habit_none")):
            with pytest.raises(NotFound):
                await say(scene.bus, scene.store, wrong, None, "n1")


async def test_a_word_that_nobody_applies_says_so() -> None:
    async with world() as scene, asyncio.timeout(20):
        memory = await remembered(scene)
        with pytest.raises(PeerTimeout) as caught:
            await say(scene.bus, scene.store, edit(memory, forget=True), None, "n1", timeout_s=0.01)
        assert caught.value.code == "not_applied"
