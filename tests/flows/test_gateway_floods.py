"""What a connection may send before it has shown a key: heads that are large, slow or never end, and requests ahead."""

from __future__ import annotations

import asyncio
import contextlib
import socket as socket_module

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

from gateway.http_protocol import REQUESTS_AHEAD
from gateway.limits import Limits
from gateway.socket_protocol import FRAGMENTS, MESSAGES_WAITING
from tests.support.gateways import PATIENCE_S, Rig, Socket, text_of

pytestmark = pytest.mark.asyncio
HEAD = b"GET /healthz HTTP/1.1\r\nhost: x\r\n"


async def answer_to(port: int, *pieces: bytes, lines: int = 0) -> bytes:
    """What the server says until it closes, or so many lines of it; it may close before it has heard all pieces."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        async with asyncio.timeout(PATIENCE_S):
            for piece in pieces:
                writer.write(piece)
                try:
                    await writer.drain()
                except ConnectionError:
                    break
            try:
                return b"".join([await reader.readline() for _ in range(lines)]) if lines else await reader.read()
            except ConnectionError:
                return b""
    finally:
        writer.close()


async def closed_with(socket: Socket) -> int:
    """The code with which the gateway closes the socket, whatever it says before."""
    async with asyncio.timeout(PATIENCE_S):
        await socket.connection.wait_closed()
    assert socket.connection.close_code is not None
    return socket.connection.close_code


@pytest.mark.parametrize(
    "flood",
    [
        HEAD + b"a: " + b"x" * 100_000,
        HEAD + b"a: b\r\n" * 20_000,
        b"GET /" + b"x" * 100_000,
        b"\r\n" * 60_000,
        b"POST /v1/responses HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n1;" + b"e" * 100_000,
        b"POST /v1/responses HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n0\r\n" + b"t: r\r\n" * 20_000,
    ],
    ids=["one header", "many headers", "url", "blank lines", "chunk extension", "trailers"],
)
async def test_what_stands_around_a_body_is_bounded(flood: bytes) -> None:
    async with Rig() as rig:
        gateway = await rig.gateway()
        answer = await answer_to(gateway.port, *[flood[at : at + 8192] for at in range(0, len(flood), 8192)], lines=1)
        assert answer.strip() in (
            b"HTTP/1.1 431 Request Header Fields Too Large", b"HTTP/1.1 400 Bad Request",
            b"HTTP/1.1 401 Unauthorized", b"",
        )  # fmt: skip
        async with rig.http(gateway) as http:
            assert (await http.get("/healthz")).status_code == 200


async def test_a_head_that_does_not_come_ends_the_connection() -> None:
    async with Rig() as rig:
        gateway = await rig.gateway(limits=Limits(head_ms=1))
        assert await answer_to(gateway.port) == (
            b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
        )
        assert (await answer_to(gateway.port, HEAD)).startswith(b"HTTP/1.1 408")


async def test_a_body_that_does_not_come_is_answered_by_name() -> None:
    async with Rig() as rig:
        gateway = await rig.gateway(limits=Limits(body_ms=1))
        head = f"POST /v1/responses HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {rig.key}\r\ncontent-length: 9\r\n"
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        writer.write(head.encode() + b"\r\n{")
        async with asyncio.timeout(PATIENCE_S):
            assert (await reader.readline()).startswith(b"HTTP/1.1 408")
            assert b"body_too_slow" in await reader.readuntil(b"}}")
        writer.close()


async def test_requests_ahead_of_their_answers_are_bounded() -> None:
    """They come in one piece, so nothing can be paused between them."""
    async with Rig() as rig:
        gateway = await rig.gateway()
        one = HEAD + b"\r\n"
        fine = await answer_to(gateway.port, one * REQUESTS_AHEAD + HEAD + b"connection: close\r\n\r\n")
        assert fine.count(b"HTTP/1.1 200") == REQUESTS_AHEAD + 1
        many = await answer_to(gateway.port, one * 2000)
        assert many.count(b"HTTP/1.1 200") <= REQUESTS_AHEAD + 1


async def test_connections_beyond_the_limit_take_the_place_of_those_that_say_nothing() -> None:
    async with Rig() as rig:
        gateway = await rig.gateway(limits=Limits(connections=3))
        silent = [socket_module.create_connection(("127.0.0.1", gateway.port)) for _ in range(3)]
        async with rig.socket(gateway) as one, rig.socket(gateway) as two, rig.socket(gateway) as three:
            for socket in (one, two, three):
                await socket.create("hi")
                assert text_of(await socket.until_end()) == "hi"
            assert await answer_to(gateway.port) == b""  # now there is nobody to give way
        for connection in silent:
            connection.close()
        async with rig.http(gateway) as http:
            assert (await http.get("/healthz")).status_code == 200


async def test_a_message_in_countless_pieces_ends_its_socket() -> None:
    async with Rig() as rig:
        gateway = await rig.gateway()
        async with rig.socket(gateway) as socket:
            with contextlib.suppress(ConnectionClosed):
                await socket.connection.send(iter(['{"type":', *[""] * 2 * FRAGMENTS, "5}"]))
            assert await closed_with(socket) == 1009
        async with rig.socket(gateway) as socket:
            await socket.connection.send(iter(['{"type": "response.create", "model": "headstart", ', '"input": "hi"}']))
            assert text_of(await socket.until_end()) == "hi"


async def test_more_messages_than_a_key_may_send_end_their_socket() -> None:
    async with Rig() as rig:
        gateway = await rig.gateway()
        async with rig.socket(gateway) as socket:
            wire = socket.connection.transport
            wire.write(b"\x81\x82\0\0\0\0{}" * (4 * MESSAGES_WAITING))
            assert await closed_with(socket) == 1008


async def test_no_key_takes_every_socket() -> None:
    async with Rig() as rig:
        gateway = await rig.gateway(limits=Limits(sockets_per_key=2))
        other = await rig.new_key("acme", "bob")
        async with rig.socket(gateway), rig.socket(gateway):
            with pytest.raises(InvalidStatus) as refused:
                async with rig.socket(gateway):
                    raise AssertionError("it was let in")
            assert refused.value.response.status_code == 429
            async with rig.socket(gateway, key=other) as socket:
                await socket.create("hi")
                assert text_of(await socket.until_end()) == "hi"
        async with rig.socket(gateway) as socket:
            await socket.create("again")
            assert text_of(await socket.until_end()) == "again"


async def test_cursors_for_as_many_conversations_as_a_socket_follows_fit_into_the_handshake() -> None:
    async with Rig() as rig:
        gateway = await rig.gateway()
        async with rig.socket(gateway) as socket:
            await socket.create("hi")
            cursor = (await socket.until_end())[2]["cursor"]
        count = gateway.services.limits.attached
        async with rig.socket(gateway, "?" + "&".join([f"after[]={cursor}"] * count)) as socket:
            for _ in range(count):
                assert (await socket.until("session.attached"))[-1]["from"] == cursor
            await socket.until_end()


@pytest.mark.parametrize(
    "head", [b"?x=" + b"y" * 40_000, b" HTTP/1.1\r\n" + b"a: b\r\n" * 200 + b"z:"], ids=["line", "many"]
)
async def test_a_handshake_that_can_not_be_read_leaves_nothing_open(head: bytes) -> None:
    async with Rig() as rig:
        gateway = await rig.gateway()
        end = b" HTTP/1.1\r\nhost: x\r\nupgrade: websocket\r\nconnection: upgrade\r\n"
        end += b"sec-websocket-version: 13\r\nsec-websocket-key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n\r\n"
        assert b" 101 " not in await answer_to(gateway.port, b"GET /v1/responses" + head + end)
