"""The main job on real parts with the real small model: two questions, two skills, and what memory gave the second."""

from __future__ import annotations

import os
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio

from headstart.client import Client
from headstart.demo_journey import FIRST, SECOND
from headstart.stack import running
from headstart.turn_facts import facts_of, of_type, until_remembered
from streams import ids
from streams.events import Event
from streams.events.calling import CallAnswered, CallFired, PlanCommitted
from streams.events.generating import ModelAsked
from streams.events.recalling import Recalled
from streams.events.routing import RouteDecided
from streams.events.turn import TurnCompleted
from streams.settings import Settings
from tests.support.stacks import without_settings

# Loading vLLM takes 30 seconds on two free cores and several times that on busy ones.
pytestmark = [
    pytest.mark.vllm, pytest.mark.slow, pytest.mark.timeout(900), pytest.mark.asyncio(loop_scope="module"),
]  # fmt: skip


@dataclass(frozen=True)
class Asked:
    """A turn that has ended: what its client was shown, and its facts as the log has them."""

    text: str
    facts: Sequence[Event]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def journey() -> AsyncIterator[tuple[Asked, Asked]]:
    """The first question and, once it is remembered, the second in a new conversation."""
    async with AsyncExitStack() as opened:
        folder = opened.enter_context(tempfile.TemporaryDirectory(prefix="headstart-test-", ignore_cleanup_errors=True))
        settings = Settings.from_env(without_settings(os.environ)).but(data=Path(folder), port=0)
        stack = await opened.enter_async_context(running(settings))
        client = await opened.enter_async_context(Client(stack.url, key=stack.key))

        async def ask(question: str) -> Asked:
            turn = await client.submit(question)
            frames = [frame async for frame in turn]
            text = "".join(frame["delta"] for frame in frames if frame["type"] == "response.output_text.delta")
            turn_id = ids.turn_of(frames[-1]["response"]["id"])
            row = await until_remembered(stack.parts.store, turn_id)
            return Asked(text, await facts_of(stack.parts.bus, turn_id, row.offset))

        yield await ask(FIRST), await ask(SECOND)


async def test_a_question_that_needs_two_skills(journey: tuple[Asked, Asked]) -> None:
    first, _ = journey
    assert isinstance(first.facts[-1], TurnCompleted)
    assert first.text
    called = {call.skill.partition("@")[0]: call.arguments for call in of_type(first.facts, CallFired)}
    assert called.keys() == {"search_people", "get_weather"}
    assert called["get_weather"]["city"] == called["search_people"]["location"] == "Berlin"
    answers = of_type(first.facts, CallAnswered)
    assert len(answers) == 2
    assert all("Berlin" in answer.result for answer in answers)


async def test_a_call_left_before_the_plan_was_written_whole(journey: tuple[Asked, Asked]) -> None:
    """By the token's place in the log: no clock is asked."""
    first, _ = journey
    last = of_type(first.facts, PlanCommitted)[0].tokens - 1
    assert any(0 <= call.token < last for call in of_type(first.facts, CallFired))


async def test_the_second_prompt_holds_what_is_remembered_of_the_first(journey: tuple[Asked, Asked]) -> None:
    first, second = journey
    assert isinstance(second.facts[-1], TurnCompleted)
    assert second.text
    assert of_type(second.facts, RouteDecided)[0].agent == "companion"
    items = of_type(second.facts, Recalled)[-1].items
    prompt = "\n".join(message.content for message in of_type(second.facts, ModelAsked)[-1].messages)
    assert FIRST in {item.text for item in items}
    assert FIRST in prompt
    assert first.text.strip() in prompt
