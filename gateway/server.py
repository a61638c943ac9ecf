"""The gateway as a server: one port for sockets, HTTP and the chat page.

The socket is a plain ASGI callable (half the cost of a wrapped one); everything else is Starlette. `Gateway` runs
inside a process that does other things too (`headstart up`), so it installs no signal handlers: whoever runs it calls
`stop`, which drains: nothing new is begun, sockets are closed with 1012 so that SDKs reconnect elsewhere and resume.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import os
import secrets
import socket
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping, MutableMapping
from functools import partial
from typing import Any, Final
from urllib.parse import parse_qs

import orjson
import uvicorn

from gateway.access import SUBPROTOCOL, Door, key_of
from gateway.connection import GOING_AWAY, HARD_LIMIT, Connection
from gateway.deliveries import Deliveries
from gateway.directory import Directory
from gateway.feed import Feed
from gateway.http_app import http_app
from gateway.http_protocol import HttpProtocol
from gateway.intake import Intake
from gateway.limits import Limits
from gateway.metrics import Metrics
from gateway.replies import error_body, status_of
from gateway.roster import Roster
from gateway.services import Services
from gateway.socket_protocol import SocketProtocol
from memory.store import Store
from streams.bus import Bus
from streams.errors import HeadstartError, NotFound, Refused
from streams.listening import listen
from streams.settings import Settings

log = logging.getLogger(__name__)
SOCKET_PATH: Final = "/v1/responses"
DEV_SECRET: Final = b"development only: conversation ids certified with this may be made by anyone"
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers: signals belong to the process."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class Gateway:
    """One gateway. `start` returns once it listens; `port` is the port it got; `stop` drains and ends it."""

    def __init__(
        self, settings: Settings, bus: Bus, store: Store, *, limits: Limits | None = None,
        now_ms: Callable[[], int] | None = None, name: str = "",
    ) -> None:  # fmt: skip
        limits = limits or Limits()
        now_ms = now_ms or _wall_clock_ms
        self.name = name or f"gateway/{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"
        self._settings = settings
        seed = int.from_bytes(hashlib.sha256(self.name.encode()).digest()[:4], "big")
        feed = Feed(bus, store, limits, now_ms, seed)
        secret = settings.signing_key.encode() if settings.signing_key else DEV_SECRET
        directory = Directory(store, feed, now_ms, secret)
        self.services = Services(
            bus=bus, store=store, feed=feed, directory=directory,
            intake=Intake(bus, store, feed, directory, now_ms, secrets.token_bytes, self.name, settings.signing_key),
            door=Door(store, limits, now_ms, settings.origins), roster=Roster(bus, now_ms), limits=limits,
            deliveries=Deliveries(bus, now_ms, secrets.token_bytes, self.name),
            metrics=Metrics(), now_ms=now_ms,
        )  # fmt: skip
        self._http = http_app(self.services)
        self.connections: set[Connection] = set()  # open sockets
        self._sockets_of: Counter[str] = Counter()  # key id -> its open sockets
        self._server: _Server | None = None
        self._serving: asyncio.Task[None] | None = None
        self.port = 0

    async def start(self) -> None:
        """Raises Misconfigured or OSError when the port can not be had; the bus and the store must be open."""
        await self.services.feed.start()
        await self.services.roster.start()
        listener = listen(self._settings.host, self._settings.port)
        self.port = listener.getsockname()[1]
        limits = self.services.limits
        config = uvicorn.Config(
            self.app, ws=SocketProtocol, ws_per_message_deflate=False, ws_max_size=HARD_LIMIT * limits.frame_bytes,
            http=partial(HttpProtocol, limits=limits, begun={}),  # type: ignore[arg-type]
            interface="asgi3", proxy_headers=False, loop="none", lifespan="off", log_config=None,
            log_level="warning",  # its "info" lines hold the query, and a browser's key is in there
            access_log=False, server_header=False, date_header=False,
            timeout_graceful_shutdown=max(1, limits.drain_ms // 1000),
        )  # fmt: skip
        self._server = _Server(config)
        self._serving = asyncio.create_task(self._server.serve(sockets=[listener]))
        while not self._server.started:
            if self._serving.done():
                await self._serving
                raise OSError("the server ended before it listened")
            await asyncio.sleep(0.005)
        log.info("gateway %s listens on %s:%d", self.name, self._settings.host, self.port)

    async def stop(self) -> None:
        """Begins nothing new, closes sockets with 1012, lets HTTP responses end for `drain_ms`, then ends."""
        self.services.draining = True
        await asyncio.gather(*(connection.close(GOING_AWAY) for connection in tuple(self.connections)))
        if self._server is not None and self._serving is not None:
            self._server.should_exit = True
            await self._serving
        await self.services.deliveries.stop()
        await self.services.roster.stop()
        await self.services.feed.stop()

    async def failed(self) -> None:
        """Returns when the server has ended; raises what ended it. A cancel leaves the server alone."""
        assert self._serving is not None
        await asyncio.shield(self._serving)

    async def app(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """The ASGI application."""
        if scope["type"] == "websocket":
            await self._socket(scope, receive, send)
        else:
            await self._http(scope, receive, send)

    async def _socket(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        await receive()  # websocket.connect
        try:
            connection, after = await self._admit(scope, send)
        except HeadstartError as error:
            self.services.metrics.errors.labels(error.code).inc()
            await _refuse(error, send)
            return
        key_id = connection.key_id
        self.connections.add(connection)
        self._sockets_of[key_id] += 1
        self.services.metrics.sockets.inc()
        try:
            await connection.run(receive, after)
        finally:
            self.connections.discard(connection)
            self._sockets_of[key_id] -= 1
            if not self._sockets_of[key_id]:
                del self._sockets_of[key_id]
            self.services.metrics.sockets.dec()

    async def _admit(self, scope: Mapping[str, Any], send: Send) -> tuple[Connection, list[str]]:
        """Checks the handshake and accepts it; gives the connection and the cursors it asks for.

        On its own so that headers and query do not live as long as the socket.
        """
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        query = scope["query_string"].decode("latin-1")
        services, offered = self.services, scope["subprotocols"]
        if scope["path"].rstrip("/") != SOCKET_PATH:
            raise NotFound(f"the socket is at {SOCKET_PATH}", code="no_such_path")
        services.door.check_origin(headers)
        if services.draining:
            raise Refused("this gateway is stopping", code="draining")
        if len(self.connections) >= services.limits.sockets:
            raise Refused("this gateway has all the sockets it can hold", code="too_many_requests")
        principal = await services.door.admit(key_of(headers, query, offered))
        if self._sockets_of[principal.key_id] >= services.limits.sockets_per_key:
            raise Refused("this key has all the sockets it may hold here", code="too_many_requests")
        chosen = next((name for name in offered if not name.startswith(SUBPROTOCOL)), next(iter(offered), None))
        await send({"type": "websocket.accept", "subprotocol": chosen})
        parameters = parse_qs(query)
        after = parameters.get("after", []) + parameters.get("after[]", [])
        return Connection(services, principal, send), after[: services.limits.attached]


async def _refuse(error: HeadstartError, send: Send) -> None:
    """Answers the handshake with the error's status and body instead of a socket."""
    body = orjson.dumps({"error": error_body(error)})
    headers = [(b"content-type", b"application/json")]
    try:
        await send({"type": "websocket.http.response.start", "status": status_of(error), "headers": headers})
        await send({"type": "websocket.http.response.body", "body": body})
    except OSError:
        return  # it has gone already


def _wall_clock_ms() -> int:
    return time.time_ns() // 1_000_000
