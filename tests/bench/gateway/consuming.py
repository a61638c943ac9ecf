"""The consumer loop of the hot topics against FastStream's: the same records, envelope, handler and broker.

Each consumer is a process of its own that joins a new group, reads every record, and makes the typed event of it with
`streams.codec.decode`. Ours is `streams.lanes`: order per key, commits of what is done and no more. FastStream's runs
one by one and in batches, with the policy that gives the same promise (what failed is read again), and with its
default, which promises less (what is read counts as done).
"""

from __future__ import annotations

import asyncio
import os
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

import msgspec

from streams import ids
from streams.bus import Bus
from streams.codec import encode
from streams.events.generating import AnswerDelta
from streams.kafka_bus import KafkaBus
from streams.settings import Settings
from streams.topology import EVENTS
from tests.bench.figures import number, table
from tests.bench.gateway.consumed import Consumed, Task
from tests.bench.gateway.ground import broker_alone, without_settings
from tests.bench.gateway.parts import Section, World
from tests.bench.own_environment import LeftOut, last_line_of

RECORDS, QUICK_RECORDS = 100_000, 10_000
SLOW_SHARE: Final = 20  # of the records, one in so many is enough for a slow consumer
PARTITIONS, CONVERSATIONS = 32, 512
OURS: Final = "headstart lanes, steps that wait for nothing"
ONE_BY_ONE: Final = "FastStream, one by one, at least once"
BATCHES: Final = "FastStream, batches of 500, at least once"
KINDS: Final = {
    OURS: "quick",
    "headstart lanes, a task for each step": "lanes",
    ONE_BY_ONE: "one",
    "FastStream, one by one, its default (at most once)": "one-default",
    BATCHES: "batch",
    "FastStream, batches of 500, its default (at most once)": "batch-default",
}
BUDGETS: Final = ((ONE_BY_ONE, 10.0), (BATCHES, 1.5))
OWN: Final = ("quick", "lanes")
SLOW: Final = ("one", "one-default")
NAMESPACE: Final = "consuming"
PATIENCE_S: Final = 150
TEXT = """\
{records} records (answer deltas with their four CloudEvents headers, {conversations} keys, {partitions} partitions)
that lie ready on the broker; one by one, FastStream {version} reads a {share}th of them. Rate: from the first record
handled to the last, so that joining the group does not count. CPU: of the consumer's process in that time."""


async def run(world: World) -> Section:
    records = QUICK_RECORDS if world.quick else RECORDS
    found: dict[str, Consumed] = {}
    left_out: list[str] = []
    async with broker_alone(world.folder / "consuming", world.kafka_home) as settings:
        await _write(settings, records)
        for name, kind in KINDS.items():
            count = records // SLOW_SHARE if kind in SLOW else records
            task = Task(kind=kind, namespace=NAMESPACE, records=count)
            world.say(f"  consuming: {name}, {count} records …")
            try:
                found[name] = await _consume(settings, task)
            except LeftOut as error:
                left_out.append(f"{name} is left out: {error}")
    rows = [
        [name, str(one.records), number(one.per_second, 0), number(one.cpu_us), _times(found, name)]
        for name, one in found.items()
    ]  # fmt: skip
    head = ["consumer", "records", "records/s", "CPU us per record", "lanes against it"]
    text = TEXT.format(
        records=records,
        conversations=CONVERSATIONS,
        partitions=PARTITIONS,
        share=SLOW_SHARE,
        version=_version(),
    )
    return Section(
        "the consumer loop against FastStream's",
        "\n\n".join([text, table(head, rows), *left_out, *_judged(found)]),
        {name: msgspec.structs.asdict(one) for name, one in found.items()} | {"left_out": left_out},
    )


def _version() -> str:
    try:
        return version("faststream")
    except PackageNotFoundError:
        return "(not installed: the extra `service`)"


def _times(found: dict[str, Consumed], name: str) -> str:
    return f"{found[OURS].per_second / found[name].per_second:.2f} ×"


def _judged(found: dict[str, Consumed]) -> list[str]:
    lines = []
    for name, budget in BUDGETS:
        if name in found:
            times = found[OURS].per_second / found[name].per_second
            lines.append(f"Budget, ≥ {budget:g} × {name}: {times:.2f} ×, {'met' if times >= budget else 'NOT MET'}.")
    return lines


async def _write(settings: Settings, records: int) -> None:
    bus = KafkaBus.from_settings(settings, namespace=NAMESPACE, client="bench")
    await bus.start()
    try:
        await _post_all(bus, records)
    finally:
        await bus.stop()


async def _post_all(bus: Bus, count: int) -> None:
    conversations = [
        ids.conversation_id(n % PARTITIONS, 1_700_000_000_000, os.urandom(10)) for n in range(CONVERSATIONS)
    ]
    last: asyncio.Future[int] | None = None
    for index in range(count):
        conversation = conversations[index % CONVERSATIONS]
        delta = AnswerDelta(text=" word", index=index, ids=(1000 + index,))
        headers, value = encode(delta, f"turn_{conversation[5:]}/answer/1/{index}", "generation/bench")
        last = await bus.post_raw(EVENTS.name, index % PARTITIONS, conversation.encode(), value, headers)
    if last is not None:
        await last  # stop() waits for the rest


async def _consume(settings: Settings, task: Task) -> Consumed:
    """Raises LeftOut when the consumer fails or takes too long."""
    environment: dict[str, Any] = {**without_settings(os.environ), **settings.environment(), "PYTHONPATH": os.getcwd()}
    module = f"tests.bench.gateway.consumer_{'lanes' if task.kind in OWN else 'faststream'}"
    said = await last_line_of(Path(sys.executable), module, msgspec.json.encode(task).decode(), environment, PATIENCE_S)
    return msgspec.json.decode(said, type=Consumed)
