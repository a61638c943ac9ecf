"""The stream under a skill's connection, against real sockets: order, pressure both ways, ends, time limits."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import httpcore
import pytest

from workers.skills.wire import BUFFERED_BYTES, WireStream, connect

pytestmark = pytest.mark.asyncio
Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def connected(serve: Serve) -> AsyncIterator[WireStream]:
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    stream = await connect("127.0.0.1", server.sockets[0].getsockname()[1], 5, None, None)
    try:
        async with asyncio.timeout(30):
            yield stream
    finally:
        await stream.aclose()
        server.close()


async def read_all(stream: WireStream, limit: int = 65_536) -> bytes:
    found = bytearray()
    while piece := await stream.read(limit):
        found += piece
    return bytes(found)


async def test_what_is_written_comes_back_in_order() -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.readexactly(6))
        writer.close()

    async with connected(echo) as stream:
        await stream.write(b"abc")
        await stream.write(b"")
        await stream.write(b"def")
        assert await read_all(stream, 2) == b"abcdef"
        assert await stream.read(10) == b"", "and again"
        assert stream.get_extra_info("is_readable")


async def test_a_fast_sender_is_stopped_and_nothing_is_lost() -> None:
    size = 40 * BUFFERED_BYTES

    async def send(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(bytes(size))
        await writer.drain()
        writer.close()

    async with connected(send) as stream:
        assert len(await stream.read(10)) == 10
        assert len(await read_all(stream)) == size - 10


async def test_a_receiver_that_takes_nothing_is_waited_for_until_the_limit() -> None:
    enough = asyncio.Event()

    async def ignore(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await enough.wait()
        writer.close()

    async with connected(ignore) as stream:
        with pytest.raises(httpcore.WriteTimeout):
            await stream.write(bytes(64 * 1024 * 1024), timeout=0.01)
        enough.set()


async def test_nothing_arrives_in_time() -> None:
    enough = asyncio.Event()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await enough.wait()
        writer.write(b"late")
        await writer.drain()
        writer.close()

    async with connected(silent) as stream:
        assert not stream.get_extra_info("is_readable")
        with pytest.raises(httpcore.ReadTimeout):
            await stream.read(10, timeout=0.01)
        enough.set()
        assert await stream.read(10) == b"late", "a limit that passed has lost nothing"


async def test_a_cancelled_read_has_lost_nothing() -> None:
    enough = asyncio.Event()

    async def late(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await enough.wait()
        writer.write(b"late")
        writer.close()

    async with connected(late) as stream:
        reading = asyncio.create_task(stream.read(10))
        await asyncio.sleep(0)
        reading.cancel()
        await asyncio.wait([reading])
        enough.set()
        assert await stream.read(10) == b"late"


async def test_a_connection_that_is_reset_is_an_error_and_takes_no_more() -> None:
    async def reset(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(1)
        writer.transport.abort()

    async with connected(reset) as stream:
        await stream.write(b"x" * 1_000)
        with suppress(httpcore.ReadError):
            assert await stream.read(10) == b""

        async def write_on() -> None:
            while True:
                await stream.write(b"more")
                await asyncio.sleep(0)

        with pytest.raises(httpcore.WriteError):
            await write_on()


async def test_a_closed_port_is_a_connect_error() -> None:
    server = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    with pytest.raises(httpcore.ConnectError):
        await connect("127.0.0.1", port, 5, None, None)
