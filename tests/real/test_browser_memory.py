"""The chat page's drawer in headless Chromium: what was recalled and why, corrected and forgotten by way of the log.

Behind it are a real gateway, the real memory worker, and a turns worker that a script leads. Pictures of what was seen
are kept as artefacts.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import pytest
from playwright.async_api import expect

from memory.embed import HashEmbedder
from memory.habits import habit_id
from memory.rows import Change, Observed
from streams.events.editing import MemoryEdit
from streams.events.intake import TurnSubmit
from streams.events.rating import FeedbackGive
from streams.events.recalling import Recalled, RecalledItem
from streams.events.routing import RouteDecided
from tests.real.test_browser import CHROMIUM, EVIL, Visit, answered, closed, fired, opened, planned, visit, written
from tests.support.turn_script import AT_MS, Line, Say, Script, answer, completed
from workers.remembering.worker import MemoryWorker

PICTURES: Final = Path(__file__).resolve().parent.parent.parent / "bench-results"
SAID: Final = "My sister Lin lives in Basel"
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(
        not Path(CHROMIUM).exists(),
        reason="no Chromium: install it (apt-get install chromium) or name one in HEADSTART_TEST_CHROMIUM",
    ),
]


class Told:
    """A script whose turns recall what the test names."""

    def __init__(self) -> None:
        self.items: list[RecalledItem] = []
        self.habits: list[RecalledItem] = []

    def __call__(self, submit: TurnSubmit) -> list[Line]:
        if not submit.input[0].text.startswith("Where"):
            return [*answer(["Noted."]), completed()]
        recalled = Recalled(
            items=tuple(self.items), history=(), at_ms=AT_MS + 30, took_ms=12.4, embed_ms=3.1,
            habits=tuple(self.habits),
        )  # fmt: skip
        return [Say("turn", recalled), *answer(["In Basel."]), completed()]


@asynccontextmanager
async def remembering(script: Script) -> AsyncIterator[Visit]:
    """A visit with a memory worker that works on its own."""
    ticks = itertools.count()
    async with visit(script, lambda: AT_MS + next(ticks)) as tab:
        worker = MemoryWorker(tab.world.bus, tab.world.store, HashEmbedder(tab.world.store.dimensions))
        await worker.start()
        try:
            await tab.page.set_viewport_size({"width": 1280, "height": 900})
            yield tab
        finally:
            await worker.stop()


async def stored(tab: Visit, *texts: str) -> list[str]:
    """The ids of the memories with these texts, once they are stored and hold."""
    while True:
        rows = {row.text: row for row in await tab.world.store.memories("acme", "ada", 99)}
        if all(text in rows and not rows[text].superseded_by for text in texts):
            return [rows[text].id for text in texts]
        await asyncio.sleep(0.01)


async def until(so: Callable[[], Awaitable[bool]]) -> None:
    """Waits for what the memory worker does on its own."""
    while True:
        if await so():
            return
        await asyncio.sleep(0.01)


async def _none(rows: Awaitable[list[Any]]) -> bool:
    return not await rows


async def _habit(tab: Visit, **fields: object) -> bool:
    [habit] = await tab.world.store.habits("acme", "ada")
    return all(getattr(habit, name) == value for name, value in fields.items())


def item(name: str, text: str, turn: str = "") -> RecalledItem:
    return RecalledItem(
        id=name, layer="conversation", text=text, score=0.61, source_turn=turn, at_ms=AT_MS,
        why="meaning 0.70, words 0.33, with context 0.20, 2.0 days old",
    )  # fmt: skip


@pytest.mark.asyncio
async def test_what_was_recalled_is_seen_corrected_and_forgotten() -> None:
    told = Told()
    async with remembering(told) as tab:
        page = tab.page
        await tab.enter()
        await tab.ask(SAID)
        await expect(page.locator(".answer")).to_have_text("Noted.")
        [memory] = await stored(tab, SAID)
        turn = (await tab.world.store.known_memories("acme", "ada", [memory]))[0].turn
        told.items = [item(memory, SAID, turn)]
        await page.get_by_role("button", name="New conversation").click()
        await tab.ask("Where does Lin live?")
        await page.get_by_role("button", name="Why this answer").click()
        drawer = page.get_by_role("complementary", name="Why this answer")
        await expect(drawer.locator(".memory-text")).to_have_text(SAID)
        await expect(drawer.locator(".layer")).to_have_text("said")
        await expect(drawer.locator(".score")).to_have_text("0.61")
        await expect(drawer.locator(".arm-name")).to_have_text(["meaning", "words", "with context"])
        await expect(drawer.locator(".arm-value")).to_have_text(["0.70", "0.33", "0.20"])
        await expect(drawer.locator(".arm-rest")).to_have_text("2.0 days old")
        await expect(drawer.locator(".lead").first).to_contain_text("1 memory, looked up in 12 ms, embedded in 3.1 ms")
        PICTURES.mkdir(exist_ok=True)
        await page.screenshot(path=PICTURES / "chat-drawer.png")
        # Corrected: a command on the log, applied by the memory worker.
        await drawer.get_by_role("button", name="Correct").click()
        await drawer.get_by_label("What is so instead").fill("My sister Lin lives in Bern")
        await drawer.get_by_role("button", name="Save").click()
        await expect(drawer.locator(".memory-state")).to_have_text("Noted: My sister Lin lives in Bern")
        [correction] = await stored(tab, "My sister Lin lives in Bern")
        await page.get_by_role("button", name="Why this answer").click()
        await expect(drawer.locator(".memory-state")).to_have_text("corrected since")
        await expect(drawer.get_by_role("button", name="Correct")).to_have_count(0)
        # Forgotten, from the list of everything, after being asked once more.
        await page.get_by_role("button", name="Memory", exact=True).click()
        everything = page.get_by_role("complementary", name="Memory")
        card = everything.locator(f'[data-memory="{correction}"]')
        await card.get_by_role("button", name="Forget").click()
        await card.get_by_role("button", name="Keep").click()
        await card.get_by_role("button", name="Forget").click()
        await card.get_by_role("button", name="Forget it").click()
        await expect(card.locator(".memory-state")).to_have_text("Forgotten.")
        await until(lambda: _none(tab.world.store.known_memories("acme", "ada", [correction, memory])))
        edits = [one for one in tab.world.turns.commands if isinstance(one, MemoryEdit)]
        assert [(one.item, one.text, one.forget) for one in edits] == [
            (memory, "My sister Lin lives in Bern", False), (correction, "", True),
        ]  # fmt: skip
        await page.keyboard.press("Escape")
        await expect(page.locator("#drawer")).to_be_hidden()
        assert (tab.complaints, tab.strangers) == ([], [])


@pytest.mark.asyncio
async def test_the_place_where_something_was_said_is_opened() -> None:
    told = Told()
    async with remembering(told) as tab:
        page = tab.page
        await tab.enter()
        await tab.ask(SAID)
        [memory] = await stored(tab, SAID)
        told.items = [item(memory, SAID, (await tab.world.store.known_memories("acme", "ada", [memory]))[0].turn)]
        await page.get_by_role("button", name="New conversation").click()
        await tab.ask("Where does Lin live?")
        await page.get_by_role("button", name="Why this answer").click()
        await page.get_by_role("button", name="Where it was said").click()
        await expect(page.locator("#title")).to_have_text(SAID)
        await expect(page.locator(".question")).to_have_text(SAID)
        await expect(page.locator("#drawer")).to_be_hidden()
        await page.get_by_role("button", name="Why this answer").click()
        await expect(page.locator("#drawer .lead")).to_have_text("the log has no recall of this response")


@pytest.mark.asyncio
async def test_habits_are_seen_corrected_muted_and_erased() -> None:
    told = Told()
    async with remembering(told) as tab:
        page, habit = tab.page, habit_id("acme", "ada", "argument", "get_weather/city=Bern")
        seen = Observed(tenant="acme", user="ada", kind="argument", name="get_weather/city=Bern", taken=True, at_ms=1)
        assert await tab.world.store.project(99, 3, [Change(number, seen) for number in (1, 2, 3)])
        await tab.enter()

        async def act(name: str) -> None:
            await page.get_by_role("button", name="Memory", exact=True).click()
            await page.locator(f'[data-memory="{habit}"]').get_by_role("button", name=name, exact=True).click()

        await page.get_by_role("button", name="Memory", exact=True).click()
        await expect(page.locator(".memory-text")).to_have_text(
            "I usually mean Bern as city for get_weather, mostly at night."
        )
        await act("Correct")
        await page.get_by_label("What is so instead").fill("I live in Basel now.")
        await page.get_by_role("button", name="Save").click()
        await until(lambda: _habit(tab, correction="I live in Basel now."))
        await act("Mute")
        await until(lambda: _habit(tab, muted=True))
        await page.get_by_role("button", name="Memory", exact=True).click()
        await expect(page.locator(".memory-state")).to_have_text("muted since")
        await act("Forget")
        await page.get_by_role("button", name="Forget it").click()
        await until(lambda: _none(tab.world.store.habits("acme", "ada")))
        assert tab.complaints == []


@pytest.mark.asyncio
async def test_an_answer_is_rated_and_markup_in_memories_is_text() -> None:
    told = Told()
    told.items = [item("mem_evil", EVIL)]
    told.habits = [RecalledItem(id="habit_evil", layer="procedure", text=EVIL, score=1.0, why=EVIL, about=EVIL)]
    async with visit(told) as tab:
        page = tab.page
        await tab.enter()
        await tab.ask("Where?")
        await page.get_by_role("button", name="Good answer").click()
        given = await tab.world.turns.read(FeedbackGive)
        assert isinstance(given, FeedbackGive)
        assert (given.rating, given.tenant, given.user) == ("good", "acme", "ada")
        await expect(page.get_by_role("button", name="Good answer")).to_have_attribute("aria-pressed", "true")
        await page.get_by_role("button", name="Bad answer").click()
        await expect(page.get_by_role("button", name="Good answer")).to_have_attribute("aria-pressed", "false")
        await page.get_by_role("button", name="Why this answer").click()
        await expect(page.locator(".memory-text")).to_have_text([EVIL, EVIL])
        await expect(page.locator(".memory-state").first).to_have_text("forgotten since")
        assert await page.locator("#drawer script, #drawer img").count() == 0
        assert not await tab.pwned()
        assert tab.complaints == []


@pytest.mark.asyncio
async def test_a_finished_turn_shows_its_time_axis_from_the_log() -> None:
    def script(submit: TurnSubmit) -> list[Line]:
        route = RouteDecided(agent="city", by="embedding", at_ms=AT_MS + 20, took_ms=15.0)
        lines = planned(opened(), written('{"city":"Oslo",'), fired(5), written('"unit":"C"}'), closed(), answered())
        return [Say("turn", route), *(line for line in lines if isinstance(line, Say))]

    ticks = itertools.count()
    async with visit(script, lambda: AT_MS + 30 * next(ticks)) as tab:
        page = tab.page
        await tab.enter()
        await tab.ask("How warm is it in Oslo?")
        await expect(page.locator(".answer")).to_have_text("It is 4 °C.")
        picture = page.locator(".timeline")
        await expect(picture.locator(".row-name")).to_have_text(["route", "plan", "weather", "answer"])
        await picture.get_by_role("button", name="Frames and checks, from the log").click()
        await expect(picture.locator(".row-name")).to_have_text(["route", "plan", "call 0 weather", "answer", "frames"])
        await expect(picture.locator(".told")).to_have_text("900 ms, 20 ms saved")
        await expect(picture.locator(".bar-looking")).to_have_count(1)
        await expect(picture.locator(".bar-written")).to_have_count(1)
        await expect(picture.locator(".bar-running")).to_have_count(1)
        assert await picture.locator(".tick").count() >= 5
        titles = await picture.locator(".bar title").all_text_contents()
        assert any("Oslo" in title for title in titles)
        PICTURES.mkdir(exist_ok=True)
        await picture.screenshot(path=PICTURES / "chat-timeline.png")
        assert tab.complaints == []
