"""Coming back on another gateway: from the first byte of the new connection to the frame that was missed.

Streams go on at both gateways. One client after the other loses its socket, stays away for a moment and comes back to
the other gateway with its last cursor in the query, as SDKs do.
"""

from __future__ import annotations

import asyncio
import random
from contextlib import AsyncExitStack
from dataclasses import dataclass

from streams.offsets import Cursor
from tests.bench.clients import CURSOR, TurnWentWrong
from tests.bench.driving import MS, clock
from tests.bench.figures import number, spread, table
from tests.bench.gateway import sockets
from tests.bench.gateway.ground import TENANT, USER, ground
from tests.bench.gateway.log_writer import Job
from tests.bench.gateway.parts import Section, World

STREAMS = 100
PER_SECOND = 20.0
RESUMES, RESUMES_QUICK = 400, 40
AT_ONCE = 4
AWAY_S = 0.5
PATIENCE_S = 30.0
DELTA = b'{"type":"response.output_text.delta"'
LIVE = b'{"type":"session.live"'
SEED = 5
TEXT = """\
{resumes} resumes, {at_once} at a time, beside {streams} streams of {rate:g} tokens/s on two gateways. Each client was
away for {away:g} s and connects to the gateway that it was not on. First missed frame: from connecting to the first
frame after its cursor. Live: until it has everything and is fed as it happens."""


@dataclass(slots=True)
class Follower:
    """A client of one stream. gateway: which of the two it is on. cursor: of the last delta it had."""

    gateway: int
    cursor: str = ""
    socket: sockets.Socket | None = None

    def note(self, socket: sockets.Socket, body: bytes) -> None:
        if body.startswith(DELTA):
            self.cursor = body[CURSOR].decode()

    def drop(self) -> None:
        if self.socket is not None:
            self.socket.drop()


async def run(world: World) -> Section:
    resumes = RESUMES_QUICK if world.quick else RESUMES
    chance = random.Random(SEED)
    first_ms: list[float] = []
    live_ms: list[float] = []
    async with ground(world.folder / "resume", world.kafka_home) as parts, AsyncExitStack() as opened:
        count = parts.parts.bus.partitions
        gateways = [await opened.enter_async_context(parts.gateway(f"gateway {n}")) for n in (1, 2)]
        job = Job(tenant=TENANT, user=USER, streams=[n % count for n in range(STREAMS)], per_second=PER_SECOND)
        written = await opened.enter_async_context(parts.writer(job))
        followers: list[Follower] = []
        for index, conversation in enumerate(written.conversations):
            follower = Follower(index % 2)
            opened.callback(follower.drop)
            follower.socket = await sockets.open_socket(gateways[follower.gateway].url, parts.key, follower.note)
            follower.socket.send({"type": "session.attach", "conversation": conversation, "after": "live"})
            followers.append(follower)
        async with asyncio.timeout(PATIENCE_S):
            while not all(follower.cursor for follower in followers):  # noqa: ASYNC110 - a hundred of them
                await asyncio.sleep(0.1)
        world.say(f"  resume: {resumes} resumes …")

        async def one_after_the_other(mine: list[Follower], times: int) -> None:
            for _ in range(times):
                first, live = await _resume(chance.choice(mine), [gateway.url for gateway in gateways], parts.key)
                first_ms.append(first)
                live_ms.append(live)

        async with asyncio.timeout(PATIENCE_S + resumes * (AWAY_S + 1)), asyncio.TaskGroup() as group:
            for lane in range(AT_ONCE):
                _ = group.create_task(one_after_the_other(followers[lane::AT_ONCE], resumes // AT_ONCE))
    first, live = spread(first_ms), spread(live_ms)
    rows = [
        [name, str(found.count), number(found.p50), number(found.p95), number(found.p99)]
        for name, found in (("first missed frame", first), ("live", live))
    ]
    text = TEXT.format(resumes=first.count, at_once=AT_ONCE, streams=STREAMS, rate=PER_SECOND, away=AWAY_S)
    return Section(
        "resume on another gateway",
        f"{text}\n\n{table(['from connecting to', 'resumes', 'p50 ms', 'p95 ms', 'p99 ms'], rows)}",
        {"first_missed_frame_ms": first.as_json(), "live_ms": live.as_json()},
    )


async def _resume(follower: Follower, urls: list[str], key: str) -> tuple[float, float]:
    """Drops the client's socket and comes back elsewhere; ms to the first missed frame and to being live."""
    follower.drop()
    await asyncio.sleep(AWAY_S)
    last = Cursor.decode(follower.cursor)
    follower.gateway = 1 - follower.gateway
    loop = asyncio.get_running_loop()
    first: asyncio.Future[float] = loop.create_future()
    live: asyncio.Future[float] = loop.create_future()

    def seen(socket: sockets.Socket, body: bytes) -> None:
        follower.note(socket, body)
        if body.startswith(DELTA) and not first.done():
            at, found = clock(), Cursor.decode(follower.cursor)
            if (found.offset, found.frame) > (last.offset, last.frame):
                first.set_result(at)
            else:
                first.set_exception(TurnWentWrong("a frame came again after a resume"))
        elif body.startswith(LIVE):
            live.set_result(clock())
            socket.on_frame = follower.note

    began = clock()
    follower.socket = await sockets.open_socket(urls[follower.gateway], key, seen, after=follower.cursor)
    async with asyncio.timeout(PATIENCE_S):
        return (await first - began) * MS, (await live - began) * MS
