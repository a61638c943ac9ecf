"""A listening TCP socket whose connections send at once.

asyncio turns Nagle's algorithm off only on sockets that say IPPROTO_TCP, and an accepted socket says what its listener
said; one made by `socket.socket(family)` or `socket.create_server` says 0. Then an answer written in two parts (head
and body) waits for the other side's delayed acknowledgement: 40 ms on Linux.
"""

from __future__ import annotations

import socket
from typing import Final

from streams.errors import Misconfigured

BACKLOG: Final = 1024


def listen(host: str, port: int) -> socket.socket:
    """Bound to host and port (0: any free one) and listening. Raises Misconfigured when that can not be: the port is
    taken or not ours to take, or the host is no address of this machine."""
    try:
        return _listen(host, port)
    except OSError as error:
        raise Misconfigured(
            f"can not listen on {host}:{port}: {error.strerror or error}", host=host, port=port
        ) from error


def _listen(host: str, port: int) -> socket.socket:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP, flags=socket.AI_PASSIVE)
    family, kind, protocol, _, address = found[0]
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
        listener.setblocking(False)
    except BaseException:
        listener.close()
        raise
    return listener
