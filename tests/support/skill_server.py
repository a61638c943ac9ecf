"""A small real HTTP server with skills, for flows: answers at once, or when a test lets it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import orjson
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from streams.events.registering import SkillManifest


class SkillServer:
    """Counts arrivals by skill; `hold` makes calls of a skill wait until `release`. takes_s: by skill, how long it
    works on each call, by the loop's clock."""

    def __init__(self) -> None:
        self.port = 0
        self.arrivals: list[tuple[str, dict[str, Any], str]] = []
        self.arrived = asyncio.Event()
        self.takes_s: dict[str, float] = {}
        self._held: dict[str, asyncio.Event] = {}

    def hold(self, skill: str) -> None:
        self._held[skill] = asyncio.Event()

    def release(self, skill: str) -> None:
        self._held.pop(skill).set()

    def manifest(self, name: str, parameter: str, **more: Any) -> SkillManifest:
        place = f"127.0.0.1:{self.port}"
        parameters = {
            "type": "object",
            "properties": {parameter: {"type": "string"}},
            "required": [parameter],
            "additionalProperties": False,
        }
        values: dict[str, Any] = {
            "name": name, "version": "1", "description": name.replace("_", " "), "parameters": parameters,
            "owner": "test", "url": f"http://{place}/{name}", "hosts": (place,), "timeout_ms": 5_000,
        } | more  # fmt: skip
        return SkillManifest(**values)

    async def _answer(self, request: Request) -> JSONResponse:
        skill = request.path_params["skill"]
        arguments = orjson.loads(await request.body())
        self.arrivals.append((skill, arguments, request.headers.get("idempotency-key", "")))
        self.arrived.set()
        if held := self._held.get(skill):
            await held.wait()
        await asyncio.sleep(self.takes_s.get(skill, 0))
        return JSONResponse({"skill": skill, **arguments})


@asynccontextmanager
async def skill_server() -> AsyncIterator[SkillServer]:
    """A running server on a free port."""
    state = SkillServer()
    app = Starlette(routes=[Route("/{skill}", state._answer, methods=["POST"])])
    config = uvicorn.Config(app, port=0, log_level="warning", lifespan="off", timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110 - uvicorn has no event for it
        await asyncio.sleep(0)
    state.port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield state
    finally:
        server.should_exit = True
        await task
