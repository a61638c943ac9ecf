"""HTTP/2 where TLS agrees on it: parallel calls share one connection, and a cancel closes a stream and not the rest."""

from __future__ import annotations

import asyncio
import shutil
import ssl
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import h2.config
import h2.connection
import h2.events
import pytest

from streams.errors import PeerError
from streams.events.registering import SkillManifest
from workers.skills.context import CallContext
from workers.skills.executor import HttpExecutor

CONTEXT = CallContext(turn="t", call=0, tenant="acme", user="ada", key="k")
pytestmark = pytest.mark.asyncio


class SecureSkill:
    """An HTTP/2 server that answers `{"stream": n}` once it may."""

    def __init__(self, secure: ssl.SSLContext) -> None:
        self.secure = secure
        self.port = 0
        self.size_bytes = 0
        """Answers are this long; 0: short."""
        self.connections = 0
        self.requests: list[dict[str, str]] = []
        self.resets: list[int] = []
        self.go = asyncio.Event()
        self.changed = asyncio.Event()

    async def connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        state = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False, header_encoding="utf-8"))
        state.initiate_connection()
        writer.write(state.data_to_send())
        answers: set[asyncio.Task[None]] = set()
        try:
            while data := await reader.read(65_536):
                for event in state.receive_data(data):
                    if isinstance(event, h2.events.RequestReceived):
                        self.requests.append(dict(event.headers))  # type: ignore[arg-type]
                    elif isinstance(event, h2.events.StreamEnded):
                        answers.add(asyncio.ensure_future(self._answer(state, event.stream_id, writer)))
                    elif isinstance(event, h2.events.StreamReset):
                        self.resets.append(event.stream_id)
                    self.changed.set()
                writer.write(state.data_to_send())
        finally:
            for answer in answers:
                answer.cancel()
            writer.close()

    async def _answer(self, state: h2.connection.H2Connection, stream: int, writer: asyncio.StreamWriter) -> None:
        if self.requests[-1][":method"] == "POST":
            await self.go.wait()
        if stream in self.resets:
            return
        state.send_headers(stream, [(":status", "200"), ("content-type", "application/json")])
        if not self.size_bytes:
            state.send_data(stream, b'{"stream":%d}' % stream, end_stream=True)
            writer.write(state.data_to_send())
            return
        left = self.size_bytes
        while left and stream not in self.resets:
            room = min(left, state.local_flow_control_window(stream), state.max_outbound_frame_size)
            if room:
                state.send_data(stream, b"[" * room)
                left -= room
                writer.write(state.data_to_send())
                await writer.drain()
            else:
                self.changed.clear()
                await self.changed.wait()

    async def until(self, holds: Callable[[], bool]) -> None:
        while not holds():
            self.changed.clear()
            await self.changed.wait()

    @property
    def posts(self) -> int:
        return sum(1 for request in self.requests if request[":method"] == "POST")

    def manifest(self) -> SkillManifest:
        place = f"localhost:{self.port}"
        return SkillManifest(
            name="probe", version="1", description="A probe.", owner="test", parameters={"type": "object"},
            url=f"https://{place}/skills/probe", hosts=(place,), retries=0,
        )  # fmt: skip


async def loopback(host: str, port: int) -> list[str]:
    return ["127.0.0.1"]


@asynccontextmanager
async def secure_skill(folder: Path) -> AsyncIterator[tuple[SecureSkill, ssl.SSLContext]]:
    """The server, and a context that trusts its certificate."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed, so there is no certificate to serve with")
    command = (
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost "
        f"-addext subjectAltName=DNS:localhost -keyout {folder}/key.pem -out {folder}/cert.pem"
    )
    subprocess.run(command.split(), check=True, capture_output=True)
    secure = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    secure.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    secure.set_alpn_protocols(["h2", "http/1.1"])
    served = SecureSkill(secure)
    server = await asyncio.start_server(served.connection, "127.0.0.1", 0, ssl=secure)
    served.port = server.sockets[0].getsockname()[1]
    try:
        yield served, ssl.create_default_context(cafile=str(folder / "cert.pem"))
    finally:
        server.close()


async def test_parallel_calls_share_one_warm_connection(tmp_path: Path) -> None:
    async with (
        secure_skill(tmp_path) as (server, trusted),
        HttpExecutor(signing_key="s", allow_private=True, resolve=loopback, ssl_context=trusted) as executor,
    ):
        await executor.warm([server.manifest()])
        calls: list[Awaitable[object]] = [
            asyncio.ensure_future(executor.call(server.manifest(), {}, CONTEXT)) for _ in range(5)
        ]
        await server.until(lambda: server.posts == 5)
        server.go.set()
        await asyncio.gather(*calls)
        assert server.connections == executor.connects == 1
        assert server.requests[-1]["idempotency-key"] == "k"
        assert server.requests[-1]["headstart-context"]


async def test_a_cancelled_call_resets_its_stream_and_no_other(tmp_path: Path) -> None:
    async with (
        secure_skill(tmp_path) as (server, trusted),
        HttpExecutor(signing_key=None, allow_private=True, resolve=loopback, ssl_context=trusted) as executor,
    ):
        await executor.warm([server.manifest()])
        kept, cancelled = (
            asyncio.ensure_future(executor.call(server.manifest(), {}, CONTEXT)) for _ in range(2)
        )  # fmt: skip
        await server.until(lambda: server.posts == 2)
        cancelled.cancel()
        await asyncio.gather(cancelled, return_exceptions=True)
        await server.until(lambda: len(server.resets) == 1)
        server.go.set()
        assert (await kept).status == 200
        assert (server.connections, len(server.resets)) == (1, 1)


async def test_cut_answers_leave_the_connection_as_it_was(tmp_path: Path) -> None:
    """More cut answers than the connection's window would hold if they were never credited to it."""
    async with (
        secure_skill(tmp_path) as (server, trusted),
        HttpExecutor(signing_key=None, allow_private=True, resolve=loopback, ssl_context=trusted) as executor,
    ):
        server.size_bytes = 2_000_000
        server.go.set()
        for number in range(20):
            outcome = await executor.call(server.manifest(), {}, CONTEXT)
            assert (outcome.cut, len(outcome.result)) == (True, 16_384), number
        server.size_bytes = 0
        outcome = await executor.call(server.manifest(), {}, CONTEXT)
        assert (outcome.cut, server.connections, len(server.resets)) == (False, 1, 20)


async def test_an_untrusted_certificate_is_no_connection(tmp_path: Path) -> None:
    async with (
        secure_skill(tmp_path) as (server, _),
        HttpExecutor(signing_key=None, allow_private=True, resolve=loopback) as executor,
    ):
        with pytest.raises(PeerError) as caught:
            await executor.call(server.manifest(), {}, CONTEXT)
        assert (caught.value.code, caught.value.facts["sent"]) == ("skill_unreachable", False)
        assert server.requests == []
