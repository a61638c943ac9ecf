"""What the OpenAI engine has beside the port: the request it sends, and whose fault it says a failure is."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from tests.support.engines import COUNTING, WEATHER, WEATHER_SCHEMA, collect, script
from tests.support.openai_server import OpenAIServer, serve
from workers.generation.engine import EngineError, EngineRefused, EngineRequest, EngineUnavailable, Usage
from workers.generation.openai_engine import OpenAIEngine, OpenAIOptions, whole_characters
from workers.generation.scripted_engine import ScriptedEngine

pytestmark = pytest.mark.asyncio


@pytest_asyncio.fixture
async def server() -> AsyncIterator[tuple[OpenAIServer, str]]:
    application = OpenAIServer(ScriptedEngine(script))
    async with serve(application) as url:
        yield application, url


def request(**fields: Any) -> EngineRequest:
    return EngineRequest(**{"request_id": "1", "model": "scripted", "messages": COUNTING, "max_tokens": 30, **fields})


async def opened(url: str, **options: Any) -> OpenAIEngine:
    made = OpenAIEngine(OpenAIOptions(**{"base_url": url, "model": "scripted", "retries": 0, **options}))
    await made.start()
    return made


async def test_the_request_says_all_that_was_asked(server: tuple[OpenAIServer, str]) -> None:
    application, url = server
    engine = await opened(url)
    await collect(engine, request(temperature=0.5, top_p=0.9, seed=7, stop=["z"]))
    await collect(engine, request(messages=WEATHER, json_schema=WEATHER_SCHEMA, step="plan"))
    plain, forced = application.requests
    assert plain["messages"][-1] == {"role": "user", "content": COUNTING[-1].content}
    assert (plain["temperature"], plain["top_p"], plain["seed"], plain["stop"]) == (0.5, 0.9, 7, ["z"])
    assert (plain["max_tokens"], plain["stream_options"]) == (30, {"include_usage": True})
    assert "response_format" not in plain
    expected = {"name": "plan", "schema": WEATHER_SCHEMA, "strict": True}
    assert forced["response_format"] == {"type": "json_schema", "json_schema": expected}
    await engine.close()


async def test_hidden_tokens_are_counted_and_a_silent_server_is_estimated(server: tuple[OpenAIServer, str]) -> None:
    application, url = server
    application.hidden_tokens = 11
    engine = await opened(url, limit_field="max_completion_tokens")
    answer = await collect(engine, request())
    assert answer.finished.usage.hidden_tokens == 11
    assert answer.finished.usage.completion_tokens == 30 + 11
    assert application.requests[0]["max_completion_tokens"] == 30
    application.reports_usage = False
    answer = await collect(engine, request())
    assert answer.finished.usage == Usage(0, len(answer.deltas))
    await engine.close()


@pytest.mark.parametrize(
    ("status", "fault", "retriable", "code"),
    [
        (400, "caller", False, "engine_refused"),
        (401, "ours", False, "engine_misconfigured"),
        (403, "ours", False, "engine_misconfigured"),
        (404, "ours", False, "engine_misconfigured"),
        (409, "peer", True, "engine_unavailable"),
        (422, "caller", False, "engine_refused"),
        (429, "peer", True, "engine_busy"),
        (500, "peer", True, "engine_unavailable"),
        (503, "peer", True, "engine_unavailable"),
    ],
)
async def test_a_status_names_whose_fault_it_is(
    server: tuple[OpenAIServer, str], status: int, fault: str, retriable: bool, code: str
) -> None:
    application, url = server
    application.refuse_with = status
    engine = await opened(url)
    with pytest.raises(EngineError) as caught:
        await collect(engine, request())
    assert (caught.value.fault, caught.value.retriable, caught.value.code) == (fault, retriable, code)
    assert engine.running() == 0
    await engine.close()


async def test_a_stream_that_is_cut_is_no_answer(server: tuple[OpenAIServer, str]) -> None:
    application, url = server
    application.cut_after = 3
    engine = await opened(url)
    with pytest.raises(EngineUnavailable) as caught:
        await collect(engine, request())
    assert caught.value.retriable
    application.cut_after = None
    assert (await collect(engine, request())).text
    await engine.close()


async def test_ready_means_that_the_server_takes_the_key(server: tuple[OpenAIServer, str]) -> None:
    application, url = server
    engine = await opened(url)
    assert await engine.ready()
    application.api_key = "secret"
    assert not await engine.ready()
    await engine.close()
    assert not await engine.ready()
    known = await opened(url, api_key="secret")
    assert await known.ready()
    application.refuse_with = 404
    assert await known.ready()
    await known.close()


async def test_a_server_that_is_not_there() -> None:
    engine = await opened("http://127.0.0.1:9/v1")
    assert not await engine.ready()
    with pytest.raises(EngineUnavailable, match="cannot be reached"):
        await collect(engine, request())
    await engine.close()
    with pytest.raises(EngineUnavailable, match="closed"):
        await collect(engine, request())


async def test_ids_cannot_be_sent() -> None:
    engine = await opened("http://127.0.0.1:9/v1")
    with pytest.raises(EngineRefused):
        await collect(engine, request(messages=[], prompt_ids=[1]))
    await engine.close()


@pytest.mark.parametrize("cut", range(1, 6))
async def test_halves_of_a_character_are_joined(cut: int) -> None:
    """As they come from a server that cut an escaped pair in two."""
    halves = "ab\ud83c\udf2ac"
    first, carried = whole_characters(halves[:cut])
    second, rest = whole_characters(carried + halves[cut:])
    assert (first + second, rest) == ("ab🌪c", "")
    for text in (first, second):
        text.encode()
