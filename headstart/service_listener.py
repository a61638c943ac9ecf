"""The HTTP server of a service: uvicorn on a socket that is open before anybody is told of it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from typing import Final

import uvicorn
from starlette.types import ASGIApp

from streams.errors import Misconfigured
from streams.listening import BACKLOG

KEEP_ALIVE_S: Final = 310  # longer than callers keep idle connections, so that a warm one is not closed under a request
STOP_S: Final = 5


class Listener:
    """One running server. socket: bound and listening; closed with it."""

    def __init__(self, name: str, app: ASGIApp, listening: socket.socket) -> None:
        config = uvicorn.Config(
            app, http="httptools", ws="none", lifespan="off", log_config=None, access_log=False,
            timeout_keep_alive=KEEP_ALIVE_S, timeout_graceful_shutdown=STOP_S, backlog=BACKLOG,
        )  # fmt: skip
        self._server = _Server(config)
        self.serving = asyncio.create_task(self._server.serve(sockets=[listening]), name=f"service {name}")

    async def ready(self) -> None:
        """Returns when it accepts connections; raises what ended it before."""
        waiting = asyncio.create_task(self._server.listening.wait())
        await asyncio.wait({self.serving, waiting}, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        if self.serving.done():
            await self.serving
            raise Misconfigured("the service ended before it listened")

    async def stop(self) -> None:
        """Finishes requests (at most 5 s) and stops listening."""
        self._server.should_exit = True
        await asyncio.gather(self.serving, return_exceptions=True)


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers: whoever runs the service decides about signals."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listening = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.listening.set()
