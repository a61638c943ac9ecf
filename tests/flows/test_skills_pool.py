"""Requests that go straight to a free connection, and those that have to wait for one."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable

import httpcore
import pytest

from tests.support.misbehaving_skill import Exchange, MisbehavingSkill, skill_server
from workers.skills.connections import SkillPool, SkillRequest
from workers.skills.guard import GuardedBackend, system_resolve

pytestmark = pytest.mark.asyncio


def pool(connections: int) -> SkillPool:
    return SkillPool(
        ssl_context=ssl.create_default_context(), max_connections=connections, max_keepalive_connections=connections,
        keepalive_expiry=60, http1=True, http2=True, network_backend=GuardedBackend(True, system_resolve),
    )  # fmt: skip


async def ask(made: SkillPool, server: MisbehavingSkill) -> bytes:
    place = f"127.0.0.1:{server.port}".encode()
    headers = [(b"host", place), (b"content-length", b"2")]
    request = SkillRequest(httpcore.URL(f"http://{place.decode()}/skills/probe"), headers, b"{}", {})
    async with made.exchange(request) as response:
        return await response.aread()


async def until(check: Callable[[], bool]) -> None:
    while not check():  # noqa: ASYNC110 - what a server has seen, and a closed socket, have no event
        await asyncio.sleep(0)


async def fine(exchange: Exchange) -> None:
    await exchange.send(200, b"{}")


async def test_a_free_connection_is_used_again_and_one_in_use_is_not() -> None:
    go_on = asyncio.Event()

    async def patient(exchange: Exchange) -> None:
        await go_on.wait()
        await exchange.send(200, b"{}")

    made = pool(4)
    async with skill_server(fine) as server, made:
        for _ in range(3):
            assert await ask(made, server) == b"{}"
        assert server.connections == 1
        server.answer = patient
        both = [asyncio.create_task(ask(made, server)) for _ in range(2)]
        await until(lambda: len(server.exchanges) == 5)
        go_on.set()
        assert await asyncio.gather(*both) == [b"{}"] * 2
        assert server.connections == 2
        assert await ask(made, server) == b"{}"
        assert server.connections == 2


async def test_who_waits_for_a_place_gets_it_when_a_straight_request_ends() -> None:
    """One connection for all hosts: the second host's request waits for the first one's, which went past the queue."""
    go_on = asyncio.Event()

    async def patient(exchange: Exchange) -> None:
        await go_on.wait()
        await exchange.send(200, b"{}")

    made = pool(1)
    async with skill_server(fine) as first, skill_server(fine) as second, made:
        assert await ask(made, first) == b"{}"
        first.answer = patient
        straight = asyncio.create_task(ask(made, first))
        await until(lambda: len(first.exchanges) == 2)
        waiting = asyncio.create_task(ask(made, second))
        for _ in range(20):
            await asyncio.sleep(0)
        assert not waiting.done()
        go_on.set()
        assert await straight == b"{}"
        assert await waiting == b"{}"


async def test_a_connection_that_the_skill_closed_is_not_used() -> None:
    async def last(exchange: Exchange) -> None:
        await exchange.send(200, b"{}")
        exchange.writer.close()

    made = pool(2)
    async with skill_server(last) as server, made:
        for number in range(1, 4):
            assert await ask(made, server) == b"{}"
            assert server.connections == number
            await until(lambda: all(one.has_expired() or one.is_closed() for one in made.connections))
