"""What a person sees of their memories and habits, corrects and forgets: over HTTP, by way of the log."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from memory.embed import HashEmbedder
from memory.habits import habit_id
from memory.memory_store import MemoryStore
from memory.rows import Change, Observed
from streams import ids
from streams.events.editing import MemoryEdit, MemoryEdited
from streams.events.intake import TurnSubmit
from streams.events.recalling import ExampleItem, HistoryMessage, Recalled, RecalledItem
from streams.topology import EVENTS
from tests.support.gateways import PATIENCE_S, Rig, Socket
from tests.support.turn_script import AT_MS, Line, Say, answer, completed
from workers.remembering.worker import MemoryWorker

pytestmark = pytest.mark.asyncio
SAID = "My sister Lin lives in Basel"


class Scene:
    """A gateway with a turns worker that writes what it is told to, and a memory worker that a test steps."""

    def __init__(self, rig: Rig, http: httpx.AsyncClient, socket: Socket, worker: MemoryWorker) -> None:
        self.rig, self.http, self.socket, self.worker = rig, http, socket, worker

    async def ask(self, text: str) -> dict[str, Any]:
        """The response, once what it said is remembered."""
        await self.socket.create(text)
        response: dict[str, Any] = (await self.socket.until_end())[-1]["response"]
        await self.remembered()
        return response

    async def remembered(self) -> None:
        """Until the memory worker has stored all that stands in the log."""
        while await self.worker.step(wait_ms=1):
            pass
        await self.worker.flush()

    async def told(self, edits: int) -> None:
        """Until so many corrections were read by the turns worker, and stored."""
        places = range(self.rig.bus.partitions)
        while edits > sum(
            record.type == MemoryEdited.TYPE
            for place in places
            for record in self.rig.broker.log_of(EVENTS.name, place).records
        ):
            await self.worker.step(wait_ms=5)
        await self.remembered()

    async def memories(self, query: str = "") -> dict[str, dict[str, Any]]:
        return {row["text"]: row for row in (await self.http.get(f"/v1/memories{query}")).json()["data"]}


@asynccontextmanager
async def scene() -> AsyncIterator[Scene]:
    recalled: list[RecalledItem] = []

    def script(submit: TurnSubmit) -> list[Line]:
        if not submit.input[0].text.startswith("Where"):
            return [*answer(["Noted."]), completed()]
        fact = Recalled(
            items=tuple(recalled), history=(HistoryMessage(role="user", text="hello"),), at_ms=AT_MS + 30, position=7,
            took_ms=3.0, embed_ms=1.5,
            habits=(RecalledItem(id="habit_none", layer="procedure", text="I always fly.", score=1.0, about="fly"),),
            examples=(ExampleItem(turn=submit.turn, agent="guide", question="q", answer="a", score=0.75),),
        )  # fmt: skip
        return [Say("turn", fact), *answer(["In Basel."]), completed()]

    async with Rig(script) as rig, asyncio.timeout(PATIENCE_S):
        gateway = await rig.gateway()
        worker = MemoryWorker(rig.bus, rig.store, HashEmbedder(rig.store.dimensions))
        await worker.join()
        try:
            async with rig.http(gateway) as http, rig.socket(gateway) as socket:
                made = Scene(rig, http, socket, worker)
                first = await made.ask(SAID)
                [row] = [row for row in (await made.memories()).values() if row["text"] == SAID]
                assert row["response_id"] == first["id"]
                recalled.append(
                    RecalledItem(
                        id=row["id"], layer="conversation", text=SAID, score=0.61, at_ms=AT_MS,
                        source_turn=ids.turn_of(first["id"]), why="meaning 0.70, words 0.33, 2.0 days old, a question",
                    )
                )  # fmt: skip
                yield made
        finally:
            await worker.stop()


async def test_a_turn_shows_what_it_recalled_and_why() -> None:
    async with scene() as world:
        response = await world.ask("Where does Lin live?")
        shown = (await world.http.get(f"/v1/responses/{response['id']}/recalled")).json()
        assert (shown["took_ms"], shown["embed_ms"], shown["position"], shown["history_messages"]) == (3.0, 1.5, 7, 1)
        [item] = shown["items"]
        assert (item["text"], item["score"], item["state"]) == (SAID, 0.61, "holds")
        assert item["terms"] == [{"name": "meaning", "value": 0.7}, {"name": "words", "value": 0.33}]
        first = (await world.http.get(f"/v1/responses/{item['response_id']}")).json()
        assert first["output"][0]["content"][0]["text"] == "Noted.", "the turn that it comes from"
        [habit] = shown["habits"]
        assert (habit["text"], habit["about"], habit["state"]) == ("I always fly.", "fly", "erased")
        [example] = shown["examples"]
        assert (example["response_id"], example["question"]) == (response["id"], "q")
        none = await world.http.get(f"/v1/responses/{item['response_id']}/recalled")
        assert (none.status_code, none.json()["error"]["code"]) == (404, "recall_not_found")
        for nobodys in (f"resp_{0:036x}", "resp_x", "x"):
            assert (await world.http.get(f"/v1/responses/{nobodys}/recalled")).status_code == 404


async def test_a_memory_is_corrected_by_a_fact_of_the_log_and_then_forgotten() -> None:
    async with scene() as world:
        response = await world.ask("Where does Lin live?")
        path = f"/v1/responses/{response['id']}/recalled"
        memory = (await world.memories())[SAID]
        better = {"text": " My sister Lin lives in Bern ", "event_id": "e1"}
        for _ in range(2):  # sent again, it is the same word
            told = await world.http.post(f"/v1/memories/{memory['id']}", json=better)
            assert (told.status_code, told.json()["text"]) == (202, "My sister Lin lives in Bern")
        await world.told(2)
        rows = await world.memories("?revisions=true")
        [correction] = [row for row in rows.values() if row["text"].endswith("Bern")]
        assert (rows[SAID]["superseded_by"], correction["layer"]) == (correction["id"], "fact")
        holding = [text for text in await world.memories() if "sister" in text]
        assert sorted(holding) == ["My sister Lin lives in Bern", "My sister is called Lin."], "of what it said, too"
        assert (await world.http.get(path)).json()["items"][0]["state"] == "superseded"
        stale = await world.http.post(f"/v1/memories/{memory['id']}", json={"text": "No, Chur"})
        assert (stale.status_code, stale.json()["error"]["code"]) == (400, "memory_superseded")
        deleted = await world.http.delete(f"/v1/memories/{correction['id']}")
        assert (deleted.status_code, deleted.json()["deleted"]) == (202, True)
        await world.told(3)
        assert not [text for text in await world.memories("?revisions=true") if "Lin lives" in text]
        assert (await world.http.get(path)).json()["items"][0]["state"] == "erased"
        assert (await world.http.delete(f"/v1/memories/{correction['id']}")).status_code == 404
        homes = {one.conversation for one in world.rig.turns.commands if isinstance(one, MemoryEdit)}
        assert homes == {memory["conversation"]}, "where it was said, so that the order of the log is the order"


async def test_what_a_person_tells_is_remembered_once() -> None:
    async with scene() as world:
        nuts = {"text": " I am allergic to nuts ", "event_id": "e1"}
        told = [await world.http.post("/v1/memories", json=nuts) for _ in range(2)]
        assert [(one.status_code, one.json()["text"]) for one in told] == [(202, "I am allergic to nuts")] * 2
        assert (await world.http.post("/v1/memories", json={"text": ""})).status_code == 400
        await world.told(2)
        rows = await world.memories()
        row = rows["I am allergic to nuts"]
        assert (row["id"], row["layer"], row["conversation"]) == (told[0].json()["id"], "fact", None)
        assert (await world.http.delete(f"/v1/memories/{row['id']}")).status_code == 202
        await world.told(3)
        assert "I am allergic to nuts" not in await world.memories("?revisions=true")


async def test_memory_built_again_from_the_log_obeys_what_was_said_of_it() -> None:
    async with scene() as world:
        await world.ask("I have a cat called Mia")
        rows = await world.memories()
        cat = next(row for text, row in rows.items() if text == "I have a cat called Mia")
        await world.http.post(f"/v1/memories/{rows[SAID]['id']}", json={"text": "My sister Lin lives in Bern"})
        await world.http.delete(f"/v1/memories/{cat['id']}")
        await world.http.post("/v1/memories", json={"text": "I am allergic to nuts"})
        await world.told(3)
        kept = await state(world.rig.store)
        assert not [text for text in kept if "Mia" in text]
        await world.worker.stop()
        again = MemoryStore()
        again.follow(world.rig.bus.epoch)
        worker = MemoryWorker(world.rig.bus, again, HashEmbedder(again.dimensions))
        await worker.join()
        while await worker.step(wait_ms=1):
            pass
        await worker.flush()
        await worker.stop()
        assert await state(again) == kept


async def state(store: MemoryStore) -> dict[str, tuple[str, str, int | None]]:
    """Every memory of ada's, by what it says: its id, what took its place, and when."""
    rows = await store.memories("acme", "ada", 99)
    return {row.text: (row.id, row.superseded_by, row.valid_to_ms) for row in rows}


