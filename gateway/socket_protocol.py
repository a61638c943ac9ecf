"""uvicorn's WebSocket protocol with bounds on what one client can make the process hold.

* The send buffer in the kernel. Left to itself the kernel grows it to some megabytes for a client that does not read:
  memory that no window counts, and minutes of text that a client which left will never see.
* Fragments: a message's size is bounded, the number of pieces it comes in is not, and empty ones cost nothing to send.
* Messages that came in one read and wait to be handled: reading pauses with the first, the others are there already.
* A handshake that its parser refuses, which would leave the connection open and without anybody who reads it.
* Pongs: a client that sends pings and reads nothing is not answered beyond what the buffers take.
"""

from __future__ import annotations

import asyncio
import socket
from typing import Any, Final

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets import http11
from websockets.frames import CloseCode, Frame

from gateway.limits import KIB

SEND_BUFFER_BYTES: Final = 64 * 1024  # what asyncio holds in user space before it says "full" is as much again
FRAGMENTS: Final = 1024  # of one message: pieces of 1 KiB of the largest one that is read at all
# The handshake is parsed twice, and the second parser takes lines of 8 KiB unless told otherwise (its documented
# variable is WEBSOCKETS_MAX_LINE_LENGTH): `?after=` for as many conversations as one socket may follow is 17 KiB. The
# first parser has bounded the whole head already (Limits.head_bytes).
LINE_BYTES: Final = 32 * KIB
http11.MAX_LINE_LENGTH = max(http11.MAX_LINE_LENGTH, LINE_BYTES)
MESSAGES_WAITING: Final = 1024  # a key's whole burst of frames (Limits.frames_burst) in one read


class SocketProtocol(WebSocketsSansIOProtocol):
    """One per socket; uvicorn makes it."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        wire: Any = transport.get_extra_info("socket")
        if wire is not None:
            wire.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)

    def handle_cont(self, event: Frame) -> None:
        if len(self.frames) >= FRAGMENTS:
            self._fail(CloseCode.MESSAGE_TOO_BIG, "a message in too many fragments")
            return
        super().handle_cont(event)

    def send_receive_event_to_app(self) -> None:
        if self.queue.qsize() >= MESSAGES_WAITING:
            self._fail(CloseCode.POLICY_VIOLATION, "too many messages at once")
            return
        super().send_receive_event_to_app()

    def handle_ping(self) -> None:
        pong = b"".join(self.conn.data_to_send())
        if self.writable.is_set():
            self.transport.write(pong)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if not self.handshake_initiated and self.conn.handshake_exc is not None:
            self.transport.close()

    def _fail(self, code: CloseCode, reason: str) -> None:
        """Ends the socket; what else came with the same read is not kept."""
        self.frames = []
        if not self.close_sent and not self.transport.is_closing():
            self.conn.fail(code, reason)
            self.handle_parser_exception()
