"""The chat page's files as the gateway serves them."""

from __future__ import annotations

import re

import httpx
import pytest

from gateway.http_app import WEB
from gateway.pages import HEADERS
from tests.support.live_gateway import live_gateways, url_of


@pytest.mark.asyncio
async def test_every_file_of_the_page_is_served_under_the_policy() -> None:
    async with live_gateways() as world:
        gateway = await world.open()
        async with httpx.AsyncClient(base_url=url_of(gateway)) as client:
            for path in ("/", *(f"/web/{file.name}" for file in WEB.iterdir())):
                answer = await client.get(path)
                assert answer.status_code == 200, path
                assert {name: answer.headers.get(name) for name in HEADERS} == HEADERS
                again = await client.get(path, headers={"If-None-Match": answer.headers["etag"]})
                assert again.status_code == 304
                assert again.headers["Content-Security-Policy"] == HEADERS["Content-Security-Policy"]
            assert (await client.get("/web/../server.py")).status_code == 404
            assert (await client.get("/web/%2e%2e/server.py")).status_code == 404
            script = await client.get("/web/app.js")
            assert script.headers["content-type"].startswith("text/javascript")


def test_the_page_holds_no_inline_code_and_names_no_other_host() -> None:
    page = (WEB / "index.html").read_text()
    assert not re.search(r"<script(?![^>]*\bsrc=)|\son\w+=|\sstyle=|javascript:", page)
    told = HEADERS["Content-Security-Policy"].removesuffix("; frame-ancestors 'none'")
    assert f'content="{told}"' in page
    for file in WEB.iterdir():
        text = file.read_text()
        hosts = set(re.findall(r"https?://[^\s\"'`)]+", text)) - {"http://www.w3.org/2000/svg"}
        assert hosts == set(), file.name
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(", text), file.name
