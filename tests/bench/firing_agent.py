"""An agent of another framework on the grid of `make bench-firing`; runs in the benchmark's own environment.

`python firing_agent.py langgraph|pydantic_ai BASE_URL` reads one line of JSON for each run from its standard input
(run, cell, skill, delay_ms, at_once: how many run side by side). The first one runs alone, as a warm-up. Both
frameworks are used as their documentation shows: a streaming chat model, one asynchronous tool, calls of a message side
by side; one HTTP client with kept connections for all runs.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import httpx

Ask = Callable[[httpx.AsyncClient, str, Callable[..., Awaitable[str]]], Awaitable[None]]
QUESTION = "Look everything up."


def tool(client: httpx.AsyncClient, base_url: str, skill: str, delay_ms: int) -> Callable[..., Awaitable[str]]:
    async def look_up(item: str, language: str = "en", units: str = "metric", detail: str = "brief") -> str:
        """Looks an item up."""
        body = {"item": item, "language": language, "units": units, "detail": detail}
        return (await client.post(f"{base_url}/skill/{delay_ms}", json=body)).text

    look_up.__name__ = skill
    return look_up


async def langgraph(client: httpx.AsyncClient, model_url: str, look_up: Callable[..., Awaitable[str]]) -> None:
    chat = importlib.import_module("langchain_openai").ChatOpenAI(
        model="scripted", base_url=model_url, api_key="none", streaming=True, max_retries=0, http_async_client=client
    )
    made = importlib.import_module("langchain_core.tools").tool(look_up)
    agent = importlib.import_module("langgraph.prebuilt").create_react_agent(chat, [made])
    await agent.ainvoke({"messages": [("user", QUESTION)]})


async def pydantic_ai(client: httpx.AsyncClient, model_url: str, look_up: Callable[..., Awaitable[str]]) -> None:
    openai = importlib.import_module("pydantic_ai.models.openai")
    provider = importlib.import_module("pydantic_ai.providers.openai").OpenAIProvider(
        base_url=model_url, api_key="none", http_client=client
    )  # fmt: skip
    agent = importlib.import_module("pydantic_ai").Agent(
        openai.OpenAIChatModel("scripted", provider=provider), tools=[look_up]
    )

    async def watch(_: Any, events: Any) -> None:
        async for _event in events:
            pass

    await agent.run(QUESTION, event_stream_handler=watch)


async def main(framework: str, base_url: str) -> None:
    ask: Ask = {"langgraph": langgraph, "pydantic_ai": pydantic_ai}[framework]
    wanted = [json.loads(line) for line in sys.stdin]
    places = {n: asyncio.Semaphore(n) for n in {one["at_once"] for one in wanted}}
    async with httpx.AsyncClient(timeout=60) as client:

        async def one(run: dict[str, Any]) -> None:
            async with places[run["at_once"]]:
                look_up = tool(client, base_url, run["skill"], run["delay_ms"])
                await ask(client, f"{base_url}/model/{run['cell']}/{run['run']}/v1", look_up)

        await one(wanted.pop(0))
        for at_once in sorted(places, reverse=True):
            await asyncio.gather(*(one(run) for run in wanted if run["at_once"] == at_once))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2]))
