"""uvicorn's WebSocket protocol with a bounded send buffer in the kernel.

Left to itself the kernel grows the buffer to some megabytes for a client that does not read: memory that no window
counts, and minutes of text that a client which left will never see.
"""

from __future__ import annotations

import asyncio
import socket
from typing import Any, Final

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

SEND_BUFFER_BYTES: Final = 64 * 1024  # what asyncio holds in user space before it says "full" is as much again


class SocketProtocol(WebSocketsSansIOProtocol):
    """One per socket; uvicorn makes it."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        wire: Any = transport.get_extra_info("socket")
        if wire is not None:
            wire.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
