"""How a gateway's cost grows with traffic that is none of its business.

One gateway shows a fixed number of streams while other conversations are written to at a growing rate, spread over all
partitions. Once all of its clients are at home (their conversations lie on the partitions that the gateway reads
anyway), once half of them came from other gateways, and their conversations lie anywhere.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass

import httpx

from streams import ids
from tests.bench.figures import number, table
from tests.bench.gateway import sockets
from tests.bench.gateway.ground import TENANT, USER, GatewayProcess, Ground, ground
from tests.bench.gateway.log_writer import Job
from tests.bench.gateway.parts import Section, World, steps

CLIENTS = 40
PER_SECOND = 20.0
RATES, RATES_QUICK = (0, 4_000, 12_000), (0, 8_000)
SETTLE_S, COUNTED_S, COUNTED_QUICK_S = 3.0, 8.0, 4.0
HOME_LOOKS = 8  # new conversations to ask for, so that every home partition has been named
DELTA = b'{"type":"response.output_text.delta"'
TEXT = """\
{clients} clients, each shown a stream of {rate:g} tokens/s. Others: records of other conversations written in the whole
log. Reads: records that the gateway was given, and how many of them were its clients'. Per other record: CPU beyond the
row without other traffic, divided by the other records that it was given."""


@dataclass(frozen=True, slots=True)
class Cost:
    """away: how many of the clients came from elsewhere. given, mine: records a second. cores: CPU seconds a second."""

    away: int
    others_per_second: int
    partitions: int
    given: float
    mine: float
    frames: float
    cores: float


async def run(world: World) -> Section:
    seconds = COUNTED_QUICK_S if world.quick else COUNTED_S
    costs: list[Cost] = []
    async with ground(world.folder / "traffic", world.kafka_home) as parts:
        for away in (0, CLIENTS // 2):
            for others in steps(world.quick, RATES_QUICK, RATES):
                world.say(f"  traffic: {away} of {CLIENTS} clients from elsewhere, {others} other records/s …")
                async with parts.gateway() as gateway:  # a new one has touched no partition yet
                    costs.append(await _cost(parts, gateway, away, others, seconds))
    head = ["clients away", "others/s", "partitions read", "given/s", "theirs/s", "frames/s", "cores",
            "us per other record", "us per frame, all in"]  # fmt: skip
    rows = [
        [str(cost.away), str(cost.others_per_second), str(cost.partitions), number(cost.given, 0),
         number(cost.mine, 0), number(cost.frames, 0), number(cost.cores, 3), number(per_other_us(cost, costs)),
         number(cost.cores / cost.frames * 1e6, 0)]
        for cost in costs
    ]  # fmt: skip
    return Section(
        "cost of other traffic", f"{TEXT.format(clients=CLIENTS, rate=PER_SECOND)}\n\n{table(head, rows)}",
        {"clients": CLIENTS, "rows": [
            {name: getattr(cost, name) for name in Cost.__slots__} | {"us_per_other_record": per_other_us(cost, costs)}
            for cost in costs
        ]},
    )  # fmt: skip


def per_other_us(cost: Cost, costs: Sequence[Cost]) -> float:
    """CPU per record of others that the gateway was given; NaN where there was none."""
    quiet = next(one for one in costs if one.away == cost.away and not one.others_per_second)
    others = cost.given - cost.mine - (quiet.given - quiet.mine)
    return (cost.cores - quiet.cores) / others * 1e6 if others > 0 else float("nan")


async def _cost(parts: Ground, gateway: GatewayProcess, away: int, others: int, seconds: float) -> Cost:
    home = await home_partitions(gateway, parts.key)
    elsewhere = [number for number in range(parts.parts.bus.partitions) if number not in home]
    places = [elsewhere[n % len(elsewhere)] if n < away else home[n % len(home)] for n in range(CLIENTS)]
    frames = 0

    def count(socket: sockets.Socket, body: bytes) -> None:
        nonlocal frames
        frames += body.startswith(DELTA)

    async with AsyncExitStack() as opened:
        job = Job(tenant=TENANT, user=USER, streams=places, per_second=PER_SECOND)
        written = await opened.enter_async_context(parts.writer(job))
        clients = await sockets.open_sockets(gateway.url, [parts.key], CLIENTS, count)
        opened.callback(sockets.drop_all, clients)
        for client, conversation in zip(clients, written.conversations, strict=True):
            client.send({"type": "session.attach", "conversation": conversation, "after": "live"})
        await asyncio.sleep(SETTLE_S)
        if others:
            await opened.enter_async_context(parts.writer(Job(tenant=TENANT, user=USER, others_per_second=others)))
            await asyncio.sleep(SETTLE_S)
        before, cpu_s, frames = await figures(gateway), gateway.cpu_s(), 0
        await asyncio.sleep(seconds)
        after, cpu_s, shown = await figures(gateway), gateway.cpu_s() - cpu_s, frames
    given, mine = ((after[name] - before[name]) / seconds for name in ("records", "facts"))
    return Cost(away, others, int(after["partitions"]), given, mine, shown / seconds, cpu_s / seconds)


async def home_partitions(gateway: GatewayProcess, key: str) -> list[int]:
    """Where this gateway opens new conversations, as their ids tell."""
    async with httpx.AsyncClient(base_url=gateway.url, headers={"Authorization": f"Bearer {key}"}) as client:
        made = [(await client.post("/v1/conversations", json={})).json()["id"] for _ in range(HOME_LOOKS)]
    return sorted({ids.partition_of(conversation) for conversation in made})


async def figures(gateway: GatewayProcess) -> dict[str, float]:
    """Counters of /metrics: records given, facts of followed conversations, partitions read."""
    async with httpx.AsyncClient(base_url=gateway.url) as client:
        text = (await client.get("/metrics")).text
    found = {}
    for line in text.splitlines():
        name, _, value = line.partition(" ")
        for wanted in ("records", "facts", "partitions"):
            if name.removesuffix("_total").endswith(wanted) and not line.startswith("#"):
                found[wanted] = float(value)
    return found
