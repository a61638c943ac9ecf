"""Headstart beside LiteLLM's proxy, both in front of the same scripted OpenAI-compatible server, in one run.

They are not the same thing: a proxy hands a request on, Headstart keeps a log of the turn, recalls, remembers and can
resume. The figures say what that costs. Each way is asked over `/v1/chat/completions` with streaming.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import psutil

from streams.child import Child, start_child, until_listening
from streams.embedded import free_port
from streams.errors import HeadstartError
from tests.bench.driving import Duration, Load, clock, drive
from tests.bench.figures import number, table
from tests.bench.gateway.chat_stream import ChatClient
from tests.bench.gateway.ground import STOP_S, model_server, without_settings
from tests.bench.gateway.parts import Section, World
from tests.bench.installation import installed
from tests.bench.own_environment import LeftOut, own_environment
from tests.bench.scenarios import NO_PLAN, SHORT_TOKENS, TOKENS_PER_SECOND

PINNED: Final = ("litellm[proxy]==1.102.4",)
MODEL: Final = "scripted"
KEY: Final = "sk-bench"
STREAMS, STREAMS_QUICK = 20, 5
DURATION, DURATION_QUICK = Duration(15.0, 6), Duration(5.0, 2)
AT_ONCE: Final = 32  # requests of one token, which takes 50 ms: 640 a second are the most that this load can ask for
RATE_S, RATE_QUICK_S = 8.0, 3.0
WARM_UPS: Final = 3
DIRECT, LITELLM, OURS = "the server itself", "LiteLLM proxy", "Headstart"
Cpu = Callable[[], dict[str, float]]
TEXT = """\
{streams} streams of {tokens} tokens at {rate:g} tokens/s. Added: beyond the server asked directly, at p50 / p99.
Requests: answered a second, {at_once} at a time, one token each. CPU: of every process of the way but the server and
the client, in seconds per 1,000 tokens; for Headstart also the gateway's own share."""


@dataclass(slots=True)
class Way:
    """One way to the server. cpu: seconds per 1,000 tokens, by process."""

    name: str
    load: Load
    requests_per_second: float
    cpu: dict[str, float]

    def as_json(self) -> dict[str, Any]:
        return {
            "first_token_ms": self.load.first().as_json(), "between_tokens_ms": self.load.gaps().as_json(),
            "requests_per_second": round(self.requests_per_second, 1),
            "cpu_s_per_1000_tokens": {name: round(used, 4) for name, used in self.cpu.items()},
            "cpu_s_per_1000_tokens_in_all": round(sum(self.cpu.values()), 4),
        }  # fmt: skip


async def run(world: World) -> Section:
    ways: list[Way] = []
    left_out = ""
    folder = world.folder / "proxying"
    async with model_server(folder) as url:
        ways.append(await _way(world, DIRECT, ChatClient(url, MODEL, [KEY]), dict))
        try:
            async with litellm(world, folder, url) as (proxy, cpu):
                ways.append(await _way(world, LITELLM, ChatClient(proxy, MODEL, [KEY]), cpu))
        except (LeftOut, HeadstartError) as error:
            left_out = f"LiteLLM's proxy is left out: {error}"
        table_of_models = f'[models.default]\nengine = "openai"\nurl = "{url}"\nmodel = "{MODEL}"\n'
        async with installed(
            folder / "headstart", kafka_home=world.kafka_home, separate=True, models=table_of_models
        ) as running:
            client = ChatClient(f"{running.where.url}/v1", f"headstart/{NO_PLAN.agent}", running.where.keys)
            ways.append(await _way(world, OURS, client, running.cpu_seconds))
    return _section(world, ways, left_out)


