"""Listening sockets: connections of theirs send at once."""

from __future__ import annotations

import asyncio
import socket

import pytest

from streams.errors import Misconfigured
from streams.listening import listen


@pytest.mark.asyncio
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_an_accepted_connection_does_not_wait_for_acknowledgements(host: str) -> None:
    accepted: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        raw = writer.get_extra_info("socket")
        accepted.set_result(raw.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
        writer.close()

    listener = listen(host, 0)
    server = await asyncio.start_server(connected, sock=listener)
    _, writer = await asyncio.open_connection(host, listener.getsockname()[1])
    assert await accepted
    writer.close()
    server.close()


def test_a_taken_port_is_an_error() -> None:
    with listen("127.0.0.1", 0) as taken, pytest.raises(Misconfigured, match="in use"):
        listen("127.0.0.1", taken.getsockname()[1])
