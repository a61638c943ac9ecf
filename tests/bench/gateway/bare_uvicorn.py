"""The gateway's own server with nothing behind it: `python -m tests.bench.gateway.bare_uvicorn PORT`."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import uvicorn

from gateway.socket_protocol import SocketProtocol
from streams.process import new_event_loop


async def wait(
    scope: MutableMapping[str, Any], receive: Callable[[], Awaitable[Any]], send: Callable[[Any], Awaitable[None]]
) -> None:
    """Accepts a socket and waits until it is gone."""
    await receive()
    await send({"type": "websocket.accept"})
    while (await receive())["type"] != "websocket.disconnect":
        pass


if __name__ == "__main__":
    config = uvicorn.Config(
        wait, host="127.0.0.1", port=int(sys.argv[1]), ws=SocketProtocol, ws_per_message_deflate=False, loop="none",
        lifespan="off", log_level="warning", access_log=False, server_header=False, date_header=False,
    )  # fmt: skip
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(uvicorn.Server(config).serve())
