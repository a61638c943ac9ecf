"""The pool of connections to skills' hosts, with one thing that httpcore's own HTTP/2 connection lacks.

When a caller gives an answer up (a cancel, a time limit, an answer cut at its size) an HTTP/1.1 connection is closed,
and the skill sees it. On HTTP/2 the stream must be reset instead, and what had arrived of it must be credited to the
connection's flow-control window; otherwise the skill works on for nobody, and what it goes on sending takes of the
window (16 MiB) for good, until the connection stands still.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterable, AsyncIterator
from typing import Any

import h2.errors
import h2.events
import h2.exceptions
import h11
import httpcore
from httpcore._async.http11 import HTTP11ConnectionByteStream, HTTPConnectionState
from httpcore._models import ByteStream
from httpcore._synchronization import AsyncShieldCancellation


class SkillRequest(httpcore.Request):
    """A request whose headers are bytes already and whose url was parsed before: what httpcore checks of one costs a
    tenth of a millisecond, and our own code wrote this one."""

    def __init__(
        self, url: httpcore.URL, headers: list[tuple[bytes, bytes]], body: bytes, extensions: dict[str, Any],
        method: bytes = b"POST",
    ) -> None:  # fmt: skip
        self.method, self.url, self.headers, self.body, self.extensions = method, url, headers, body, extensions
        self.stream = ByteStream(body)


class ResettingConnection(httpcore.AsyncHTTP2Connection):
    """An HTTP/2 connection that resets the streams that nobody reads to their end."""

    async def _response_closed(self, stream_id: int) -> None:
        """Called once for every request, whatever became of it, shielded from cancellation."""
        unread_bytes = sum(
            event.flow_controlled_length or 0
            for event in self._events.get(stream_id, ())
            if isinstance(event, h2.events.DataReceived)
        )
        with contextlib.suppress(h2.exceptions.ProtocolError):  # the stream, or the whole connection, has ended already
            self._h2_state.reset_stream(stream_id, h2.errors.ErrorCodes.CANCEL)
        with contextlib.suppress(h2.exceptions.ProtocolError):
            if unread_bytes:
                self._h2_state.acknowledge_received_data(unread_bytes, stream_id)
        async with self._write_lock:
            outgoing = self._h2_state.data_to_send()
            if outgoing and self._write_exception is None:
                with contextlib.suppress(httpcore.NetworkError):  # the next request finds the connection gone
                    await self._network_stream.write(outgoing)
        await super()._response_closed(stream_id)


class DirectConnection(httpcore.AsyncHTTP11Connection):
    """An HTTP/1.1 connection whose request leaves in one piece, and before h11 has checked what our own code wrote.

    h11 is told afterwards, so that it reads the answer as ever. Of a request's extensions, `sending` is called before
    its first byte may leave and `sent` once it was handed to the socket.
    """

    async def handle_async_request(self, request: httpcore.Request) -> httpcore.Response:
        """As httpcore's, on one event loop and without its tracing. Raises ConnectionNotAvailable when it is in use."""
        if self._state not in (HTTPConnectionState.NEW, HTTPConnectionState.IDLE):
            raise httpcore.ConnectionNotAvailable
        self._state, self._expire_at = HTTPConnectionState.ACTIVE, None
        self._request_count += 1
        try:
            with contextlib.suppress(httpcore.WriteError):  # a skill may answer before it has read, and hang up
                await self._send(request)
            version, status, reason, headers, _ = await self._receive_response_headers(request)
        except BaseException:
            with AsyncShieldCancellation():
                await self._response_closed()
            raise
        return httpcore.Response(
            status, headers=headers, content=HTTP11ConnectionByteStream(self, request),
            extensions={"http_version": version, "reason_phrase": reason, "network_stream": self._network_stream},
        )  # fmt: skip

    async def _send(self, request: httpcore.Request) -> None:
        if isinstance(request, SkillRequest):
            body = request.body
        else:
            assert isinstance(request.stream, AsyncIterable)
            body = b"".join([chunk async for chunk in request.stream])
        lines = [b"%b %b HTTP/1.1\r\n" % (request.method, request.url.target)]
        lines += [b"%b: %b\r\n" % header for header in request.headers]
        head = b"".join(lines)
        if head.count(b"\n") != len(lines) or head.count(b"\r") != len(lines):
            raise httpcore.LocalProtocolError("a header with a line break")
        told = request.extensions
        try:
            if sending := told.get("sending"):
                sending()
            await self._network_stream.write(b"%b\r\n%b" % (head, body), timeout=told.get("timeout", {}).get("write"))
            if sent := told.get("sent"):
                sent()
        finally:
            self._note(request, body)

    def _note(self, request: httpcore.Request, body: bytes) -> None:
        sent = h11.Request(method=request.method, target=request.url.target, headers=request.headers)
        self._h11_state.send(sent)
        if body:
            self._h11_state.send(h11.Data(data=body))
        self._h11_state.send(h11.EndOfMessage())


class SkillConnection(httpcore.AsyncHTTPConnection):
    """One connection, HTTP/2 where TLS agrees on it."""

    def ready(self, origin: httpcore.Origin) -> bool:
        """It is open to that origin and takes a request now."""
        inner = self._connection
        return inner is not None and self._origin == origin and inner.is_available() and not inner.has_expired()

    async def handle_async_request(self, request: httpcore.Request) -> httpcore.Response:
        if self._connection is not None:  # no lock to wait for: it is there
            return await self._connection.handle_async_request(request)
        try:
            async with self._request_lock:
                if self._connection is None:
                    stream = await self._connect(request)
                    tls = stream.get_extra_info("ssl_object")
                    agreed = tls is not None and tls.selected_alpn_protocol() == "h2"
                    kind = ResettingConnection if agreed else DirectConnection
                    self._connection = kind(self._origin, stream, keepalive_expiry=self._keepalive_expiry)
        except BaseException:
            self._connect_failed = True
            raise
        return await super().handle_async_request(request)


class SkillPool(httpcore.AsyncConnectionPool):
    """Connections by origin, kept open between requests."""

    @contextlib.asynccontextmanager
    async def exchange(self, request: httpcore.Request) -> AsyncIterator[httpcore.Response]:
        """As `stream`, for a request whose headers are whole. It goes straight to an open connection that is free,
        where there is one: the pool's queue is for those that have to wait."""
        response = await self._straight(request) or await self.handle_async_request(request)
        try:
            yield response
        finally:
            await response.aclose()
            if self._requests and any(other.is_queued() for other in self._requests):  # somebody waits for a place
                await self._close_connections(self._assign_requests_to_connections())

    async def _straight(self, request: httpcore.Request) -> httpcore.Response | None:
        origin = request.url.origin
        for connection in self._connections:
            if isinstance(connection, SkillConnection) and connection.ready(origin):
                with contextlib.suppress(httpcore.ConnectionNotAvailable):
                    return await connection.handle_async_request(request)
        return None

    def create_connection(self, origin: httpcore.Origin) -> httpcore.AsyncConnectionInterface:
        return SkillConnection(
            origin, ssl_context=self._ssl_context, keepalive_expiry=self._keepalive_expiry, http1=self._http1,
            http2=self._http2, network_backend=self._network_backend,
        )  # fmt: skip
