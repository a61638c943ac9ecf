"""uvicorn's HTTP protocol with a bound on everything that can be sent before anybody has shown a key.

uvicorn leaves these open, and its parser counts nothing: how many connections there are, how long a request's head may
take, how long it may become (a single header that never ends is kept as it grows), what stands between the pieces of a
chunked body, and how many requests may be sent ahead of their answers. A socket's handshake begins as a request too.
"""

from __future__ import annotations

import asyncio
import socket
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from gateway.limits import Limits

REQUESTS_AHEAD: Final = 16  # of one connection, beside the one that is answered
# A peer that vanished without a word is noticed after a minute: 30 s of silence, then three questions 10 s apart.
KEEPALIVE: Final = {"TCP_KEEPIDLE": 30, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 3}
UNANSWERED_MS: Final = 60_000  # and what is written and not acknowledged for so long ends the connection


class TooManyAhead(Exception):
    """Requests sent ahead beyond REQUESTS_AHEAD; the parser reports it as a malformed request."""


class HttpProtocol(HttpToolsProtocol):
    """One per connection; uvicorn makes it, with `limits` and `begun` bound by `functools.partial`.

    begun: connections whose head has not come yet, oldest first, shared by all of a server. Where there are too many
    connections the oldest of these goes, so that slow ones shut nobody out; the new one goes when there is none.
    """

    def __init__(self, *, limits: Limits, begun: dict[HttpProtocol, None], **uvicorn: Any) -> None:
        super().__init__(**uvicorn)
        self._limits = limits
        self._begun = begun
        self._head_bytes = 0  # received since the last piece of a body or the last whole head
        self._head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > self._limits.connections:
            oldest = next(iter(self._begun), self)
            self._begun.pop(oldest, None)
            oldest.transport.abort()
            if oldest is self:
                return
        watch_peer(transport)
        self._begin_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end_head()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._head_timer is None and not self._answering:
            self._begin_head()
        self._head_bytes += len(data)
        super().data_received(data)
        if self._head_bytes > self._limits.head_bytes and not self.transport.is_closing():
            self._refuse(b"431 Request Header Fields Too Large")

    def on_headers_complete(self) -> None:
        self._end_head()
        if len(self.pipeline) >= REQUESTS_AHEAD:
            raise TooManyAhead
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._head_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._head_bytes = 0
        super().on_message_complete()

    @property
    def _answering(self) -> bool:
        """Whether a request is being answered."""
        cycle: RequestResponseCycle | None = self.cycle
        return cycle is not None and not cycle.response_complete

    def _begin_head(self) -> None:
        self._begun[self] = None
        self._head_timer = self.loop.call_later(self._limits.head_ms / 1000, self._too_slow)

    def _end_head(self) -> None:
        self._begun.pop(self, None)
        self._head_bytes = 0
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _too_slow(self) -> None:
        self._head_timer = None
        if not self.transport.is_closing():
            self._refuse(b"408 Request Timeout")

    def _refuse(self, status: bytes) -> None:
        """Ends the connection, with an answer where none is under way."""
        if not self._answering:
            self.transport.write(b"HTTP/1.1 " + status + b"\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
        self.transport.close()


def watch_peer(transport: asyncio.BaseTransport) -> None:
    """Lets the kernel end the connection when its peer is gone without a word."""
    wire: Any = transport.get_extra_info("socket")
    if wire is None or wire.family not in (socket.AF_INET, socket.AF_INET6):
        return
    wire.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in {**KEEPALIVE, "TCP_USER_TIMEOUT": UNANSWERED_MS}.items():
        option = getattr(socket, name, None)
        if option is not None:  # what this system's kernel has of them
            wire.setsockopt(socket.IPPROTO_TCP, option, value)
