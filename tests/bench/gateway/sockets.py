"""WebSocket clients that cost the machine they share with the gateway as little as can be.

`Socket` is an asyncio protocol that speaks just the client's half of RFC 6455 without extensions: it answers pings,
gives every whole text frame to its owner as bytes, and masks what it sends with a key of zeros (which leaves the
payload as it is). A frame costs about a quarter of what a general client's costs, so the cores stay with the gateway.
"""

from __future__ import annotations

import asyncio
import base64
import secrets
import socket
from collections.abc import Callable, Sequence
from typing import Any, Final, cast
from urllib.parse import urlsplit

import orjson

from streams.errors import OurError

TEXT, CLOSE, PING, PONG = 0x1, 0x8, 0x9, 0xA
FIN: Final = 0x80
MASKED: Final = 0x80
NO_MASK: Final = bytes(4)
SMALL_BUFFER_BYTES: Final = 4096  # of a client that is to stall soon: Linux doubles it
OnFrame = Callable[["Socket", bytes], None]


class HandshakeRefused(OurError):
    """The gateway did not open the socket; the message has its answer."""


def ignore(socket: Socket, body: bytes) -> None:
    """The owner of a socket that only exists."""


class Socket(asyncio.Protocol):
    """One open connection. on_frame: called with each text frame; may be changed at any time. closed: its close code
    once it is closed, 1006 where none was said."""

    __slots__ = ("_buffer", "_head", "_opened", "_transport", "closed", "number", "on_frame")

    def __init__(self, head: bytes, on_frame: OnFrame, number: int) -> None:
        self.on_frame = on_frame
        self.number = number
        self.closed = 0
        self._head = head
        self._buffer = b""
        self._transport: asyncio.Transport | None = None
        self._opened: asyncio.Future[None] | None = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.write(self._head)
        self._head = b""

    async def opened(self) -> None:
        """Returns when the handshake is done. Raises HandshakeRefused, or ConnectionError when it is cut."""
        if self._opened is not None:
            await self._opened
            self._opened = None

    def data_received(self, data: bytes) -> None:
        data = self._buffer + data if self._buffer else data
        at = 0
        if self._opened is not None and not self._opened.done():
            end = data.find(b"\r\n\r\n")
            if end < 0:
                self._buffer = data
                return
            if not data.startswith(b"HTTP/1.1 101"):
                self._opened.set_exception(HandshakeRefused(f"no socket: {data[:600].decode(errors='replace')}"))
                return
            self._opened.set_result(None)
            at = end + 4
        size = len(data)
        while size - at >= 2:
            length, begin = data[at + 1], at + 2
            if length == 126:
                length, begin = int.from_bytes(data[at + 2 : at + 4], "big"), at + 4
            elif length == 127:
                length, begin = int.from_bytes(data[at + 2 : at + 10], "big"), at + 10
            if begin > size or begin + length > size:
                break
            kind, at = data[at] & 0x0F, begin + length
            if kind == TEXT:
                self.on_frame(self, data[begin:at])
            elif kind == PING:
                self._write(PONG, data[begin:at])
            elif kind == CLOSE:
                self.closed = int.from_bytes(data[begin : begin + 2], "big") or 1005
        self._buffer = data[at:]

    def connection_lost(self, error: Exception | None) -> None:
        self.closed = self.closed or 1006
        if self._opened is not None and not self._opened.done():
            self._opened.set_exception(ConnectionResetError("the handshake was cut"))

    def send(self, frame: dict[str, Any]) -> None:
        self._write(TEXT, orjson.dumps(frame))

    def stall(self) -> None:
        """Reads nothing any more, pings neither."""
        assert self._transport is not None
        self._transport.pause_reading()

    def drop(self) -> None:
        """Gone without a word, as a phone that enters a tunnel."""
        if self._transport is not None:
            self._transport.abort()

    def _write(self, kind: int, payload: bytes) -> None:
        size = len(payload)
        if size < 126:
            head = bytes((FIN | kind, MASKED | size))
        elif size < 1 << 16:
            head = bytes((FIN | kind, MASKED | 126)) + size.to_bytes(2, "big")
        else:
            head = bytes((FIN | kind, MASKED | 127)) + size.to_bytes(8, "big")
        assert self._transport is not None
        self._transport.write(head + NO_MASK + payload)


async def open_socket(
    url: str, key: str, on_frame: OnFrame = ignore, *, number: int = 0, after: str = "", small: bool = False
) -> Socket:
    """One socket to the gateway at `url` (http://host:port). after: a cursor to go on after at once. small: with a
    receive buffer of a few KiB, so that a stall is the gateway's affair soon. Raises as `Socket.opened`, and OSError.
    """
    place = urlsplit(url)
    nonce = base64.b64encode(secrets.token_bytes(16)).decode()
    query = f"?after={after}" if after else ""
    head = (
        f"GET /v1/responses{query} HTTP/1.1\r\nHost: {place.netloc}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: {nonce}\r\nSec-WebSocket-Version: 13\r\nAuthorization: Bearer {key}\r\n\r\n"
    ).encode()
    wire = socket.socket()
    wire.setblocking(False)
    if small:
        wire.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_BUFFER_BYTES)
    loop = asyncio.get_running_loop()
    try:
        await loop.sock_connect(wire, (place.hostname, place.port))
        wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except BaseException:
        wire.close()
        raise
    _, made = await loop.create_connection(lambda: Socket(head, on_frame, number), sock=wire)
    try:
        await made.opened()
    except BaseException:
        made.drop()
        raise
    return made


async def open_sockets(
    url: str, keys: Sequence[str], count: int, on_frame: OnFrame = ignore, *, at_once: int = 50, small: bool = False
) -> list[Socket]:
    """That many, `at_once` of them side by side, numbered from 0, the keys in turn."""
    opened: list[Socket] = []
    while len(opened) < count:
        numbers = range(len(opened), min(count, len(opened) + at_once))
        opening = [open_socket(url, keys[n % len(keys)], on_frame, number=n, small=small) for n in numbers]
        opened += await asyncio.gather(*opening)
    return opened


def drop_all(sockets: Sequence[Socket]) -> None:
    for one in sockets:
        one.drop()
