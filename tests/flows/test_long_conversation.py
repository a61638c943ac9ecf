"""A conversation of two hundred turns: its prompts stay small, and what was said at its beginning is still known."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio

from memory.embed import HashEmbedder
from memory.memory_store import MemoryStore
from memory.postgres import PostgresStore
from memory.selection import tokens_of
from memory.store import Store
from streams.events.generating import Message
from tests.support.databases import fresh_database, postgres_server
from tests.support.turn_world import world
from workers.agents.catalog import Agent, load_all
from workers.remembering.summarising import SUMMARY_TOKENS
from workers.remembering.worker import MemoryWorker

pytestmark = pytest.mark.asyncio
TURNS = 200
FACT = "The wedding of my sister Olga is on the 14th of June in Porto."
QUESTION = "When is the wedding of my sister?"
WINDOW_TOKENS = 2_048  # of the smallest model


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with postgres_server() as dsn:
        yield dsn


@pytest_asyncio.fixture(params=["memory", "postgres"])
async def store(request: pytest.FixtureRequest) -> AsyncIterator[Store]:
    dimensions = HashEmbedder().dimensions
    if request.param == "memory":
        yield MemoryStore(dimensions)
        return
    async with fresh_database(request.getfixturevalue("server")) as dsn:
        postgres = PostgresStore(dsn, dimensions)
        await postgres.migrate()
        await postgres.open()
        yield postgres
        await postgres.close()


def said(number: int) -> str:
    if number == 3:
        return FACT
    if number == TURNS:
        return QUESTION
    return f"Tell me something about subject {number}, please, and do take your time with number {number}."


def answered(number: int) -> str:
    if number == 3:
        return "How lovely, I will keep that in mind."
    words = itertools.islice(itertools.cycle(f"subject {number} is wide and has many sides".split()), 90)
    return f"{' '.join(words)}."


def tokens(messages: tuple[Message, ...]) -> int:
    return sum(tokens_of(message.content) for message in messages)


def budget(agent: Agent, question: str) -> int:
    """What the agent's prompt may take: its own text, each part's budget, the question, a line for each heading."""
    empty = agent.answer.prompt.render(
        question=question, history=[], summary="", recalled=[], habits=[], instructions="", today="", locale="",
        results=[], failed=[], examples=[], facts=[],
    )  # fmt: skip
    parts = agent.history_tokens + agent.recall_tokens + SUMMARY_TOKENS + agent.example_tokens
    return tokens(empty) + parts + 32


async def test_the_prompt_of_turn_200_holds_the_fact_of_turn_3_and_every_prompt_its_budget(store: Store) -> None:
    agent = load_all()["companion"]
    largest = whole = 0
    prompt = ""
    async with world(patience_s=240) as scene:
        scene.store = store  # type: ignore[assignment]
        store.follow(scene.bus.epoch)
        await scene.owner()
        ticks = itertools.count(0, 10_000)
        worker = MemoryWorker(scene.bus, store, HashEmbedder(), clock_ms=lambda: float(next(ticks)))
        await worker.join()
        conversation = scene.conversation()
        for number in range(1, TURNS + 1):
            turn = await scene.submit(conversation, said(number), event_id=f"turn-{number}", agent="companion")
            request = await scene.request("answer")
            assert request.turn == turn
            size = tokens(request.messages)
            prompt = "\n".join(message.content for message in request.messages)
            assert size <= budget(agent, said(number)), f"turn {number}"
            largest = max(largest, size)
            await scene.write(request, answered(number))
            await scene.facts(turn)
            whole += tokens_of(said(number)) + tokens_of(answered(number))
            while await worker.step(wait_ms=1):
                pass
            await worker.flush()
        await worker.stop()
    assert FACT in prompt
    assert prompt.endswith(f"Question: {QUESTION}")
    assert "Earlier we said:" in prompt
    assert f"subject {TURNS - 1}," in prompt, "the newest turns stand in it as they were"
    assert largest + agent.answer.options.max_tokens <= WINDOW_TOKENS
    assert whole > 10 * WINDOW_TOKENS, "the conversation itself would not have fitted"