async def test_memories_are_their_persons_alone() -> None:
    async with scene() as world:
        response = await world.ask("Where does Lin live?")
        memory = (await world.memories())[SAID]
        gateway = str(world.http.base_url)
        for tenant, user in (("acme", "eve"), ("rival", "ada")):
            key = await world.rig.new_key(tenant, user)
            headers = {"authorization": f"Bearer {key}"}
            async with httpx.AsyncClient(base_url=gateway, headers=headers, timeout=PATIENCE_S) as stranger:
                assert (await stranger.get("/v1/memories")).json()["data"] == []
                for refused in (
                    await stranger.get(f"/v1/memories?conversation={memory['conversation']}"),
                    await stranger.get(f"/v1/responses/{response['id']}/recalled"),
                    await stranger.post(f"/v1/memories/{memory['id']}", json={"text": "mine"}),
                    await stranger.delete(f"/v1/memories/{memory['id']}"),
                ):
                    assert refused.status_code == 404
        async with httpx.AsyncClient(base_url=gateway, timeout=PATIENCE_S) as nobody:
            assert (await nobody.get("/v1/memories")).status_code == 401
        assert not [one for one in world.rig.turns.commands if isinstance(one, MemoryEdit)]


async def test_what_is_asked_for_wrongly_is_refused() -> None:
    async with scene() as world:
        memory = (await world.memories())[SAID]
        for body in ({}, {"text": ""}, {"text": "  "}, {"text": 5}, {"text": "x" * 601}, {"text": "y", "event_id": 1}):
            refused = await world.http.post(f"/v1/memories/{memory['id']}", json=body)
            assert (refused.status_code, refused.json()["error"]["code"]) == (400, "invalid_input")
        for query in ("limit=0", "limit=201", "limit=x"):
            assert (await world.http.get(f"/v1/memories?{query}")).status_code == 400
        assert (await world.http.get("/v1/memories?conversation=x")).status_code == 404
        assert {SAID, "Noted."} < set(await world.memories(f"?conversation={memory['conversation']}"))
        one = (await world.http.get("/v1/memories?limit=1")).json()
        assert (len(one["data"]), one["has_more"]) == (1, True)


