"""The chat page in headless Chromium, served by a real gateway; a script holds the turn until the page has shown it."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from playwright.async_api import Page, async_playwright, expect

from gateway.limits import Limits
from gateway.server import Gateway
from streams.events import Usage, calling, generating, recalling
from streams.events.intake import ConversationEdit, TurnCancel, TurnSubmit
from tests.support.live_gateway import LiveGateways, live_gateways, url_of
from tests.support.turn_script import AT_MS, Hold, Line, Say, Script, answer, completed, echo

CHROMIUM = os.environ.get("HEADSTART_TEST_CHROMIUM") or shutil.which("chromium") or "/usr/bin/chromium"
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update",
    "--disable-sync", "--no-first-run",
)  # fmt: skip
EVIL = '<script>window.pwned = 1</script><img src="x" onerror="window.pwned = 1">'
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(
        not Path(CHROMIUM).exists(),
        reason="no Chromium: install it (apt-get install chromium) or name one in HEADSTART_TEST_CHROMIUM",
    ),
]


class Visit:
    """One browser tab on the page, and everything it complained about or asked other hosts for."""

    def __init__(self, page: Page, gateway: Gateway, world: LiveGateways) -> None:
        self.page = page
        self.gateway = gateway
        self.world = world
        self.complaints: list[str] = []
        self.strangers: list[str] = []
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("console", lambda told: self.complaints.append(told.text) if told.type == "error" else None)
        page.on("request", lambda request: self._requested(request.url))

    def _requested(self, url: str) -> None:
        if not url.startswith((url_of(self.gateway), "data:")):
            self.strangers.append(url)

    async def enter(self) -> None:
        await self.page.goto(url_of(self.gateway))
        await self.page.get_by_role("textbox", name="Key").fill(self.world.key)
        await self.page.get_by_role("button", name="Connect").click()
        await expect(self.page.locator("#state")).to_have_text("connected")

    async def ask(self, question: str) -> None:
        await self.page.get_by_label("Your question").fill(question)
        await self.page.keyboard.press("Enter")

    async def pwned(self) -> bool:
        return bool(await self.page.evaluate("() => window.pwned === 1"))


@asynccontextmanager
async def visit(script: Script = echo, now_ms: Callable[[], int] | None = None) -> AsyncIterator[Visit]:
    """now_ms: the time at which the log takes its next record."""
    async with live_gateways(script, Limits(drain_ms=1000), now_ms) as world, async_playwright() as playwright:
        gateway = await world.open()
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        try:
            yield Visit(await browser.new_page(), gateway, world)
        finally:
            await browser.close()


def planned(*lines: Line) -> list[Line]:
    """A plan around these lines, held at "plan" before its end, then an answer."""
    return [
        Say("plan", generating.PlanStarted(model="scripted", engine="scripted", at_ms=AT_MS + 100)),
        *lines,
        Hold("plan"),
        Say("plan", generating.PlanFinished(reason="stop", usage=Usage(prompt=30, completion=9), at_ms=AT_MS + 400)),
        *answer(["It is ", "4 °C."]),
        completed(saved_ms=20.0, oracle_ms=25.0),
    ]


def opened(call: int = 0, skill: str = "weather") -> Say:
    return Say("turn", calling.CallOpened(call=call, skill=skill, token=2, at_ms=AT_MS + 120))


def written(text: str, call: int = 0) -> Say:
    return Say("turn", calling.CallArguments(call=call, text=text))


def fired(token: int, claim: int = 1, call: int = 0, arguments: dict[str, str] | None = None) -> Say:
    fact = calling.CallFired(
        call=call, skill="weather", arguments=arguments or {"city": "Oslo"}, effect="pure", claim=claim, token=token,
        at_ms=AT_MS + 130, written=token >= 0,
    )  # fmt: skip
    return Say(f"call.{call}", fact)


def closed(call: int = 0) -> Say:
    fact = calling.CallClosed(call=call, skill="weather", arguments={"city": "Oslo"}, token=8, at_ms=AT_MS + 150)
    return Say("turn", fact)


def answered(result: str = '{"celsius":4}', call: int = 0) -> Say:
    fact = calling.CallAnswered(call=call, result=result, status=200, took_ms=40.0, at_ms=AT_MS + 170)
    return Say(f"call.{call}", fact)


@pytest.mark.asyncio
async def test_the_answer_streams_and_nothing_else_is_loaded() -> None:
    def script(submit: TurnSubmit) -> list[Line]:
        return [*answer(["one ", "two ", "three"], hold_after=2), completed()]

    async with visit(script) as tab:
        await tab.enter()
        await tab.ask("Count to three")
        shown = tab.page.locator(".answer")
        await expect(shown).to_have_text("one two ")
        await expect(shown).to_have_attribute("aria-busy", "true")
        await expect(tab.page.get_by_role("button", name="Stop")).to_be_visible()
        tab.world.turns.release("answer")
        await expect(shown).to_have_text("one two three")
        await expect(shown).to_have_attribute("aria-busy", "false")
        await expect(tab.page.get_by_role("button", name="Stop")).to_be_hidden()
        await expect(tab.page.locator(".question")).to_have_text("Count to three")
        assert await tab.page.evaluate("() => location.search") == ""
        assert (tab.complaints, tab.strangers) == ([], [])


@pytest.mark.asyncio
async def test_a_calls_fired_mark_is_there_before_the_plans_end() -> None:
    def script(submit: TurnSubmit) -> list[Line]:
        return planned(
            opened(), written('{"city":"Oslo",'), Hold("written"), fired(5), Hold("fired"),
            written('"unit":"C"}'), closed(),
        )  # fmt: skip

    async with visit(script) as tab:
        await tab.enter()
        await tab.ask("How warm is it in Oslo?")
        card = tab.page.locator(".call")
        await expect(card.locator(".arguments")).to_have_text('{"city":"Oslo",')
        await expect(card.locator(".badge")).to_have_text("writing")
        await expect(card.locator(".fired-mark")).to_be_hidden()
        tab.world.turns.release("written")
        # The script holds: neither the rest of the arguments nor the plan's end has been written to the log.
        await expect(card.locator(".fired-mark")).to_have_text("⚡ 5")
        await expect(card.locator(".fired")).to_have_text("fired at token 5, while it was being written")
        await expect(card.locator(".arguments")).to_have_text('{"city":"Oslo",⚡ 5')
        await expect(card.locator(".badge")).to_have_text("running")
        await expect(tab.page.locator("#announce")).to_have_text("weather runs while it is still written")
        await expect(tab.page.locator(".timeline .bar-running")).to_have_count(1)
        assert await tab.page.locator(".answer").text_content() == ""
        tab.world.turns.release("fired")
        await expect(card.locator(".arguments")).to_have_text('{"city":"Oslo",⚡ 5"unit":"C"}')
        tab.world.turns.release("plan")
        await expect(tab.page.locator(".answer")).to_have_text("It is 4 °C.")
        await expect(tab.page.locator(".end")).to_have_text("900 ms · 20 ms saved of at most 25")
        assert tab.complaints == []


@pytest.mark.asyncio
async def test_a_call_is_answered_voided_and_failed() -> None:
    def script(submit: TurnSubmit) -> list[Line]:
        failed = calling.CallFailed(call=2, code="peer_timeout", message="late", at_ms=AT_MS + 300, took_ms=90.0)
        voided = calling.CallVoided(call=1, reason="late_argument", at_ms=AT_MS + 200)
        return planned(
            opened(0), written('{"city":"Oslo"}', 0), fired(5, call=0), closed(0), answered(call=0),
            opened(1), written('{"city":"Rome"', 1), fired(6, call=1), Say("turn", voided),
            opened(2), fired(-1, call=2), Say("call.2", failed),
        )  # fmt: skip

    async with visit(script) as tab:
        await tab.enter()
        await tab.ask("How warm is it?")
        cards = tab.page.locator(".call")
        await expect(cards.locator(".badge")).to_have_text(["answered", "voided", "failed"])
        await expect(cards.locator(".outcome")).to_have_text(
            ["answered 200 in 40 ms", "voided: late_argument", "failed: peer_timeout"]
        )
        await expect(cards.nth(2).locator(".fired")).to_have_text("fired once written")
        await cards.nth(0).get_by_text("Result").click()
        await expect(cards.nth(0).locator("pre")).to_have_text('{"celsius":4}')


@pytest.mark.asyncio
@pytest.mark.parametrize("how", ["button", "escape"])
async def test_stop_cancels_and_keeps_what_was_said(how: str) -> None:
    def script(submit: TurnSubmit) -> list[Line]:
        return [*answer(["one ", "two ", "three"], hold_after=2), completed()]

    async with visit(script) as tab:
        await tab.enter()
        await tab.ask("Count")
        await expect(tab.page.locator(".answer")).to_have_text("one two ")
        if how == "button":
            await tab.page.get_by_role("button", name="Stop").click()
        else:
            await tab.page.keyboard.press("Escape")
        await tab.world.turns.read(TurnCancel)
        await expect(tab.page.locator(".end")).to_contain_text("stopped")
        await expect(tab.page.locator(".answer")).to_have_text("one two ")
        await expect(tab.page.get_by_role("button", name="Stop")).to_be_hidden()


@pytest.mark.asyncio
async def test_markup_is_shown_as_text_wherever_it_comes_from() -> None:
    def script(submit: TurnSubmit) -> list[Line]:
        recalled = recalling.Recalled(
            items=(recalling.RecalledItem(id="m", layer="fact", text=EVIL, score=1.0),), history=(), at_ms=AT_MS + 10
        )
        lines = planned(opened(skill=EVIL), written(EVIL), fired(3, arguments={"city": EVIL}), answered(EVIL))
        return [
            Say("turn", recalled), *(line for line in lines[:-3] if not isinstance(line, Hold)), *answer([EVIL])[1:],
            completed(),
        ]  # fmt: skip

    async with visit(script) as tab:
        await tab.enter()
        await tab.ask(EVIL)
        await expect(tab.page.locator(".answer")).to_contain_text(EVIL)
        await expect(tab.page.locator(".question")).to_have_text(EVIL)
        await expect(tab.page.locator(".call .arguments")).to_contain_text(EVIL)
        await expect(tab.page.locator(".call pre")).to_have_text(EVIL)
        await expect(tab.page.locator(".list .open")).to_have_text(EVIL)
        assert await tab.page.locator(".turn script, .turn img, .list script, .list img").count() == 0
        assert not await tab.pwned()
        assert tab.complaints == []


@pytest.mark.asyncio
async def test_the_page_comes_back_to_a_restarted_gateway_and_goes_on() -> None:
    def script(submit: TurnSubmit) -> list[Line]:
        return [*answer([f"{number} " for number in range(20)], hold_after=8), completed()]

    async with visit(script) as tab:
        await tab.enter()
        await tab.ask("Count")
        await expect(tab.page.locator(".answer")).to_have_text("0 1 2 3 4 5 6 7 ")
        port = tab.gateway.port
        await tab.world.close(tab.gateway)
        await expect(tab.page.locator("#state")).not_to_have_text("connected")
        tab.world.turns.release("answer")  # the rest is said while nobody listens
        await tab.world.open(port)
        await expect(tab.page.locator(".answer")).to_have_text("".join(f"{number} " for number in range(20)))
        await expect(tab.page.locator("#state")).to_have_text("connected")


@pytest.mark.asyncio
async def test_a_reload_shows_the_conversation_again() -> None:
    def script(submit: TurnSubmit) -> list[Line]:
        return [opened(), written('{"city":"Oslo"}'), fired(5), closed(), answered(), *answer(["4 °C"]), completed()]

    async with visit(script) as tab:
        await tab.enter()
        await tab.ask("How warm is it?")
        await expect(tab.page.locator(".answer")).to_have_text("4 °C")
        await expect(tab.page.locator(".end")).to_be_visible()
        await tab.page.reload()
        await expect(tab.page.locator(".answer")).to_have_text("4 °C")
        await expect(tab.page.locator(".question")).to_have_text("How warm is it?")
        await expect(tab.page.locator(".call .badge")).to_have_text("answered")
        await expect(tab.page.locator("#title")).to_have_text("How warm is it?")
        await tab.ask("And now?")
        await expect(tab.page.locator(".answer")).to_have_text(["4 °C", "4 °C"])
        assert (
            len({command.conversation for command in tab.world.turns.commands if isinstance(command, TurnSubmit)}) == 1
        )
        assert tab.complaints == []


@pytest.mark.asyncio
async def test_a_wrong_key_is_asked_for_again_and_a_key_in_the_address_is_taken_out_of_it() -> None:
    async with visit() as tab:
        await tab.page.goto(url_of(tab.gateway) + "/?key=hs_wrong")
        await expect(tab.page.locator("#key-wrong")).to_be_visible()
        assert "key" not in tab.page.url
        await tab.page.goto(url_of(tab.gateway) + f"/?key={tab.world.key}")
        await expect(tab.page.locator("#state")).to_have_text("connected")
        assert tab.world.key not in tab.page.url
        await tab.ask("hello there")
        await expect(tab.page.locator(".answer")).to_have_text("hello there")


@pytest.mark.asyncio
async def test_an_approval_is_asked_for_and_its_answer_opens_the_next_turn() -> None:
    def script(submit: TurnSubmit) -> list[Line]:
        if submit.input[0].kind == "approval":
            return [*answer(["Sent."]), completed()]
        asked = calling.ApprovalAsked(
            call=0, skill="send_mail", arguments={"to": "lin@example.org"}, request="mcpr_1", at_ms=AT_MS + 200,
            expires_at_ms=AT_MS + 86_400_000,
        )  # fmt: skip
        return [Say("turn", asked), completed(awaiting="approval")]

    async with visit(script) as tab:
        await tab.enter()
        await tab.ask("Write to Lin")
        await expect(tab.page.locator(".approval p")).to_have_text('May send_mail run with {"to":"lin@example.org"}?')
        await tab.page.get_by_role("button", name="Approve").click()
        await expect(tab.page.locator(".answer", has_text="Sent.")).to_be_visible()
        submits = [command for command in tab.world.turns.commands if isinstance(command, TurnSubmit)]
        assert (submits[1].input[0].call_id, submits[1].input[0].approve) == ("mcpr_1", True)
        assert submits[1].conversation == submits[0].conversation


@pytest.mark.asyncio
async def test_conversations_are_switched_renamed_and_deleted() -> None:
    async with visit() as tab:
        await tab.enter()
        await tab.ask("first question")
        await expect(tab.page.locator(".answer")).to_have_text("first question")
        await tab.page.get_by_role("button", name="New conversation").click()
        await expect(tab.page.locator(".turn")).to_have_count(0)
        await tab.ask("second question")
        await expect(tab.page.locator(".answer")).to_have_text("second question")
        await tab.page.get_by_role("button", name="first question", exact=True).click()
        await expect(tab.page.locator(".answer")).to_have_text("first question")
        await tab.page.locator(".list li").filter(has_text="first question").hover()
        await tab.page.get_by_role("button", name="Rename first question").click()
        await tab.page.get_by_role("textbox", name="Title").fill("Kafka people")
        await tab.page.get_by_role("button", name="Rename", exact=True).click()
        await expect(tab.page.locator("#title")).to_have_text("Kafka people")
        await tab.world.turns.read(ConversationEdit)
        await tab.page.locator(".list li").filter(has_text="Kafka people").hover()
        await tab.page.get_by_role("button", name="Delete Kafka people").click()
        await tab.page.get_by_role("button", name="Delete", exact=True).click()
        await expect(tab.page.locator(".list .open")).to_have_text(["second question"])
        await expect(tab.page.locator("#title")).to_have_text("New conversation")
        assert tab.complaints == []
