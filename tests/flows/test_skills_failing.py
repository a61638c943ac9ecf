"""Calls over real HTTP to bad skills: each failure has its name, and the next call works."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import orjson
import pytest

from tests.support.misbehaving_skill import Exchange, MisbehavingSkill, skill_server
from tests.support.skill_calls import CONTEXT, Clock, failing, fine, silent, works
from workers.skills.context import CallContext
from workers.skills.executor import HttpExecutor
from workers.skills.failures import in_doubt

pytestmark = pytest.mark.asyncio


async def test_a_skill_that_never_answers_times_out_and_sees_the_hang_up(executor: HttpExecutor, clock: Clock) -> None:
    async with skill_server(silent) as server:
        call = asyncio.create_task(failing(executor, server.manifest(timeout_ms=700)))
        await server.arrived.wait()
        assert clock.allowed_ms == 700
        clock.run_out()
        error = await call
        await server.hung_up.wait()
    assert (error.code, error.facts["sent"], error.facts["attempts"]) == ("skill_timeout", True, 1)
    await works(executor)


async def test_a_skill_that_drips_is_stopped_by_the_whole_calls_time(executor: HttpExecutor, clock: Clock) -> None:
    dripping = asyncio.Event()

    async def drip(exchange: Exchange) -> None:
        exchange.writer.write(b"HTTP/1.1 200 X\r\ntransfer-encoding: chunked\r\n\r\n")
        while True:
            exchange.writer.write(b"1\r\n \r\n")
            await exchange.writer.drain()
            dripping.set()
            await asyncio.sleep(0)

    async with skill_server(drip) as server:
        call = asyncio.create_task(failing(executor, server.manifest(result_bytes=1 << 18)))
        await dripping.wait()
        clock.run_out()
        error = await call
        await server.hung_up.wait()
    assert error.code == "skill_timeout"
    await works(executor)


async def test_the_turns_deadline_comes_first(executor: HttpExecutor, clock: Clock) -> None:
    async with skill_server(silent) as server:
        soon = CallContext(turn="t", call=0, tenant="a", user="u", deadline_at_ms=int(clock.now_ms) + 40)
        call = asyncio.create_task(failing(executor, server.manifest(), soon))
        await server.arrived.wait()
        assert clock.allowed_ms == 40
        clock.run_out()
        error = await call
        assert (error.code, error.facts["sent"]) == ("turn_deadline", True)
        past = CallContext(turn="t", call=0, tenant="a", user="u", deadline_at_ms=int(clock.now_ms) - 1)
        error = await failing(executor, server.manifest(), past)
        assert (error.code, error.facts["sent"], error.facts["attempts"]) == ("turn_deadline", False, 0)
        assert len(server.exchanges) == 1


async def test_a_host_that_is_too_slow_again_and_again_is_left_alone(executor: HttpExecutor, clock: Clock) -> None:
    async with skill_server(silent) as server:
        for number in range(5):
            server.arrived.clear()
            call = asyncio.create_task(failing(executor, server.manifest()))
            await server.arrived.wait()
            clock.run_out()
            assert (await call).code == "skill_timeout", number
        assert (await failing(executor, server.manifest())).code == "circuit_open"
        assert len(server.exchanges) == 5


LIES: list[tuple[bytes, str, str, dict[str, Any]]] = [
    (b"{not json", "application/json", "", {}),
    (b'{"answer":NaN}', "application/json", "", {}),
    (b"", "application/json", "", {}),
    (b"\x1f\x8b\x08", "application/json", "content-encoding: gzip\r\n", {}),
    (b'{"answer":"42"}', "application/json", "",
     {"type": "object", "properties": {"answer": {"type": "integer"}}, "required": ["answer"]}),
    (b"[]", "application/json; charset=utf-8", "", {"type": "object"}),
]  # fmt: skip


@pytest.mark.parametrize(("body", "content_type", "extra", "returns"), LIES)
async def test_a_skill_that_lies(
    executor: HttpExecutor, body: bytes, content_type: str, extra: str, returns: dict[str, Any]
) -> None:
    async def lie(exchange: Exchange) -> None:
        await exchange.send(200, body, content_type, extra)

    async with skill_server(lie) as server:
        error = await failing(executor, server.manifest(returns=returns, retries=3))
        assert len(server.exchanges) == 1
    assert (error.code, error.retriable) == ("skill_lied", False)
    await works(executor)


async def test_a_text_answer_is_wrapped(executor: HttpExecutor) -> None:
    async def text(exchange: Exchange) -> None:
        await exchange.send(200, "grüß dich".encode(), "text/plain; charset=utf-8")

    async with skill_server(text) as server:
        outcome = await executor.call(server.manifest(), {}, CONTEXT)
    assert orjson.loads(outcome.result) == {"text": "grüß dich"}


@pytest.mark.parametrize("declared", [True, False])
async def test_two_megabytes_are_cut_and_never_read(executor: HttpExecutor, declared: bool) -> None:
    size_bytes = 2 * 1024 * 1024
    written = 0

    async def huge(exchange: Exchange) -> None:
        nonlocal written
        head = f"content-length: {size_bytes}" if declared else "connection: close"
        exchange.writer.write(f"HTTP/1.1 200 X\r\n{head}\r\n\r\n".encode())
        exchange.writer.write('["ä'.encode())
        for _ in range(size_bytes // 65_536):
            exchange.writer.write(b"x" * 65_536)
            await exchange.writer.drain()
            written += 65_536

    async with skill_server(huge) as server:
        outcome = await executor.call(server.manifest(result_bytes=1_000), {}, CONTEXT)
        await server.hung_up.wait()
    assert (outcome.cut, outcome.status) == (True, 200)
    assert outcome.result.startswith('["äxxx')
    assert len(outcome.result.encode()) == 1_000
    assert outcome.size_bytes == size_bytes if declared else 1_000 < outcome.size_bytes < size_bytes
    await works(executor)


async def test_a_cut_falls_on_a_characters_border(executor: HttpExecutor) -> None:
    async def umlauts(exchange: Exchange) -> None:
        await exchange.send(200, b'"' + "ä".encode() * 100 + b'"')

    async with skill_server(umlauts) as server:
        outcome = await executor.call(server.manifest(result_bytes=64), {}, CONTEXT)
    assert outcome.cut
    assert outcome.result == '"' + "ä" * 31


@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_redirects_are_not_followed(executor: HttpExecutor, status: int) -> None:
    async with skill_server(fine) as elsewhere:

        async def redirect(exchange: Exchange) -> None:
            await exchange.send(status, b"", extra=f"location: http://127.0.0.1:{elsewhere.port}/\r\n")

        async with skill_server(redirect) as server:
            error = await failing(executor, server.manifest(effect="irreversible"))
        assert (error.code, error.facts["status"], elsewhere.connections) == ("skill_redirected", status, 0)
    assert not in_doubt(server.manifest(effect="irreversible"), error)
    await works(executor)


async def test_a_closed_port_is_tried_again_whatever_the_effect(executor: HttpExecutor, clock: Clock) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    manifest = MisbehavingSkill(fine).manifest(
        url=f"http://127.0.0.1:{port}/x", hosts=(f"127.0.0.1:{port}",), retries=2, effect="irreversible"
    )
    error = await failing(executor, manifest)
    assert (error.code, error.facts["sent"], error.facts["attempts"]) == ("skill_unreachable", False, 3)
    assert clock.slept_ms == [50, 100]
    assert not in_doubt(manifest, error)
    await works(executor)


@pytest.mark.parametrize("answered", [b"", b"HTTP/1.1 200 X\r\ncontent-length: 50\r\n\r\n{", b"rubbish\r\n\r\n"])
async def test_a_connection_that_ends_in_the_middle(executor: HttpExecutor, answered: bytes) -> None:
    async def cut(exchange: Exchange) -> None:
        exchange.writer.write(answered)
        exchange.writer.close()

    async with skill_server(cut) as server:
        error = await failing(executor, server.manifest(effect="irreversible", retries=3))
        assert len(server.exchanges) == 1
        assert in_doubt(server.manifest(effect="irreversible"), error)
        assert not in_doubt(server.manifest(), error)
    assert (error.code, error.facts["sent"], error.facts["attempts"]) == ("skill_disconnected", True, 1)
    await works(executor)


@pytest.mark.parametrize(
    ("fields", "arrivals"),
    [
        ({"effect": "pure"}, 3),
        ({"effect": "irreversible", "idempotent_key": True}, 3),
        ({"effect": "irreversible"}, 1),
        ({"effect": "reversible", "compensate": "undo"}, 1),
    ],
)
async def test_only_what_may_arrive_twice_is_sent_again(
    executor: HttpExecutor, clock: Clock, fields: dict[str, Any], arrivals: int
) -> None:
    async def third_time(exchange: Exchange) -> None:
        if exchange.number < 2:
            await exchange.send(503, b"{}")
        else:
            await exchange.send(200, b"1")

    async with skill_server(third_time) as server:
        manifest = server.manifest(retries=4, **fields)
        if arrivals == 3:
            outcome = await executor.call(manifest, {}, CONTEXT)
            assert (outcome.result, outcome.attempts, clock.slept_ms) == ("1", 3, [50, 100])
            assert {exchange.header("idempotency-key") for exchange in server.exchanges} == {"key-1"}
        else:
            error = await failing(executor, manifest)
            assert (error.code, error.facts["status"]) == ("skill_failed", 503)
            assert in_doubt(manifest, error)
        assert len(server.exchanges) == arrivals


@pytest.mark.parametrize(
    ("status", "code", "retriable"),
    [
        (400, "skill_refused", False),
        (401, "skill_refused", False),
        (429, "skill_busy", True),
        (500, "skill_failed", True),
    ],
)
async def test_each_status_has_its_error(executor: HttpExecutor, status: int, code: str, retriable: bool) -> None:
    async def refuse(exchange: Exchange) -> None:
        await exchange.send(status, b'{"error":"no"}')

    async with skill_server(refuse) as server:
        error = await failing(executor, server.manifest())
        assert (error.code, error.retriable, error.facts["status"]) == (code, retriable, status)
        await failing(executor, server.manifest())
        assert server.connections == 1


async def test_a_host_that_keeps_failing_is_left_alone_for_a_while(executor: HttpExecutor, clock: Clock) -> None:
    healthy = False

    async def sick(exchange: Exchange) -> None:
        await exchange.send(200 if healthy else 500, b"{}")

    async with skill_server(sick) as server:
        for _ in range(5):
            assert (await failing(executor, server.manifest())).code == "skill_failed"
        error = await failing(executor, server.manifest())
        assert (error.code, error.facts["sent"], error.facts["retry_after_ms"]) == ("circuit_open", False, 1_000)
        assert len(server.exchanges) == 5
        await works(executor)
        healthy = True
        clock.now_ms += 1_000
        await executor.call(server.manifest(), {}, CONTEXT)
        await executor.call(server.manifest(), {}, CONTEXT)
