"""A TCP proxy that breaks what goes through it, on request: between a client and its gateway, a worker and its broker …

| fault | connections that are open | new ones, while it lasts | afterwards |
|---|---|---|---|
| cut | reset on both sides | reset | as ever |
| stall | nothing moves, neither side hears of it | are taken, nothing moves | what waited goes on |
| half_open | the far side is gone, the near side is not told and speaks to nobody | the same | those stay dead |
| slow | 2 KiB at a time, 5 ms apart | the same | as ever |
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Awaitable, Callable
from typing import Final, Literal, Self

from streams.errors import HeadstartError

Fault = Literal["none", "cut", "stall", "half_open", "slow"]
FAULTS: Final[tuple[Fault, ...]] = ("cut", "stall", "half_open", "slow")
CHUNK_BYTES: Final = 64 * 1024
SLOW_BYTES: Final = 2 * 1024
SLOW_PAUSE_S: Final = 0.005
FAULT_S: Final = 2.0  # how long a fault lasts whose victims neither end nor go on
PATIENCE_S: Final = 40.0
Operation = Callable[[], Awaitable[None]]


class FaultProxy:
    """Listens on a port of 127.0.0.1 and forwards to `upstream`, a (host, port) or the path of a unix socket.

    `upstream` may be set after `open`, so that whoever listens there can be told this proxy's address first.
    """

    def __init__(self, upstream: tuple[str, int] | str | None = None) -> None:
        self.upstream = upstream
        self.fault: Fault = "none"
        self.port = 0
        self.connections = 0  # taken so far
        self._moving = asyncio.Event()
        self._moving.set()
        self._links: set[_Link] = set()
        self._server: asyncio.Server | None = None

    async def open(self) -> None:
        self._server = await asyncio.start_server(self._take, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        assert self._server is not None
        self._server.close()
        self._moving.set()
        for link in tuple(self._links):
            link.reset()
        await asyncio.gather(*(link.ended.wait() for link in tuple(self._links)))
        await self._server.wait_closed()

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.close()

    def begin(self, fault: Fault) -> None:
        """From now on, for what is open and what comes."""
        self.fault = fault
        if fault == "stall":
            self._moving.clear()
        for link in tuple(self._links):
            if fault == "cut":
                link.reset()
            elif fault == "half_open":
                link.lose_far_side()

    def end(self) -> None:
        """The network is as it should be; a connection that a fault has killed stays dead."""
        self.fault = "none"
        self._moving.set()

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        link = _Link(self, writer)
        self._links.add(link)
        try:
            await link.run(reader)
        finally:
            self._links.discard(link)
            link.ended.set()

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if isinstance(self.upstream, str):
            return await asyncio.open_unix_connection(self.upstream)
        assert self.upstream is not None
        return await asyncio.open_connection(*self.upstream)

    async def moving(self) -> None:
        await self._moving.wait()


class _Link:
    """One connection through the proxy."""

    def __init__(self, proxy: FaultProxy, near: asyncio.StreamWriter) -> None:
        self.ended = asyncio.Event()
        self._proxy = proxy
        self._near = near
        self._far: asyncio.StreamWriter | None = None
        self._dead: bool = False  # its far side is gone, and the near side is not told

    async def run(self, near: asyncio.StreamReader) -> None:
        try:
            if self._proxy.fault == "cut":
                return
            self._dead = self._proxy.fault == "half_open"
            if self._dead:
                await self._swallow(near)
                return
            await self._proxy.moving()
            far, self._far = await self._proxy.connect()
            pumps = [asyncio.create_task(self._pump(near, self._far)), asyncio.create_task(self._pump(far, self._near))]
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            if self.dead:
                await self._swallow(near)
        except OSError:
            pass
        finally:
            self.reset()

    @property
    def dead(self) -> bool:
        return self._dead

    def reset(self) -> None:
        for writer in (self._near, self._far):
            if writer is not None and not writer.is_closing():
                _reset_when_closed(writer)
                writer.transport.abort()

    def lose_far_side(self) -> None:
        self._dead = True
        if self._far is not None:
            self._far.transport.abort()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(SLOW_BYTES if self._proxy.fault == "slow" else CHUNK_BYTES):
                await self._proxy.moving()
                if self._dead:
                    return
                writer.write(data)
                await writer.drain()
                if self._proxy.fault == "slow":
                    await asyncio.sleep(SLOW_PAUSE_S)

    async def _swallow(self, near: asyncio.StreamReader) -> None:
        while await near.read(CHUNK_BYTES):
            pass


def _reset_when_closed(writer: asyncio.StreamWriter) -> None:
    """A close is then a reset (RST), as when a process dies with unread bytes or a middlebox drops its table."""
    wire = writer.get_extra_info("socket")
    if wire is not None and wire.family == socket.AF_INET:
        wire.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


async def broken_and_whole(proxy: FaultProxy, fault: Fault, operation: Operation) -> str:
    """One fault; gives what became of the operation that was under way. Anything but a typed error fails the test."""
    async with asyncio.timeout(PATIENCE_S):
        await operation()
        taken = proxy.connections
        assert taken > 0  # it does go through the proxy
        proxy.begin(fault)
        under_way = asyncio.ensure_future(operation())
        try:
            await asyncio.wait([under_way], timeout=None if fault == "slow" else FAULT_S)
            through = under_way.done() and under_way.exception() is None
            assert through is (fault == "slow")  # the others let nothing through, whoever needed it
            proxy.end()
            try:
                await under_way
                became = "went on"
            except HeadstartError as error:
                became = error.code
        finally:
            proxy.end()
            under_way.cancel()
        assert fault != "slow" or became == "went on"
        await operation()
    return became