async def test_a_person_sees_corrects_mutes_and_erases_their_habits() -> None:
    async with scene() as world:
        seen = Observed(tenant="acme", user="ada", kind="argument", name="get_weather/city=Bern", taken=True, at_ms=1)
        await world.rig.store.project(9, 3, [Change(number, seen) for number in (1, 2, 3)])
        habit = habit_id("acme", "ada", "argument", "get_weather/city=Bern")
        key = await world.rig.new_key("acme", "eve")

        async def shown() -> dict[str, Any]:
            rows: list[dict[str, Any]] = (await world.http.get("/v1/habits")).json()["data"]
            return next((row for row in rows if row["id"] == habit), {})

        row = await shown()
        assert (row["taken"], row["counts"], row["muted"]) == (3, True, False)
        assert row["text"].startswith("I usually mean Bern as city for get_weather")
        headers = {"authorization": f"Bearer {key}"}
        async with httpx.AsyncClient(base_url=world.http.base_url, headers=headers) as stranger:
            assert (await stranger.get("/v1/habits")).json()["data"] == []
            assert (await stranger.delete(f"/v1/habits/{habit}")).status_code == 404
        corrected = await world.http.post(f"/v1/habits/{habit}", json={"correction": "I live in Basel now."})
        assert (corrected.status_code, corrected.json()["correction"]) == (202, "I live in Basel now.")
        await world.told(1)
        assert (await shown())["text"] == "I live in Basel now."
        assert (await world.http.post(f"/v1/habits/{habit}", json={"muted": True})).json()["counts"] is False
        await world.told(2)
        assert ((await shown())["muted"], (await shown())["counts"]) == (True, False)
        assert (await world.http.post(f"/v1/habits/{habit}", json={"correction": 5})).status_code == 400
        unknown = await world.http.post("/v1/habits/habit_none", json={"muted": True})
        assert unknown.json()["error"]["code"] == "unknown_habit"
        assert (await world.http.delete(f"/v1/habits/{habit}")).json()["deleted"]
        await world.told(3)
        assert await shown() == {}
        edits = [one for one in world.rig.turns.commands if isinstance(one, MemoryEdit)]
        assert {one.conversation for one in edits} == {
            ids.member_conversation("acme", "ada", world.rig.bus.partitions)
        }, "every word on a habit stands in one place, whatever conversation is open"
