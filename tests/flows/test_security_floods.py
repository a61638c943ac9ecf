"""Floods against a gateway in a process of its own, whose memory is measured while each one stands.

Each sends or leaves waiting several times more than the bound, so a queue without one would show. Half of them come
from people who have shown no key.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path

import orjson
import psutil
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, WebSocketException

from streams import ids
from tests.support.attacks import Tally

pytestmark = pytest.mark.asyncio
ROOT = Path(__file__).parents[2]
MIB = 1024 * 1024
BOUND_MIB = 64  # above what the process held before: windows and socket buffers of 100 stalled clients are 38 of it
CREATE = {"type": "response.create", "model": "headstart"}


class Target:
    """The gateway under attack. sent: bytes that this flood has sent."""

    def __init__(self, port: int, key: str, process: psutil.Process) -> None:
        self.port = port
        self.key = key
        self.sent = 0
        self.tries = 0
        self._process = process
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Target:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._stack.aclose()

    def held_mib(self) -> float:
        return float(self._process.memory_info().rss) / MIB

    async def raw(self, *pieces: bytes) -> asyncio.StreamWriter | None:
        """A connection that has sent these pieces as far as it was let, and stays open."""
        self.tries += 1
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", self.port, limit=1)
        except OSError:
            return None
        self._stack.callback(writer.close)
        with suppress(ConnectionError, TimeoutError):
            async with asyncio.timeout(1):
                for piece in pieces:
                    writer.write(piece)
                    await writer.drain()
                    self.sent += len(piece)
        return writer

    async def socket(self) -> ClientConnection:
        headers = {"authorization": f"Bearer {self.key}"}
        url = f"ws://127.0.0.1:{self.port}/v1/responses"
        opened = await connect(url, additional_headers=headers, max_size=None, max_queue=None)
        self._stack.callback(opened.transport.abort)
        return opened

    async def send(self, socket: ClientConnection, body: str | bytes) -> bool:
        """Whether it could still be sent."""
        self.tries += 1
        try:
            async with asyncio.timeout(2):
                await socket.send(body)
        except (ConnectionClosed, TimeoutError):
            return False
        self.sent += len(body)
        return True

    async def answered(self) -> None:
        """Others are still served."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(b"GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        assert (await reader.readline()).startswith(b"HTTP/1.1 200")
        writer.close()


async def slow_handshakes(target: Target) -> None:
    for _ in range(1_000):
        await target.raw(b"GET /v1/responses HTTP/1.1\r\nupgrade: websocket\r\nx: " + b"y" * 1000)


async def endless_heads(target: Target) -> None:
    await asyncio.gather(*(target.raw(b"GET / HTTP/1.1\r\nx: ", *[b"y" * 65536] * 64) for _ in range(50)))


async def endless_bodies(target: Target) -> None:
    head = f"POST /v1/responses HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {target.key}\r\n"
    head += "transfer-encoding: chunked\r\n\r\n"
    chunk = b"10000\r\n" + b"y" * 65536 + b"\r\n"
    await asyncio.gather(*(target.raw(head.encode(), *[chunk] * 64) for _ in range(50)))


async def requests_ahead(target: Target) -> None:
    one = b"GET /v1/models HTTP/1.1\r\nhost: x\r\n\r\n"
    await asyncio.gather(*(target.raw(*[one * 6000] * 4) for _ in range(50)))


async def large_keys(target: Target) -> None:
    for number in range(800):
        await target.raw(b"GET /v1/models HTTP/1.1\r\nhost: x\r\nconnection: close\r\nauthorization: Bearer %d" % number
                         + b"k" * 60_000 + b"\r\n\r\n")  # fmt: skip


async def oversized_frames(target: Target) -> None:
    for _ in range(60):
        await target.send(await target.socket(), "x" * (3 * MIB))


async def endless_fragments(target: Target) -> None:
    for _ in range(20):
        socket = await target.socket()
        socket.transport.write(b"\x01\x80\0\0\0\0" + b"\x00\x80\0\0\0\0" * 1_000_000)
        target.tries += 1
        target.sent += 6_000_000


async def unread_pings(target: Target) -> None:
    for _ in range(20):
        socket = await target.socket()
        socket.transport.pause_reading()
        ping = b"\x89\xfd\0\0\0\0" + b"p" * 125
        socket.transport.write(ping * 80_000)
        target.tries += 1
        target.sent += len(ping) * 80_000


