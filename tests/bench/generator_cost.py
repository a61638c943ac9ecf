"""What the load generator itself costs: raw websockets against headstart.client, on the same turns."""

from __future__ import annotations

import os
from contextlib import AsyncExitStack
from dataclasses import dataclass

from headstart.client import Client
from tests.bench import clients
from tests.bench.driving import Duration, Load, drive
from tests.bench.installation import Installation
from tests.bench.scenarios import NO_PLAN, SHORT_TOKENS, TOKENS_PER_SECOND

AT_ONCE = 20


@dataclass(frozen=True, slots=True)
class GeneratorCost:
    """CPU milliseconds of the generating process per 1,000 deltas received."""

    raw_ms: float
    client_ms: float


async def generator_cost(installation: Installation, duration: Duration) -> GeneratorCost:
    where, turn_s = installation.where, SHORT_TOKENS / TOKENS_PER_SECOND
    async with clients.sockets(where.url, where.keys, AT_ONCE) as opened:
        before = _cpu_s()
        raw = await drive(
            AT_ONCE, turn_s, duration, lambda index, number: opened.turn(index, NO_PLAN, SHORT_TOKENS, number)
        )  # fmt: skip
        raw_s = _cpu_s() - before
    async with AsyncExitStack() as stack:
        connected = [
            await stack.enter_async_context(Client(where.url, where.keys[index % len(where.keys)]))
            for index in range(AT_ONCE)
        ]
        before = _cpu_s()
        through = await drive(
            AT_ONCE, turn_s, duration,
            lambda index, number: clients.through_client(connected[index], NO_PLAN, SHORT_TOKENS, number),
        )  # fmt: skip
        client_s = _cpu_s() - before
    return GeneratorCost(_per_thousand(raw_s, raw), _per_thousand(client_s, through))


def _cpu_s() -> float:
    times = os.times()
    return times.user + times.system


def _per_thousand(seconds: float, load: Load) -> float:
    return seconds * 1e6 / sum(len(turn.deltas) for turn in load.every)
