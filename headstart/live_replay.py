"""Turns run again with a model: what `headstart replay --mode pin|live` does, told turn by turn."""

from __future__ import annotations

import asyncio
import sys
import time
from contextlib import AsyncExitStack

from headstart.replay.changing import Change
from headstart.replay.live import LiveReplay, identical_tokens, live_recording, replay_live
from headstart.replay.pacing import pace_of
from headstart.replay.recording import Recording
from headstart.replay.steps import TurnSteps, steps_of
from headstart.replay.stub import Setups
from headstart.replay.turns import TurnLog, turn_logs
from streams.codec import Record
from streams.errors import InvalidInput
from streams.kafka_bus import KafkaBus
from streams.settings import Settings
from streams.topology import EVENTS, PROMPTS, by_name
from workers.generation.models import Models, load_models
from workers.skills.execution import Executor
from workers.skills.executor import HttpExecutor


async def run_live(
    settings: Settings, recording: Recording, setups: Setups, change: Change, mode: str, skills: str, at_once: int,
    speed: str,
) -> Recording:  # fmt: skip
    """Runs every turn of a recording with the models of the settings, and gives what came of them."""
    if skills not in ("record", "live"):
        raise InvalidInput(f"{skills!r} is no source of results", hint="record, or live for `pure` skills")
    async with AsyncExitStack() as stack:
        executor: Executor | None = None
        if skills == "live":
            executor = await stack.enter_async_context(HttpExecutor.from_settings(settings))
        models = await load_models(settings)
        stack.push_async_callback(models.close)
        await models.start()
        return await run_with(models, recording, setups, change, mode, executor, at_once, speed)


async def run_with(
    models: Models, recording: Recording, setups: Setups, change: Change, mode: str,
    executor: Executor | None = None, at_once: int = 1, speed: str = "max",
) -> Recording:  # fmt: skip
    """`run_live` on models that are loaded. Prints a line per turn."""
    replay = LiveReplay(models, setups, recording.manifests, change=change, mode=mode, executor=executor)
    came: list[list[Record]] = []
    same = total = 0
    async for turn, records in replay_live(recording, replay, at_once=at_once, pace=pace_of(speed, recording)):
        came.append(records)
        before, after = steps_of(turn), _steps(records)
        common, count = _identical(before, after)
        same, total = same + common, total + count
        sys.stdout.write(f"{_told(turn, after)}{f', {common} of {count} tokens identical' if mode == 'pin' else ''}\n")
    if mode == "pin":
        sys.stdout.write(f"{same} of {total} tokens came out identical\n")
    return live_recording(recording, came, replay.shadow, time.time_ns() // 1_000_000)


async def publish_into(settings: Settings, namespace: str, result: Recording) -> int:
    """Writes a replay's facts on the topics of a namespace, where `headstart tail --namespace` finds them; gives how
    many. Production's topics have no namespace, so they can not be named."""
    if not namespace.replace("-", "").isalnum():
        raise InvalidInput("a namespace is made of letters, digits and -", code="invalid_namespace")
    bus = KafkaBus.from_settings(settings, namespace=namespace, client="headstart-replay")
    await bus.start()
    try:
        kept = []
        for record in result.records:
            if record.topic in (EVENTS.name, PROMPTS.name):
                partition = 0 if by_name(record.topic).partitions == 1 else record.partition
                kept.append(await bus.post_raw(record.topic, partition, record.key, record.value, list(record.headers)))
        return len(await asyncio.gather(*kept))
    finally:
        await bus.stop()


def _steps(records: list[Record]) -> TurnSteps:
    [turn] = turn_logs(record for record in records if record.topic == EVENTS.name)
    return steps_of(turn)


def _identical(before: TurnSteps, after: TurnSteps) -> tuple[int, int]:
    """Tokens in common from the beginning of each step, and how many there were."""
    pairs = [(step, after.models[name]) for name, step in before.models.items() if name in after.models]
    common = sum(identical_tokens(one.ids, other.ids) for one, other in pairs)
    return common, sum(len(step.ids) for step in before.models.values())


def _told(turn: TurnLog, after: TurnSteps) -> str:
    return f"{turn.turn}  {after.status} in {after.took_ms:,.0f} ms, {after.tokens} tokens"
