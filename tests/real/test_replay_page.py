"""The comparison of two runs as a page, looked at in headless Chromium; the picture is kept as an artefact."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from playwright.async_api import Page, async_playwright, expect

from headstart.diff_commands import diff_of
from headstart.replay.changing import Change
from headstart.replay.diff_html import render_html
from tests.flows.test_replay_live import BETTER, again, eager, models
from tests.real.test_browser import CHROMIUM, EVIL, FLAGS
from tests.support.recordings import recorded_traffic
from tests.support.traffic_cases import BY_NAME
from workers.generation.engine import EngineRequest

PICTURE = Path(__file__).resolve().parent.parent.parent / "bench-results" / "replay-diff.png"
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(
        not Path(CHROMIUM).exists(),
        reason="no Chromium: install it (apt-get install chromium) or name one in HEADSTART_TEST_CHROMIUM",
    ),
]


def evil(request: EngineRequest) -> str:
    return EVIL if request.step == "answer" and "[case chat]" in str(request.messages) else eager(request)


def test_the_page_shows_what_changed_and_runs_nothing(tmp_path: Path) -> None:
    recording = recorded_traffic(6, seed=5, cases=(BY_NAME["two_calls"], BY_NAME["chat"], BY_NAME["chained"]))
    change = Change(prompts={"recruiter/answer": BETTER})
    result = asyncio.run(again(recording, models(evil), change, at_once=8))
    found = diff_of("before.jsonl.gz", recording, "after.jsonl.gz", result)
    file = tmp_path / "diff.html"
    file.write_text(render_html(found))
    asyncio.run(_look(file, found.changed, len(found.turns)))


async def _look(file: Path, changed: int, turns: int) -> None:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        try:
            page = await browser.new_page(viewport={"width": 1100, "height": 1400})
            complaints: list[str] = []
            page.on("pageerror", lambda error: complaints.append(str(error)))
            requested: list[str] = []
            page.on("request", lambda request: requested.append(request.url))
            await page.goto(file.as_uri())
            await expect(page.get_by_role("heading", level=1)).to_have_text(f"{changed} of {turns} turns changed")
            await _sees(page)
            assert complaints == []
            assert requested == [file.as_uri()]
            PICTURE.parent.mkdir(exist_ok=True)
            await page.screenshot(path=PICTURE)
            assert PICTURE.stat().st_size > 10_000
        finally:
            await browser.close()


async def _sees(page: Page) -> None:
    """What changed is visible, words are marked, and a model's text is text."""
    await expect(page.locator("ins", has_text="Bern").first).to_be_visible()
    await expect(page.locator("del", has_text="Rome").first).to_be_visible()
    assert EVIL in await page.inner_text("body")
    assert await page.evaluate("() => window.pwned") is None
    wide, shown = await page.evaluate("() => [document.documentElement.scrollWidth, window.innerWidth]")
    assert wide <= shown
