"""MCP servers for tests: the real `mcp-server-time`, and one of our own that can be told to fail and be restarted."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import uvicorn
from mcp.server import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp.types import ToolAnnotations

TIME = f"{Path(sys.executable).with_name('mcp-server-time')} --local-timezone=UTC"


class Desk:
    """Tools with effects of every kind. done: what was done. go: `wait` waits for it."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.started, self.cancelled, self.go = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self.server = MCPServer("front desk")
        tool = self.server.tool

        @tool(annotations=ToolAnnotations(read_only_hint=True))
        async def wait(text: str) -> str:
            """Waits."""
            self.started.set()
            try:
                await self.go.wait()
            except asyncio.CancelledError:
                self.cancelled.set()
                raise
            return text

        @tool(annotations=ToolAnnotations(destructive_hint=True))
        async def shred(paper: str) -> str:
            """Shreds a paper."""
            self.done.append(f"shred {paper}")
            return "shredded"

        @tool(annotations=ToolAnnotations(idempotent_hint=True), structured_output=False)
        async def ring(times: int = 1) -> str:
            """Rings the bell."""
            if times > 3:
                raise ToolError("the bell is tired")
            self.done.append(f"ring {times}")
            return '{"rung": true}'

    @asynccontextmanager
    async def serve(self, port: int = 0) -> AsyncIterator[int]:
        """Over streamable HTTP at /mcp; gives its port."""
        app = self.server.streamable_http_app()
        config = uvicorn.Config(app, port=port, log_level="warning", timeout_graceful_shutdown=1)
        server = uvicorn.Server(config)
        task = asyncio.create_task(server.serve())
        while not server.started:  # noqa: ASYNC110 - uvicorn has no event for it
            await asyncio.sleep(0)
        try:
            yield int(server.servers[0].sockets[0].getsockname()[1])
        finally:
            server.should_exit = True
            await task
