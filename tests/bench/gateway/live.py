"""How many live streams of 20 tokens/s one gateway and one turns worker hold.

Each stream is a turn of its own, begun over its client's socket, carried by the real turns worker and shown by the real
gateway; only the model is replaced, by the cheapest writer of answers there is, and embeddings come from a server that
hashes. Their number is doubled until the deltas come late, and then the step is halved.
"""

from __future__ import annotations

import asyncio
import os
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from headstart.stack import until_ready
from memory.embed import HashEmbedder
from memory.opening import MINILM_DIMENSIONS
from streams.child import Child
from tests.bench.figures import Spread, number, table
from tests.bench.gateway import sockets
from tests.bench.gateway.ground import TENANT, GatewayProcess, Ground, cpu_s, ground, until_written
from tests.bench.gateway.parts import Gaps, Section, World
from tests.bench.scenarios import NO_PLAN, SHORT_TOKENS, TOKENS_PER_SECOND
from tests.support.openai_server import OpenAIServer, serve
from workers.generation.scripted_engine import ScriptedEngine

BUDGET_MS: Final = 20.0
FIRST, FIRST_QUICK, MOST = 100, 20, 3_200
HALVINGS, HALVINGS_QUICK = 2, 0
KEYS: Final = 20  # a key may begin 20 turns a second
BEGUN_PER_SECOND: Final = 60.0
ALL_BEGUN_S: Final = 60.0  # turns of this agent have two minutes
SETTLE_S, COUNTED_S, COUNTED_QUICK_S = 2.0, 8.0, 4.0
ARRIVED: Final = 0.98  # of the deltas that are due; with fewer the streams are not held, whatever their gaps
DELTA = b'{"type":"response.output_text.delta"'
TEXT = """\
Added: p99 of the gaps between deltas at the clients, less p99 of the gaps with which they were handed to the bus.
Arrived: deltas that came, of those that were due. Cores: CPU seconds a second of each process."""


@dataclass(slots=True)
class Level:
    """One number of streams. cores: by process."""

    streams: int
    gaps: Spread
    written_p99_ms: float
    arrived: float
    cores: dict[str, float]

    @property
    def added_p99_ms(self) -> float:
        return self.gaps.p99 - self.written_p99_ms

    @property
    def held(self) -> bool:
        return self.added_p99_ms <= BUDGET_MS and self.arrived >= ARRIVED

    def as_json(self) -> dict[str, Any]:
        return {"streams": self.streams, "gaps_ms": self.gaps.as_json(), "written_gaps_p99_ms": self.written_p99_ms,
                "added_p99_ms": round(self.added_p99_ms, 3), "arrived": round(self.arrived, 4), "held": self.held,
                "cores": {name: round(used, 3) for name, used in self.cores.items()}}  # fmt: skip


