"""500 calls over Apache Kafka to a service that is killed with SIGKILL and started again."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections import Counter
from pathlib import Path
from typing import Final

import pytest

from headstart.stack import until_ready
from streams.child import Child, start_child
from streams.codec import Record, decode, identity
from streams.embedded import Broker
from streams.events.calling import CallAnswered, CallFailed, CallFired
from streams.events.intake import TurnOptions
from streams.events.turn import TERMINAL_TYPES, TurnCompleted
from streams.fence import Fence
from tests.support.bus_services import AGENT, PARTITIONS, SECRET, Rig, broker_for, rig
from tests.support.slow_service import NAME
from tests.support.stacks import without_settings
from workers.generation.scripted_engine import Rule, When

pytestmark = [pytest.mark.kafka, pytest.mark.slow, pytest.mark.asyncio]
TURNS: Final = 84
CALLS_EACH: Final = 6  # five that may be repeated, one that may not: 504 calls
SESSION_MS: Final = 6_000  # so long after a kill the broker gives the partitions to the next process
PATIENCE_S: Final = 90.0  # ends a test that would hang; nothing is judged by it


def plan(turn: int) -> str:
    calls = [{"name": "work", "arguments": {"number": turn * 10 + index}} for index in range(CALLS_EACH - 1)]
    return json.dumps([*calls, {"name": "once", "arguments": {"number": turn}}])


class Killed:
    """The service's processes, one after the other."""

    def __init__(self, broker: Broker, key: str, folder: Path) -> None:
        self._environment = {
            **without_settings(os.environ), "HEADSTART_KAFKA": broker.bootstrap, "HEADSTART_KEY": key,
            "HEADSTART_SIGNING_KEY": SECRET, "HEADSTART_PARTITIONS": str(PARTITIONS), "HEADSTART_REPLICATION": "1",
            "HEADSTART_SESSION_TIMEOUT_MS": str(SESSION_MS),
            "HEADSTART_FETCH_MAX_WAIT_MS": str(broker.fetch_max_wait_ms),
            "HEADSTART_IDEMPOTENT": str(broker.idempotent).lower(),
        }  # fmt: skip
        self._folder = folder
        self.children: list[Child] = []

    async def start(self) -> None:
        log_path = self._folder / f"service-{len(self.children)}.log"
        child = start_child(
            "service", [sys.executable, "-m", "tests.support.slow_service"], environment=self._environment,
            log_path=log_path,
        )  # fmt: skip
        self.children.append(child)
        await until_ready(child)

    async def kill(self) -> None:
        """As kill -9."""
        self.children[-1].kill()
        await self.children[-1].wait()

    def begun_once(self) -> Counter[str]:
        """How often each irreversible call was begun, over all processes."""
        logs = [self._folder / f"service-{number}.log" for number in range(len(self.children))]
        return Counter(line for log in logs for line in log.read_text().splitlines() if line.startswith("once "))


async def all_ended(scene: Rig, turns: set[str], half: asyncio.Event) -> list[Record]:
    """Every record of `events` until all turns have ended; `half` is set when a quarter of the calls is answered."""
    reader = await scene.bus.reader("events", dict.fromkeys(range(PARTITIONS), "earliest"))
    records: list[Record] = []
    open_turns, answered = set(turns), 0
    try:
        while open_turns:
            for record in await reader.batch():
                records.append(record)
                answered += record.type == CallAnswered.TYPE
                if answered > TURNS * CALLS_EACH // 4:
                    half.set()
                if record.type in TERMINAL_TYPES:
                    open_turns.discard(identity(record).subject)
    finally:
        await reader.close()
    return records


async def test_every_call_is_answered_once_or_ends_with_its_time_out(tmp_path: Path) -> None:
    async with broker_for("kafka", tmp_path) as broker, rig(broker) as scene, asyncio.timeout(PATIENCE_S):
        assert broker is not None
        service = Killed(broker, await scene.key(NAME), tmp_path)
        try:
            await service.start()
            rules = [
                Rule(step="plan", when=When(contains=f"Work number {number}."), say=plan(number))
                for number in range(TURNS)
            ]  # fmt: skip
            owner = await scene.turns("work", "once", max_calls=CALLS_EACH)
            await scene.generation([*rules, Rule(say="Done.")])
            publisher = await scene.publisher("caller", "quota=100000")
            options = TurnOptions(agent=AGENT)
            submitted = [
                await publisher.turn("ada", f"Work number {number}.", options=options) for number in range(TURNS)
            ]  # fmt: skip
            quarter = asyncio.Event()
            ending = asyncio.create_task(all_ended(scene, {one.turn for one in submitted}, quarter))
            await quarter.wait()
            await service.kill()
            await service.start()
            records = await ending
        finally:
            for child in service.children:
                child.kill()
                await child.wait()
        judge(records, {one.turn for one in submitted}, service)
        [family] = owner.metrics.results.collect()
        verdicts = {one.labels["verdict"]: int(one.value) for one in family.samples if one.name.endswith("_total")}
        assert verdicts.get("unexpected", 0) == verdicts.get("early", 0) == 0


def judge(records: list[Record], turns: set[str], service: Killed) -> None:
    fence = Fence()
    fired: Counter[tuple[str, str]] = Counter()
    outcomes: dict[tuple[str, str], list[CallAnswered | CallFailed]] = {}
    ends: Counter[str] = Counter()
    processes: set[int] = set()
    for record in records:
        fact = identity(record)
        if fact.subject not in turns or fence.judge(fact, record.source, record.type) != "counts":
            continue
        event = decode(record)
        if isinstance(event, CallFired):
            fired[fact.subject, fact.stage] += 1
        elif isinstance(event, CallAnswered | CallFailed):
            outcomes.setdefault((fact.subject, fact.stage), []).append(event)
        elif isinstance(event, TurnCompleted):
            ends[fact.subject] += 1
    assert len(fired) == TURNS * CALLS_EACH
    assert set(fired.values()) == {1}
    assert outcomes.keys() == fired.keys(), "every call has an outcome"
    assert all(len(found) == 1 for found in outcomes.values()), "and no more than one"
    assert set(ends.values()) == {1}
    assert ends.keys() == turns
    failed = [event for [event] in outcomes.values() if isinstance(event, CallFailed)]
    assert {event.code for event in failed} <= {"skill_timeout"}
    answered = [event for [event] in outcomes.values() if isinstance(event, CallAnswered)]
    for event in answered:
        said = json.loads(event.result)
        processes.add(said["process"])
    assert processes == {child.pid for child in service.children}, "both processes answered"
    assert max(service.begun_once().values()) == 1, "what must not be repeated was begun at most once"
    assert all(event.in_doubt for event in failed if event.call == CALLS_EACH - 1), "and is in doubt without a result"
    assert len(answered) >= len(outcomes) - TURNS
