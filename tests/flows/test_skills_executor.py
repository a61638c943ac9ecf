"""Calls over real HTTP to good skills: what they carry, on which connections, to which hosts, how many at once."""

from __future__ import annotations

import asyncio

import orjson
import pytest

from tests.support.misbehaving_skill import Exchange, skill_server
from tests.support.skill_calls import CONTEXT, SECRET, Clock, failing, fine, silent, works
from workers.skills.context import HEADER, verify
from workers.skills.executor import HttpExecutor

pytestmark = pytest.mark.asyncio


async def test_a_call_carries_arguments_key_trace_and_signed_context(executor: HttpExecutor, clock: Clock) -> None:
    sent: list[int] = []
    async with skill_server(fine) as server:
        outcome = await executor.call(server.manifest(), {"q": "ä"}, CONTEXT, on_sent=lambda: sent.append(1))
        [exchange] = server.exchanges
    assert orjson.loads(exchange.body) == {"q": "ä"}
    assert exchange.head.startswith("POST /skills/probe HTTP/1.1")
    assert exchange.header("idempotency-key") == "key-1"
    assert exchange.header("traceparent") == CONTEXT.traceparent
    context = verify(exchange.header(HEADER) or "", "probe", exchange.body, "key-1", int(clock.now_ms), SECRET)
    assert (context.tenant, context.user, context.locale, context.turn, context.call, context.claim) == (
        "acme", "ada", "de-DE", "turn_1", 2, 3,
    )  # fmt: skip
    assert (outcome.status, outcome.attempts, outcome.cut, outcome.size_bytes) == (200, 1, False, 13)
    assert sent == [1]
    assert 0 < outcome.sent_ms <= outcome.took_ms


async def test_calls_share_warm_connections(executor: HttpExecutor) -> None:
    async with skill_server(fine) as server:
        manifest = server.manifest()
        await executor.warm([manifest], connections=2)
        assert server.connections == executor.connects == 2
        await executor.warm([manifest], connections=2)
        for _ in range(3):
            await asyncio.gather(*(executor.call(manifest, {}, CONTEXT) for _ in range(2)))
        assert server.connections == 2
        assert len(server.exchanges) == 6


async def test_warming_what_is_not_there_is_no_error(executor: HttpExecutor) -> None:
    async with skill_server(fine) as server:
        manifest = server.manifest()
    await executor.warm([manifest])
    await works(executor)


async def test_only_registered_hosts_are_called(executor: HttpExecutor) -> None:
    async with skill_server(fine) as server:
        error = await failing(executor, server.manifest(hosts=("example.org:443",)))
        assert (error.code, error.facts["sent"], server.connections) == ("skill_host_refused", False, 0)


async def test_private_addresses_are_refused_where_the_operator_does_not_allow_them() -> None:
    async with HttpExecutor(signing_key=None, allow_private=False) as strict, skill_server(fine) as server:
        error = await failing(strict, server.manifest())
        assert (error.code, server.connections) == ("skill_host_refused", 0)


async def test_a_name_is_judged_by_every_address_it_has() -> None:
    async with skill_server(fine) as server:
        place = f"skills.example:{server.port}"
        manifest = server.manifest(url=f"http://{place}/skills/probe", hosts=(place,))

        async def rebinding(host: str, port: int) -> list[str]:
            assert host == "skills.example"
            return ["127.0.0.1", "169.254.169.254"]

        async with HttpExecutor(signing_key=None, allow_private=True, resolve=rebinding) as made:
            assert (await failing(made, manifest)).code == "skill_host_refused"

        async def honest(host: str, port: int) -> list[str]:
            return ["127.0.0.1"]

        async with HttpExecutor(signing_key=None, allow_private=True, resolve=honest) as made:
            await made.call(manifest, {}, CONTEXT)
        [exchange] = server.exchanges
        assert exchange.header("host") == place
        assert exchange.header(HEADER) is None


async def test_a_cancelled_call_hangs_up_and_leaves_nothing_behind(executor: HttpExecutor) -> None:
    async with skill_server(silent) as server:
        call = asyncio.create_task(executor.call(server.manifest(), {}, CONTEXT))
        await server.arrived.wait()
        assert executor.limits.running("skill:probe") == 1
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await server.hung_up.wait()
        assert executor.limits.running("skill:probe") == 0
        assert executor.breaker(f"127.0.0.1:{server.port}").state == "closed"
    await works(executor)


async def test_a_skills_concurrency_is_kept(executor: HttpExecutor) -> None:
    running = most = 0
    go = asyncio.Event()

    async def counting(exchange: Exchange) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await go.wait()
        running -= 1
        await exchange.send(200, b"1")

    async with skill_server(counting) as server:
        manifest = server.manifest(concurrency=2)
        calls = [asyncio.create_task(executor.call(manifest, {}, CONTEXT)) for _ in range(6)]
        await server.arrived.wait()
        go.set()
        await asyncio.gather(*calls)
    assert most <= 2
    assert len(server.exchanges) == 6