async def run(world: World) -> Section:
    levels: list[Level] = []
    async with AsyncExitStack() as opened:
        parts = await opened.enter_async_context(ground(world.folder / "live", world.kafka_home))
        embedder = HashEmbedder(MINILM_DIMENSIONS)
        url = await opened.enter_async_context(serve(OpenAIServer(ScriptedEngine([]), embedder)))
        settings = {"HEADSTART_EMBEDDINGS_URL": url, "HEADSTART_EMBEDDINGS_MODEL": embedder.name}
        turns = await opened.enter_async_context(parts.process("turns worker", "workers", "turns", **settings))
        await until_ready(turns)
        gateway = await opened.enter_async_context(parts.gateway())
        at_ms = int(time.time() * 1000)
        store = parts.parts.store
        keys = [await store.create_key(TENANT, f"user-{n}", "bench", ("chat",), at_ms) for n in range(KEYS)]
        scene = Scene(world, parts, turns, gateway, keys)
        streams = FIRST_QUICK if world.quick else FIRST
        while not levels or (levels[-1].held and streams <= MOST and not (world.quick and len(levels) == 2)):
            levels.append(await scene.level(streams))
            streams *= 2
        for _ in range(HALVINGS_QUICK if world.quick else HALVINGS):
            held = max((level.streams for level in levels if level.held), default=0)
            failed = min((level.streams for level in levels if not level.held), default=0)
            if held and failed:
                levels.append(await scene.level((held + failed) // 2))
    return _section(sorted(levels, key=lambda level: level.streams))


def _section(levels: list[Level]) -> Section:
    held = max((level.streams for level in levels if level.held), default=0)
    rows = [
        [str(level.streams), str(level.gaps.count), f"{number(level.gaps.p50)} / {number(level.gaps.p99)}",
         number(level.written_p99_ms), number(level.added_p99_ms), f"{level.arrived:.1%}",
         ", ".join(f"{name} {used:.2f}" for name, used in level.cores.items()), "yes" if level.held else "no"]
        for level in levels
    ]  # fmt: skip
    head = ["streams", "gaps", "p50 / p99 ms", "written p99", "added p99", "arrived", "cores", "held"]
    told = f"Held with p99 ≤ {BUDGET_MS:g} ms added between tokens: {held} streams of {TOKENS_PER_SECOND:g} tokens/s."
    return Section(
        "live streams", f"{TEXT}\n\n{table(head, rows)}\n\n{told}",
        {"held": held, "levels": [level.as_json() for level in levels]},
    )  # fmt: skip


@dataclass(slots=True)
class Scene:
    """What runs at every level."""

    world: World
    parts: Ground
    turns: Child
    gateway: GatewayProcess
    keys: list[str]
    runs: int = 0

    async def level(self, streams: int) -> Level:
        self.world.say(f"  live: {streams} streams …")
        self.runs += 1
        folder = self.parts.folder / "generation"
        folder.mkdir(exist_ok=True)
        ready, written = folder / f"ready-{self.runs}", folder / f"gaps-{self.runs}.json"
        gaps, speaking = Gaps(streams), set[int]()
        wrong: list[bytes] = []

        def seen(socket: sockets.Socket, body: bytes) -> None:
            if body.startswith(DELTA):
                speaking.add(socket.number)
                gaps.seen(socket.number)
            elif body.startswith(b'{"type":"error"'):
                wrong.append(body)

        seconds = COUNTED_QUICK_S if self.world.quick else COUNTED_S
        module = ("tests.bench.gateway.generation_writer", str(ready), str(written))
        async with self.parts.process(f"generation {self.runs}", *module) as generation:
            await until_written(ready, generation)
            clients = await sockets.open_sockets(self.gateway.url, self.keys, streams, seen)
            try:
                await self._begin(clients, speaking, wrong)
                await asyncio.sleep(SETTLE_S)
                before = self._cpu(generation)
                gaps.begin()
                await asyncio.sleep(seconds)
                found, count = gaps.end(), gaps.deltas
                after = self._cpu(generation)
            finally:
                sockets.drop_all(clients)
        due = streams * (TOKENS_PER_SECOND * seconds - 1)  # the first delta of each begins its first gap
        cores = {name: (after[name] - before[name]) / seconds for name in after}
        spoken: dict[str, float] = msgspec.json.decode(written.read_bytes())
        return Level(streams, found, spoken["p99"], count / due, cores)

    async def _begin(self, clients: list[sockets.Socket], speaking: set[int], wrong: list[bytes]) -> None:
        """One turn each, spread over time; returns when all of them speak, or the time for it is over."""
        for client in clients:
            question = NO_PLAN.ask(client.number, SHORT_TOKENS)
            client.send({"type": "response.create", "model": f"headstart/{NO_PLAN.agent}", "input": question})
            await asyncio.sleep(1 / BEGUN_PER_SECOND)
        try:
            async with asyncio.timeout(ALL_BEGUN_S):
                while len(speaking) < len(clients):  # noqa: ASYNC110 - hundreds of them
                    await asyncio.sleep(0.1)
        except TimeoutError:
            said = wrong[0].decode()[:300] if wrong else "no error"
            self.world.say(f"  live: only {len(speaking)} of {len(clients)} streams began ({said})")

    def _cpu(self, generation: Child) -> dict[str, float]:
        own = os.times()
        return {
            "gateway": self.gateway.cpu_s(), "turns": cpu_s(self.turns), "writer": cpu_s(generation),
            "clients": own.user + own.system,
        }  # fmt: skip
