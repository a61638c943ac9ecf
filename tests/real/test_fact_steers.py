"""A service tells of a cancelled interview while an answer is being written: every stage a process, on Apache Kafka and
Postgres. The response is steered, the client is told, and the log of it all runs again without a difference."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from pathlib import Path
from typing import Any, Final

import pytest

from headstart.replay.compare import compare
from headstart.replay.recorder import Selection, record
from headstart.replay.stub import replay_stub
from headstart.replay.turns import conversations
from headstart.turn_facts import facts_of, of_type, until_remembered
from streams import ids
from streams.events.conversation import FactTaken
from streams.events.turn import TurnAccepted
from tests.support.buses import kafka_broker
from tests.support.stacks import KEY_TIME_MS, Installation, installation
from workers.generation.scripted_engine import Rule, When

PATIENCE_S: Final = 90.0  # ends a test that would hang; nothing is judged by it
PACE: Final = 20.0  # tokens of three bytes a second: the answer takes ten seconds, and the fact is said in its first
QUESTION: Final = "Find data engineers in Berlin."
HAPPENED: Final = "The interview with Anna Berg is off."
PLAN: Final = '[{"name":"search_people","arguments":{"title":"data engineer","location":"Berlin"}}]'
LONG, SHORT = "I found many of them. " * 25, "By the way, it is off."
RULES: Final = (
    Rule(step="plan", say=PLAN),
    Rule(step="answer", when=When(contains=HAPPENED), say=SHORT),
    Rule(step="answer", say=LONG),
)


@pytest.mark.slow
@pytest.mark.kafka
@pytest.mark.asyncio
async def test_a_service_steers_a_running_response(tmp_path: Path) -> None:
    broker = kafka_broker(tmp_path / "kafka")
    async with installation(tmp_path, broker, RULES, tokens_per_second=PACE) as stack, asyncio.timeout(PATIENCE_S):
        await stack.until_shared(1)
        events = await a_turn_that_is_steered(stack)
        kinds = [event["type"] for event in events]
        taken = events[kinds.index("headstart.fact.taken")]
        assert (taken["kind"], taken["policy"], taken["outcome"]) == ("interview.cancelled", "steer", "steered")
        assert taken["moment"] == "generating"
        first, second = (event["response"]["id"] for event in events if event["type"] == "response.created")
        assert taken["successor"] == second
        end = events[kinds.index("response.incomplete")]["response"]
        assert (end["id"], end["incomplete_details"]) == (first, {"reason": "steered"})
        assert events[-1]["type"] == "response.completed"
        assert events[-1]["response"]["output"][-1]["content"][0]["text"] == SHORT
        successor = ids.turn_of(second)
        bus, store = stack.parts.bus, stack.parts.store
        log = await facts_of(bus, successor, (await until_remembered(store, successor)).offset)
        [accepted] = of_type(log, TurnAccepted)
        assert [item.kind for item in accepted.input] == ["message", "fact"]
        steered = ids.turn_of(first)
        log = await facts_of(bus, steered, (await until_remembered(store, steered)).offset)
        assert len(of_type(log, FactTaken)) == 1
        await the_log_runs_again(stack)


async def a_turn_that_is_steered(stack: Installation) -> list[dict[str, Any]]:
    """What the stock client gets on its one lane; the service speaks when the first words have come."""
    key = await stack.parts.store.create_key("acme", "hiring", "test", ("service",), KEY_TIME_MS)
    found: list[dict[str, Any]] = []
    speaking: asyncio.Task[None] | None = None
    async with stack.client().responses.connect() as connection:
        await connection.response.create(model="headstart/recruiter", input=QUESTION)
        async for event in connection:
            found.append(event.model_dump())
            if speaking is None and event.type == "response.output_text.delta":
                created = next(one for one in found if one["type"] == "response.created")
                speaking = asyncio.create_task(publish(stack, key, created["response"]["conversation"]["id"]))
            if event.type in ("response.completed", "response.failed"):
                break
    assert speaking is not None
    await speaking
    return found


async def publish(stack: Installation, key: str, conversation: str) -> None:
    """From a shell of the service's own."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", "from headstart.cli import main; main()", "publish", "fact", conversation,
        "interview.cancelled", HAPPENED, "--user", "ada", "--tenant", "acme",
        env={**stack.environment, "HEADSTART_KEY": key, "PATH": os.environ["PATH"]},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    out, _ = await process.communicate()
    assert process.returncode == 0, out.decode()


async def the_log_runs_again(stack: Installation) -> None:
    recording = await record(stack.parts.bus, Selection(), now_ms=int(time.time() * 1000), origin="test")
    found = compare(conversations(recording.events, recording.commands), await replay_stub(recording))
    assert [one.text() for one in found] == []
    assert recording.head.turns == 2
