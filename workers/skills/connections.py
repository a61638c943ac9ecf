"""The pool of connections to skills' hosts, with one thing that httpcore's own HTTP/2 connection lacks.

When a caller gives an answer up (a cancel, a time limit, an answer cut at its size) an HTTP/1.1 connection is closed,
and the skill sees it. On HTTP/2 the stream must be reset instead, and what had arrived of it must be credited to the
connection's flow-control window; otherwise the skill works on for nobody, and what it goes on sending takes of the
window (16 MiB) for good, until the connection stands still.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterable

import h2.errors
import h2.events
import h2.exceptions
import h11
import httpcore


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

    h11 is told afterwards, so that it reads the answer as ever. The extension `sent` of a request is called once the
    request was handed to the socket.
    """

    async def _send_request_headers(self, request: httpcore.Request) -> None:
        assert isinstance(request.stream, AsyncIterable)
        body = b"".join([chunk async for chunk in request.stream])
        lines = [b"%b %b HTTP/1.1\r\n" % (request.method, request.url.target)]
        lines += [b"%b: %b\r\n" % header for header in request.headers]
        head = b"".join(lines)
        if head.count(b"\n") != len(lines) or head.count(b"\r") != len(lines):
            raise httpcore.LocalProtocolError("a header with a line break")
        try:
            timeout = request.extensions.get("timeout", {}).get("write")
            await self._network_stream.write(b"%b\r\n%b" % (head, body), timeout=timeout)
            if told := request.extensions.get("sent"):
                told()
        finally:
            self._note(request, body)

    def _note(self, request: httpcore.Request, body: bytes) -> None:
        sent = h11.Request(method=request.method, target=request.url.target, headers=request.headers)
        self._h11_state.send(sent)
        if body:
            self._h11_state.send(h11.Data(data=body))
        self._h11_state.send(h11.EndOfMessage())

    async def _send_request_body(self, request: httpcore.Request) -> None:
        """It left with the headers."""


class SkillConnection(httpcore.AsyncHTTPConnection):
    """One connection, HTTP/2 where TLS agrees on it."""

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

    def create_connection(self, origin: httpcore.Origin) -> httpcore.AsyncConnectionInterface:
        return SkillConnection(
            origin, ssl_context=self._ssl_context, keepalive_expiry=self._keepalive_expiry, http1=self._http1,
            http2=self._http2, network_backend=self._network_backend,
        )  # fmt: skip
