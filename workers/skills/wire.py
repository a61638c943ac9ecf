"""A connection to a skill's host with as little as possible between a request and the socket.

httpcore's own stream goes through a portable layer that opens a cancel scope, walks its attributes and lets the event
loop turn once for every write, and asks the system whether an idle connection was closed before every request. Here a
write goes to the transport at once, and the connection knows by itself that its end came. One event loop; a cancel
while reading or writing leaves the connection as it is, and httpcore closes it.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Iterable
from typing import Any, Final, cast

import httpcore

BUFFERED_BYTES: Final = 256 * 1024  # unread bytes beyond this stop the transport from reading on


class Wire(asyncio.Protocol):
    """What has arrived, and what state the two directions are in."""

    def __init__(self) -> None:
        self.arrived = bytearray()
        self.ended = False  # nothing will arrive any more
        self.lost = False  # nothing can be sent any more
        self.failure: Exception | None = None  # why it was lost; None when it was closed in order
        self.transport: asyncio.Transport | None = None
        self._paused_reading = False
        self._readable: asyncio.Future[None] | None = None
        self._writable: asyncio.Future[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self.arrived += data
        _wake(self._readable)
        if len(self.arrived) > BUFFERED_BYTES and not self._paused_reading and self.transport is not None:
            self._paused_reading = True
            self.transport.pause_reading()

    def eof_received(self) -> bool:
        self.ended = True
        _wake(self._readable)
        return False

    def connection_lost(self, error: Exception | None) -> None:
        self.ended = self.lost = True
        self.failure = error
        _wake(self._readable)
        _wake(self._writable)

    def pause_writing(self) -> None:
        self._writable = asyncio.get_running_loop().create_future()

    def resume_writing(self) -> None:
        _wake(self._writable)
        self._writable = None

    @property
    def full(self) -> bool:
        """The transport wants no more for now."""
        return self._writable is not None

    async def readable(self) -> None:
        """Returns when something has arrived or nothing will."""
        if not self.arrived and not self.ended:
            self._readable = asyncio.get_running_loop().create_future()
            try:
                await self._readable
            finally:
                self._readable = None

    async def writable(self) -> None:
        """Returns when the transport wants more, or takes nothing more."""
        if self._writable is not None and not self.lost:
            await asyncio.shield(self._writable)

    def take(self, limit: int) -> bytes:
        """At most `limit` of the bytes that have arrived; b"" when there are none."""
        taken = bytes(self.arrived[:limit])
        del self.arrived[:limit]
        if self._paused_reading and len(self.arrived) <= BUFFERED_BYTES // 2 and self.transport is not None:
            self._paused_reading = False
            self.transport.resume_reading()
        return taken


class WireStream(httpcore.AsyncNetworkStream):
    """httpcore's stream over a Wire. Times out, and fails, with httpcore's own errors."""

    def __init__(self, wire: Wire, transport: asyncio.Transport) -> None:
        self._wire, self._transport = wire, transport

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        wire = self._wire
        if not wire.arrived and not wire.ended:
            try:
                async with asyncio.timeout(timeout):
                    await wire.readable()
            except TimeoutError as error:
                raise httpcore.ReadTimeout("nothing arrived in time") from error
        if not wire.arrived and wire.failure is not None:
            raise httpcore.ReadError("the connection was lost") from wire.failure
        return wire.take(max_bytes)

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        wire = self._wire
        if not buffer:
            return
        if wire.lost or self._transport.is_closing():
            raise httpcore.WriteError("the connection was lost")
        self._transport.write(buffer)
        if not wire.full:
            return
        try:
            async with asyncio.timeout(timeout):
                await wire.writable()
        except TimeoutError as error:
            raise httpcore.WriteTimeout("the other side takes nothing") from error

    async def aclose(self) -> None:
        self._transport.abort() if self._wire.lost else self._transport.close()

    async def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.AsyncNetworkStream:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(timeout):
                secure = await loop.start_tls(
                    self._transport, self._wire, ssl_context, server_hostname=server_hostname
                )  # fmt: skip
        except TimeoutError as error:
            self._transport.abort()
            raise httpcore.ConnectTimeout("TLS was not agreed on in time") from error
        except OSError as error:  # ssl.SSLError is one
            self._transport.abort()
            raise httpcore.ConnectError("TLS was not agreed on") from error
        assert secure is not None
        self._wire.transport = secure
        return WireStream(self._wire, secure)

    def get_extra_info(self, info: str) -> Any:
        if info == "is_readable":  # asked about an idle connection: whether it has ended, or says what nobody asked for
            return bool(self._wire.arrived) or self._wire.ended or self._transport.is_closing()
        names = {"ssl_object": "ssl_object", "client_addr": "sockname", "server_addr": "peername", "socket": "socket"}
        return self._transport.get_extra_info(names[info]) if info in names else None


async def connect(
    host: str, port: int, timeout: float | None, local_address: str | None,
    options: Iterable[httpcore.SOCKET_OPTION] | None,
) -> WireStream:  # fmt: skip
    """Connects to an address. Raises httpcore.ConnectError or ConnectTimeout."""
    loop = asyncio.get_running_loop()
    local = (local_address, 0) if local_address is not None else None
    try:
        async with asyncio.timeout(timeout):
            transport, wire = await loop.create_connection(Wire, host, port, local_addr=local)
    except TimeoutError as error:
        raise httpcore.ConnectTimeout("the host did not answer in time") from error
    except OSError as error:
        raise httpcore.ConnectError("the host could not be reached") from error
    connected: socket.socket = transport.get_extra_info("socket")
    for option in options or ():
        connected.setsockopt(*option)
    return WireStream(wire, transport)


def _wake(waiting: asyncio.Future[None] | None) -> None:
    if waiting is not None and not waiting.done():
        waiting.set_result(None)
