"""Connections that only exist: how many one gateway process holds, and what each costs it.

Beside it the same server without Headstart: uvicorn with an application that accepts the socket and waits.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from streams.child import start_child, until_listening
from streams.embedded import free_port
from tests.bench.driving import clock
from tests.bench.figures import number, table
from tests.bench.gateway import sockets
from tests.bench.gateway.ground import STOP_S, GatewayProcess, ground
from tests.bench.gateway.parts import Section, World

FULL, QUICK = 5_000, 500
HELD_S, HELD_QUICK_S = 45.0, 5.0  # the server pings every 20 s and gives up a client after 20 more
BUDGET_KIB = 24
KIB = 1024
WARM_UP = 20  # sockets opened and closed before anything counts: pools and caches are filled then
TEXT = """\
{held} of {wanted} idle connections were held for {seconds:g} s, pings answered. KiB each: memory of the server's own
(USS) with all of them less without any, divided by their number. Bare uvicorn accepts a socket and waits."""


@dataclass(frozen=True, slots=True)
class Held:
    """kib_each: memory per connection. opened_per_second: handshakes, the client's own work included. cpu_ms: of the
    server for each second in which they did nothing but answer pings."""

    server: str
    wanted: int
    held: int
    kib_each: float
    opened_per_second: float
    cpu_ms: float


async def run(world: World) -> Section:
    count = QUICK if world.quick else FULL
    seconds = HELD_QUICK_S if world.quick else HELD_S
    async with ground(world.folder / "idle", None) as parts, parts.gateway() as gateway:
        world.say(f"  idle: {count} connections to the gateway …")
        ours = await _hold("Headstart", gateway, parts.key, count, seconds)
    async with bare_uvicorn(world.folder / "idle") as bare:
        world.say(f"  idle: {count} connections to bare uvicorn …")
        theirs = await _hold("bare uvicorn", bare, "none", count, HELD_QUICK_S)
    rows = [
        [one.server, str(one.held), number(one.kib_each), f"{one.kib_each / theirs.kib_each:.2f}",
         number(one.opened_per_second, 0), number(one.cpu_ms)]
        for one in (ours, theirs)
    ]  # fmt: skip
    head = ["server", "held", "KiB each", "ratio", "opened per second", "CPU ms per idle second"]
    said = "met" if ours.kib_each <= BUDGET_KIB else "NOT MET"
    text = TEXT.format(held=ours.held, wanted=count, seconds=seconds)
    return Section(
        "idle connections", f"{text}\n\n{table(head, rows)}\n\nBudget, ≤ {BUDGET_KIB} KiB each: {said}.",
        {one.server: {name: getattr(one, name) for name in Held.__slots__} for one in (ours, theirs)},
    )  # fmt: skip


async def _hold(name: str, server: GatewayProcess, key: str, count: int, seconds: float) -> Held:
    sockets.drop_all(await sockets.open_sockets(server.url, [key], WARM_UP))
    await asyncio.sleep(1)
    before = server.resident_bytes()
    began = clock()
    opened = await sockets.open_sockets(server.url, [key], count)
    took_s = clock() - began
    await asyncio.sleep(1)
    cpu_s = server.cpu_s()
    await asyncio.sleep(seconds)
    cpu_s = server.cpu_s() - cpu_s
    each = (server.resident_bytes() - before) / count / KIB
    held = sum(not one.closed for one in opened)
    sockets.drop_all(opened)
    return Held(name, count, held, each, count / took_s, cpu_s * 1000 / seconds)


@asynccontextmanager
async def bare_uvicorn(folder: Path) -> AsyncIterator[GatewayProcess]:
    port = free_port()
    command = [sys.executable, "-m", "tests.bench.gateway.bare_uvicorn", str(port)]
    child = start_child("bare uvicorn", command, log_path=folder / "logs" / "bare-uvicorn.log")
    try:
        await until_listening(child, "127.0.0.1", port, timeout_s=30)
        yield GatewayProcess(f"http://127.0.0.1:{port}", child)
    finally:
        await child.stop(STOP_S)
