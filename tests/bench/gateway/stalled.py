"""Clients that stop reading: what each costs the gateway, and what the others notice of it.

Every client is shown a stream of its own. Some, with a small receive buffer, follow a long one; then they stop reading
and ask for it from its beginning once more, so that their windows on the gateway are full at once and stay full.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

from tests.bench.figures import Spread, number, table
from tests.bench.gateway import sockets
from tests.bench.gateway.ground import TENANT, USER, GatewayProcess, ground
from tests.bench.gateway.log_writer import Job
from tests.bench.gateway.parts import Gaps, Section, World

CLIENTS, CLIENTS_QUICK = 200, 40
SHARE = 0.10
PER_SECOND = 20.0
BEHIND = 3_000  # deltas that a stalled client still has to be sent: about 900 KB of frames
SETTLE_S, STALL_S = 8.0, 6.0
COUNTED_S, COUNTED_QUICK_S = 15.0, 4.0
LOOKS, LOOK_S = 8, 0.25
BUDGET_KIB, BUDGET_RATIO = 256, 1.2
KIB = 1024
DELTA = b'{"type":"response.output_text.delta"'
TEXT = """\
{clients} clients at {rate:g} tokens/s each, and {stalled} more that follow an answer of {behind} tokens; then these
stand still with all of it to come. Memory: the gateway's own (USS) with them stalled, less that while they read,
divided by their number. Gaps: between the deltas of those that read."""


async def run(world: World) -> Section:
    clients = CLIENTS_QUICK if world.quick else CLIENTS
    seconds = COUNTED_QUICK_S if world.quick else COUNTED_S
    stalled = round(clients * SHARE)
    gaps = Gaps(clients)

    def seen(socket: sockets.Socket, body: bytes) -> None:
        if body.startswith(DELTA):
            gaps.seen(socket.number)

    async with ground(world.folder / "stalled", world.kafka_home) as parts, AsyncExitStack() as opened:
        count = parts.parts.bus.partitions
        gateway = await opened.enter_async_context(parts.gateway())
        long_ones = Job(
            tenant=TENANT, user=USER, streams=[n % count for n in range(stalled)], per_second=1.0, prefill=BEHIND
        )  # fmt: skip
        old = await opened.enter_async_context(parts.writer(long_ones))
        streams = Job(tenant=TENANT, user=USER, streams=[n % count for n in range(clients)], per_second=PER_SECOND)
        written = await opened.enter_async_context(parts.writer(streams))
        readers = await sockets.open_sockets(gateway.url, [parts.key], clients, seen)
        others = await sockets.open_sockets(gateway.url, [parts.key], stalled, small=True)
        opened.callback(sockets.drop_all, [*readers, *others])
        for socket, conversation in zip(readers, written.conversations, strict=True):
            socket.send({"type": "session.attach", "conversation": conversation, "after": "live"})
        for socket, conversation in zip(others, old.conversations, strict=True):
            socket.send({"type": "session.attach", "conversation": conversation, "after": "start"})
        world.say(f"  stalled: all {clients + stalled} clients read …")
        await asyncio.sleep(SETTLE_S)
        gaps.begin()
        await asyncio.sleep(seconds)
        before = gaps.end()
        memory = await _settled(gateway)
        world.say(f"  stalled: {stalled} more stand still …")
        for socket, conversation in zip(others, old.conversations, strict=True):
            socket.stall()
            socket.send({"type": "session.attach", "conversation": conversation, "after": "start"})
        await asyncio.sleep(STALL_S)
        gaps.begin()
        await asyncio.sleep(seconds)
        after = gaps.end()
        each = (await _settled(gateway) - memory) / stalled / KIB
    return _section(clients, stalled, each, before, after)


async def _settled(gateway: GatewayProcess) -> int:
    """The least of several looks: what a look catches in between comes and goes."""
    looks: list[int] = []
    for _ in range(LOOKS):
        looks.append(gateway.resident_bytes())
        await asyncio.sleep(LOOK_S)
    return min(looks)


def _section(clients: int, stalled: int, each_kib: float, before: Spread, after: Spread) -> Section:
    ratio = after.p99 / before.p99
    rows = [
        [name, str(gaps.count), number(gaps.p50), number(gaps.p95), number(gaps.p99)]
        for name, gaps in (("all read", before), (f"{stalled} stalled", after))
    ]
    text = TEXT.format(clients=clients, rate=PER_SECOND, stalled=stalled, behind=BEHIND)
    budgets = (
        f"Memory of a stalled client: {each_kib:.0f} KiB, {'met' if each_kib <= BUDGET_KIB else 'NOT MET'} "
        f"(≤ {BUDGET_KIB}). Others' p99: {ratio:.2f} ×, {'met' if ratio <= BUDGET_RATIO else 'NOT MET'} "
        f"(≤ {BUDGET_RATIO})."
    )
    head = ["", "gaps", "p50 ms", "p95 ms", "p99 ms"]
    return Section(
        "stalled clients", f"{text}\n\n{table(head, rows)}\n\n{budgets}",
        {"clients": clients, "stalled": stalled, "stalled_kib_each": each_kib, "others_p99_ratio": ratio,
         "gaps_ms": before.as_json(), "gaps_with_stalled_ms": after.as_json()},
    )  # fmt: skip