async def small_messages(target: Target) -> None:
    for _ in range(50):
        socket = await target.socket()
        socket.transport.write(b"\x81\x82\0\0\0\0{}" * 100_000)
        target.tries += 1
        target.sent += 800_000


async def many_lanes(target: Target) -> None:
    socket = await target.socket()
    for number in range(1_000):
        body = {**CREATE, "input": "x" * 60_000, "stream_id": f"lane {number}"}
        if not await target.send(socket, orjson.dumps(body).decode()):
            socket = await target.socket()


async def waiting_steers(target: Target) -> None:
    socket = await target.socket()
    response = ""
    while not response:  # the flood before may have used up what the key may send in a second
        await socket.send(orjson.dumps({**CREATE, "input": "hold"}).decode())
        response = orjson.loads(await socket.recv()).get("response_id", "")
    for number in range(1_500):
        steer = {
            "type": "response.steer",
            "previous_response_id": response,
            "input": "x" * 100_000,
            "event_id": f"{number}",
        }
        if not await target.send(socket, orjson.dumps(steer).decode()):
            return


async def forged_names(target: Target) -> None:
    socket = await target.socket()
    for number in range(3_000):
        conversation = ids.conversation_id(1, 1_763_700_000_000 + number, number.to_bytes(10, "big"))
        body = {"type": "session.attach", "conversation": conversation, "event_id": "x" * 200}
        if not await target.send(socket, orjson.dumps(body).decode()):
            socket = await target.socket()


async def many_sockets(target: Target) -> None:
    for _ in range(400):
        target.tries += 1
        with suppress(WebSocketException, OSError):
            await target.socket()


async def stalled_readers(target: Target) -> None:
    """A hundred that asked for a long answer and read nothing of it."""
    first = await target.socket()
    conversation = ""
    while not conversation:
        await first.send(orjson.dumps({**CREATE, "input": "long"}).decode())
        conversation = orjson.loads(await first.recv()).get("conversation", "")
    while orjson.loads(await first.recv())["type"] != "response.completed":
        pass
    for _ in range(100):
        socket = await target.socket()
        socket.transport.pause_reading()
        attach = {"type": "session.attach", "conversation": conversation, "after": "start"}
        await target.send(socket, orjson.dumps(attach).decode())


FLOODS: tuple[Callable[[Target], Awaitable[None]], ...] = (
    slow_handshakes, endless_heads, endless_bodies, requests_ahead, large_keys, oversized_frames, endless_fragments,
    unread_pings, small_messages, many_lanes, waiting_steers, forged_names, many_sockets, stalled_readers,
)  # fmt: skip


@asynccontextmanager
async def gateway_process() -> AsyncIterator[tuple[int, str, psutil.Process]]:
    command = [sys.executable, "-m", "tests.support.flooded_gateway"]
    pipe = asyncio.subprocess.PIPE
    child = await asyncio.create_subprocess_exec(*command, cwd=ROOT, stdin=pipe, stdout=pipe)
    try:
        assert child.stdout is not None
        said = orjson.loads(await child.stdout.readline())
        yield said["port"], said["key"], psutil.Process(child.pid)
    finally:
        child.kill()
        await child.wait()


async def test_memory_is_bounded_under_every_flood() -> None:
    tally = Tally()
    async with gateway_process() as (port, key, process):
        async with Target(port, key, process) as target:
            await target.answered()
            before = target.held_mib()
        print(f"\ngateway at rest {before:.0f} MiB; bound {BOUND_MIB} MiB above it")
        grown: dict[str, float] = {}
        for flood in FLOODS:
            async with Target(port, key, process) as target:
                await flood(target)
                await target.answered()
                grown[flood.__name__] = target.held_mib() - before
                for _ in range(target.tries):
                    tally.note("floods", flood.__name__, False)
                sent, held = target.sent / MIB, grown[flood.__name__]
                print(f"{flood.__name__:<20} {target.tries:>6,} tries {sent:>6.0f} MiB sent {held:>+6.1f} MiB held")
    assert max(grown.values()) < BOUND_MIB, grown
    tally.conclude("floods")
