"""Routing and discovery on the real embeddings: a sample of the benchmark's held-out turns and questions."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import pytest_asyncio

from memory.embed import MiniLMEmbedder
from tests.bench.routing.finding import found
from tests.bench.routing.labelled import HELD_OUT, NONE, larger_set, sample, shipped_set, turns
from tests.bench.routing.ours import Figures, figures, routed
from tests.bench.routing.registered import QUESTIONS, questions

pytestmark = pytest.mark.asyncio(loop_scope="module")
SEED = 20
SAMPLE = 150


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def embedder() -> MiniLMEmbedder:
    made = MiniLMEmbedder()
    await made.start()
    return made


async def measured(embedder: MiniLMEmbedder, root: Path | None) -> Figures:
    agents = shipped_set() if root is None else larger_set(root)
    chosen = sample([turn for turn in turns(HELD_OUT) if turn.agent in agents or turn.agent == NONE], SAMPLE, SEED)
    found = figures(chosen, await routed(embedder, agents, chosen))
    print(f"\n{len(agents)} agents: {found}")
    return found


async def test_held_out_turns_find_their_agent_and_strangers_find_none(embedder: MiniLMEmbedder) -> None:
    found = await measured(embedder, None)
    assert found.accuracy >= 0.85
    assert found.nobody_recall >= 0.8


async def test_routing_holds_among_seventeen_agents(embedder: MiniLMEmbedder, tmp_path: Path) -> None:
    found = await measured(embedder, tmp_path)
    assert found.accuracy >= 0.75
    assert found.nobody_recall >= 0.8


async def test_the_skill_that_a_question_needs_is_among_the_first_five_of_220(embedder: MiniLMEmbedder) -> None:
    chosen = random.Random(SEED).sample(questions(QUESTIONS), 60)
    one = await found(embedder, chosen)
    print(f"\n{one}")
    assert one.skills >= 200
    assert one.recall[5] >= 0.95