def _section(world: World, ways: list[Way], left_out: str) -> Section:
    base = ways[0].load
    rows = []
    for way in ways:
        first, gaps = way.load.first().minus(base.first()), way.load.gaps().minus(base.gaps())
        share = f" (gateway {way.cpu['gateway']:.3f})" if "gateway" in way.cpu else ""
        rows.append([
            way.name, str(len(way.load.turns)),
            f"{number(way.load.first().p50)} / {number(way.load.first().p99)}",
            f"{number(first.p50)} / {number(first.p99)}",
            f"{number(gaps.p50)} / {number(gaps.p99)}", number(way.requests_per_second, 0),
            f"{sum(way.cpu.values()):.3f}{share}" if way.cpu else "–",
        ])  # fmt: skip
    streams = STREAMS_QUICK if world.quick else STREAMS
    text = TEXT.format(streams=streams, tokens=SHORT_TOKENS, rate=TOKENS_PER_SECOND, at_once=AT_ONCE)
    head = ["way", "answers", "first token ms", "added", "added between tokens ms", "requests/s",
            "CPU s per 1,000 tokens"]  # fmt: skip
    told = "\n\n".join([text, table(head, rows), *([left_out] if left_out else [])])
    return Section(
        "beside LiteLLM's proxy", told,
        {way.name: way.as_json() for way in ways} | ({"left_out": left_out} if left_out else {}),
    )  # fmt: skip


async def _way(world: World, name: str, client: ChatClient, cpu: Cpu) -> Way:
    streams = STREAMS_QUICK if world.quick else STREAMS
    world.say(f"  proxying: {name}, {streams} streams …")
    try:
        for number_ in range(WARM_UPS):
            await client.turn(0, NO_PLAN.ask(number_, SHORT_TOKENS), 5)
        before = cpu()
        load = await drive(
            streams, SHORT_TOKENS / TOKENS_PER_SECOND, DURATION_QUICK if world.quick else DURATION,
            lambda index, turn: client.turn(index, NO_PLAN.ask(turn, SHORT_TOKENS)),
        )  # fmt: skip
        after = cpu()
        world.say(f"  proxying: {name}, requests …")
        rate = await _requests_per_second(client.turn, RATE_QUICK_S if world.quick else RATE_S)
    finally:
        client.close()
    thousands = sum(len(turn.deltas) for turn in load.every) / 1000
    used = {part: (total - before.get(part, 0.0)) / thousands for part, total in after.items()}
    return Way(name, load, rate, used)


async def _requests_per_second(turn: Callable[[int, str, int], Awaitable[object]], seconds: float) -> float:
    until, answered = clock() + seconds, 0

    async def one_after_the_other(index: int) -> None:
        nonlocal answered
        while clock() < until:
            await turn(index, NO_PLAN.ask(answered, SHORT_TOKENS), 1)
            answered += 1

    began = clock()
    async with asyncio.TaskGroup() as group:
        for index in range(AT_ONCE):
            _ = group.create_task(one_after_the_other(index))
    return answered / (clock() - began)


@asynccontextmanager
async def litellm(world: World, folder: Path, url: str) -> AsyncIterator[tuple[str, Cpu]]:
    """Its proxy, one worker, in front of the server at `url`; gives its URL and its CPU. Raises LeftOut."""
    python = await asyncio.to_thread(own_environment, world.cache / "bench-litellm", PINNED)
    config, port = folder / "litellm.yaml", free_port()
    config.write_text(
        f"model_list:\n  - model_name: {MODEL}\n    litellm_params:\n      model: openai/{MODEL}\n"
        f"      api_base: {url}\n      api_key: {KEY}\n"
    )
    quiet = without_settings(os.environ) | {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_LOG": "ERROR"}
    command = [str(python.with_name("litellm")), "--config", str(config), "--host", "127.0.0.1", "--port", str(port)]
    command += ["--telemetry", "False"]
    child = start_child("LiteLLM proxy", command, log_path=folder / "litellm.log", environment=quiet)
    try:
        await until_listening(child, "127.0.0.1", port, timeout_s=120)
        yield f"http://127.0.0.1:{port}/v1", lambda: {"proxy": _tree_cpu_s(child)}
    finally:
        await child.stop(STOP_S)


def _tree_cpu_s(child: Child) -> float:
    root = psutil.Process(child.pid)
    times = [process.cpu_times() for process in (root, *root.children(recursive=True))]
    return sum(one.user + one.system for one in times)
