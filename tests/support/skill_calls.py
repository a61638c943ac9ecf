"""Calls to skills for tests: a context, a clock, a good skill, and what a failure must look like."""

from __future__ import annotations

import asyncio

import pytest

from streams.errors import PeerError
from streams.events.registering import SkillManifest
from tests.support.misbehaving_skill import Exchange, skill_server
from workers.skills.context import CallContext
from workers.skills.executor import HttpExecutor, Outcome

SECRET = "a-signing-key-for-tests"
CONTEXT = CallContext(
    turn="turn_1", call=2, claim=3, key="key-1", tenant="acme", user="ada", locale="de-DE",
    traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
)  # fmt: skip


class Clock:
    """Wall clock of the executor, and its sleeps: they take no time and are written down."""

    def __init__(self) -> None:
        self.now_ms = 1_000_000.0
        self.slept_ms: list[float] = []
        self.allowed_ms = 0
        self.scope = asyncio.timeout(None)

    def __call__(self) -> float:
        return self.now_ms

    async def sleep(self, seconds: float) -> None:
        self.slept_ms.append(seconds * 1000)
        self.now_ms += seconds * 1000

    def timeout(self, seconds: float) -> asyncio.Timeout:
        """Runs out only when the test says so."""
        self.allowed_ms = round(seconds * 1000)
        self.scope = asyncio.timeout(None)
        return self.scope

    def run_out(self) -> None:
        self.scope.reschedule(asyncio.get_running_loop().time())


async def fine(exchange: Exchange) -> None:
    await exchange.send(200, b'{"answer":42}')


async def silent(exchange: Exchange) -> None:
    await asyncio.Event().wait()


async def failing(
    executor: HttpExecutor, manifest: SkillManifest, context: CallContext = CONTEXT
) -> PeerError:  # fmt: skip
    with pytest.raises(PeerError) as caught:
        await executor.call(manifest, {"q": "secret words"}, context)
    assert "secret" not in str(caught.value)
    assert caught.value.facts["skill"] == manifest.id
    return caught.value


async def works(executor: HttpExecutor) -> Outcome:
    """The next call, to a good skill, through the same executor."""
    async with skill_server(fine) as good:
        outcome = await executor.call(good.manifest(), {"q": "x"}, CONTEXT)
    assert outcome.result == '{"answer":42}'
    return outcome
