"""Every stage as processes of its own, one of each and two of each, on one broker; the stock `openai` client asks."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, Final

import pytest

from headstart.turn_facts import facts_of, of_type, until_remembered
from streams import ids
from streams.embedded import Broker, EmbeddedBroker
from streams.events.calling import CallAnswered, CallFired, PlanCommitted
from streams.events.generating import ModelAsked
from streams.events.recalling import Recalled
from streams.events.turn import TurnCompleted
from tests.support.buses import kafka_broker
from tests.support.stacks import Installation, installation
from workers.generation.scripted_engine import Rule, When

MODEL: Final = "headstart"
PATIENCE_S: Final = 90.0  # ends a test that would hang; nothing is judged by it
PACE: Final = 20.0  # tokens of three bytes a second: slow enough that a plan and two answers can be seen being written
FIRST: Final = "Find data engineers in Berlin and tell me the weather there."
SECOND: Final = "Which city did I ask about before?"
PLAN: Final = (
    '[{"name":"search_people","arguments":{"title":"data engineer","location":"Berlin"}},'
    '{"name":"get_weather","arguments":{"city":"Berlin"}}]'
)
FOUND, REMEMBERED, UNKNOWN = "Two of them, and it is mild.", "You asked about Berlin.", "I do not know."
LONG: Final = {name: " ".join([name] * 40) for name in ("alpha", "gamma")}
RULES: Final = (
    Rule(step="plan", when=When(contains="data engineers in Berlin"), say=PLAN),
    Rule(step="plan", say="[]"),
    Rule(step="answer", when=When(contains="get_weather:"), say=FOUND),
    *(Rule(step="answer", when=When(contains=f"word {name}"), say=text) for name, text in LONG.items()),
    Rule(step="answer", when=When(anywhere="Berlin"), say=REMEMBERED),
    Rule(say=UNKNOWN),
)
Event = Any  # of the SDK: a union of sixty types, and ours beside them


@pytest.mark.slow
@pytest.mark.asyncio
@pytest.mark.parametrize("of_each", [pytest.param(1, id="one-of-each"), pytest.param(2, id="two-of-each")])
@pytest.mark.parametrize("kind", ["tansu", pytest.param("kafka", marks=pytest.mark.kafka)])
async def test_a_journey_through_processes(kind: str, of_each: int, tmp_path: Path) -> None:
    broker: Broker = kafka_broker(tmp_path / "kafka") if kind == "kafka" else EmbeddedBroker(tmp_path)
    async with installation(tmp_path, broker, RULES, of_each=of_each, tokens_per_second=PACE) as stack:
        async with asyncio.timeout(PATIENCE_S):
            await stack.until_shared(of_each)
            first = await a_planned_turn_over_a_socket(stack)
            await the_log_tells_how(stack, first)
            await a_second_turn_recalls_the_first(stack)
            await two_lanes_of_one_socket_run_side_by_side(stack)
            await server_sent_events(stack)


async def a_planned_turn_over_a_socket(stack: Installation) -> str:
    """Two calls to the demo service, fired while the plan is written; gives the turn's id."""
    async with stack.client() as client, client.responses.connect() as connection:
        await connection.response.create(model=MODEL, input=FIRST)
        events = await until_ended(connection, 1)
    assert events[-1].response.output_text == text_of(events) == FOUND
    fired = [event for event in events if event.type == "headstart.tool.fired"]
    assert [event.skill.partition("@")[0] for event in fired] == ["search_people", "get_weather"]
    answered = [event for event in events if event.type == "headstart.tool.answered"]
    assert len(answered) == 2
    return ids.turn_of(events[-1].response.id)


async def the_log_tells_how(stack: Installation, turn: str) -> None:
    row = await until_remembered(stack.parts.store, turn)
    facts = await facts_of(stack.parts.bus, turn, row.offset)
    fired, committed = of_type(facts, CallFired), of_type(facts, PlanCommitted)[0]
    assert {(call.skill.partition("@")[0], call.arguments.get("city")) for call in fired} == {
        ("search_people", None), ("get_weather", "Berlin"),
    }  # fmt: skip
    assert 0 <= fired[0].token < committed.tokens - 1, "the first call left before the plan was whole"
    assert all("Berlin" in answer.result for answer in of_type(facts, CallAnswered))
    assert isinstance(facts[-1], TurnCompleted)


async def a_second_turn_recalls_the_first(stack: Installation) -> None:
    """In a new conversation, on the other gateway where there is one."""
    async with stack.client(1) as client:
        response = await client.responses.create(model=MODEL, input=SECOND)
    assert response.output_text == REMEMBERED
    turn = ids.turn_of(response.id)
    row = await until_remembered(stack.parts.store, turn)
    facts = await facts_of(stack.parts.bus, turn, row.offset)
    prompt = "\n".join(message.content for message in of_type(facts, ModelAsked)[-1].messages)
    assert any(item.text in prompt and "Berlin" in item.text for item in of_type(facts, Recalled)[-1].items)


async def two_lanes_of_one_socket_run_side_by_side(stack: Installation) -> None:
    """Each lane's answer begins before the other's has ended, and none gets a word of the other."""
    async with stack.client() as client, client.responses.connect() as connection:
        for name in LONG:
            await connection.response.create(model=MODEL, input=f"Please repeat the word {name}", stream_id=name)
        events = await until_ended(connection, 2)
    for name, text in LONG.items():
        assert text_of([event for event in events if event.stream_id == name]) == text
    kinds = [(event.type, event.stream_id) for event in events]
    begun = max(kinds.index(("response.output_text.delta", name)) for name in LONG)
    ended = min(kinds.index(("response.completed", name)) for name in LONG)
    assert begun < ended


async def server_sent_events(stack: Installation) -> None:
    async with stack.client() as client:
        stream = await client.responses.create(model=MODEL, input=FIRST, stream=True)
        events = [event async for event in stream]
        assert [event.sequence_number for event in events] == list(range(len(events)))
        assert events[-1].response.output_text == text_of(events) == FOUND
    async with stack.client(1) as client:
        messages = [{"role": "user", "content": FIRST}]
        stream = await client.chat.completions.create(model=MODEL, messages=messages, stream=True)
        choices = [choice async for chunk in stream for choice in chunk.choices]
    assert "".join(choice.delta.content or "" for choice in choices) == FOUND
    assert choices[-1].finish_reason == "stop"


async def until_ended(connection: Any, responses: int) -> list[Event]:
    """Events up to the end of so many responses."""
    events: list[Event] = []
    async for event in connection:
        events.append(event)
        if event.type in ("response.completed", "response.incomplete", "response.failed", "error"):
            assert event.type == "response.completed", event
            responses -= 1
            if responses == 0:
                break
    return events


def text_of(events: list[Event]) -> str:
    return "".join(event.delta for event in events if event.type == "response.output_text.delta")
