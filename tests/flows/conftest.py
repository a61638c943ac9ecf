"""Fixtures of the flows: an executor of calls, and the clock that it goes by."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio

from tests.support.skill_calls import SECRET, Clock
from workers.skills.executor import HttpExecutor


@pytest_asyncio.fixture
async def clock() -> Clock:
    return Clock()


@pytest_asyncio.fixture
async def executor(clock: Clock) -> AsyncIterator[HttpExecutor]:
    async with HttpExecutor(
        signing_key=SECRET,
        allow_private=True,
        clock_ms=clock,
        sleep=clock.sleep,
        jitter=lambda: 1.0,
        timeout=clock.timeout,
    ) as made:
        yield made
