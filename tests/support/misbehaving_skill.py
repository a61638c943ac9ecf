"""Skill servers that misbehave at the byte level, on real sockets: what no framework would let a test do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from streams.events.registering import SkillManifest

Answer = Callable[["Exchange"], Awaitable[None]]


class Exchange:
    """One connection of one request: what came, and the means to answer it."""

    def __init__(self, head: str, body: bytes, writer: asyncio.StreamWriter, number: int) -> None:
        self.head, self.body, self.writer, self.number = head, body, writer, number
        self.closed = asyncio.Event()

    def header(self, name: str) -> str | None:
        for line in self.head.split("\r\n")[1:]:
            key, _, value = line.partition(":")
            if key.lower() == name.lower():
                return value.strip()
        return None

    async def send(self, status: int, body: bytes, content_type: str = "application/json", extra: str = "") -> None:
        """A whole, well-formed answer on a connection that stays open."""
        head = f"HTTP/1.1 {status} X\r\ncontent-type: {content_type}\r\ncontent-length: {len(body)}\r\n{extra}\r\n"
        self.writer.write(head.encode() + body)
        await self.writer.drain()


class _Reader(asyncio.StreamReader):
    """Knows when the peer has hung up without taking what could be a next request."""

    def __init__(self) -> None:
        super().__init__()
        self.ended = asyncio.Event()

    def feed_eof(self) -> None:
        super().feed_eof()
        self.ended.set()

    def set_exception(self, exc: Exception) -> None:
        super().set_exception(exc)
        self.ended.set()


class MisbehavingSkill:
    """Answers each POST by `answer`; OPTIONS gets 204. connections, requests: how many there were."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.connections = 0
        self.exchanges: list[Exchange] = []
        self.arrived = asyncio.Event()
        self.hung_up = asyncio.Event()
        self.port = 0

    async def connection(self, reader: _Reader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                length = next(
                    (
                        int(line.split(":")[1])
                        for line in head.split("\r\n")
                        if line.lower().startswith("content-length")
                    ),
                    0,
                )
                body = await reader.readexactly(length)
                if head.startswith("OPTIONS"):
                    writer.write(b"HTTP/1.1 204 X\r\n\r\n")
                    continue
                exchange = Exchange(head, body, writer, len(self.exchanges))
                self.exchanges.append(exchange)
                self.arrived.set()
                answering = asyncio.ensure_future(self.answer(exchange))
                watch = asyncio.ensure_future(reader.ended.wait())
                await asyncio.wait({answering, watch}, return_when=asyncio.FIRST_COMPLETED)
                if watch.done():
                    self.hung_up.set()
                watch.cancel()
                answering.cancel()
                await asyncio.gather(answering, watch, return_exceptions=True)
                if writer.is_closing():
                    return
        except (asyncio.IncompleteReadError, ConnectionError):
            self.hung_up.set()
        finally:
            writer.close()

    def manifest(self, **fields: object) -> SkillManifest:
        """A valid manifest of a pure skill `probe` here, with these fields changed."""
        values: dict[str, object] = {
            "name": "probe", "version": "1", "description": "A probe.", "owner": "test",
            "parameters": {"type": "object", "properties": {"q": {"type": "string"}}},
            "url": f"http://127.0.0.1:{self.port}/skills/probe", "hosts": (f"127.0.0.1:{self.port}",),
            "timeout_ms": 5_000, "retries": 0,
        }  # fmt: skip
        return SkillManifest(**(values | fields))  # type: ignore[arg-type]


@asynccontextmanager
async def skill_server(answer: Answer) -> AsyncIterator[MisbehavingSkill]:
    """A server on a free port of the loopback; every connection is closed at the end."""
    served = MisbehavingSkill(answer)
    tasks: set[asyncio.Task[None]] = set()

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert isinstance(reader, _Reader)
        task = asyncio.ensure_future(served.connection(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: asyncio.StreamReaderProtocol(_Reader(), connected), "127.0.0.1", 0)
    served.port = server.sockets[0].getsockname()[1]
    try:
        yield served
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
