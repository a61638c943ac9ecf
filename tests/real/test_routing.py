"""The router on the real embeddings: each utterance held out once, and texts that no agent takes."""

from __future__ import annotations

import pytest

from memory.embed import MiniLMEmbedder
from workers.agents.catalog import OUT_OF_SCOPE, load_all
from workers.routing.router import Router

pytestmark = pytest.mark.asyncio
OUTSIDE = (
    "Write a poem about the sea", "Who won the world cup in 1998?", "Explain quantum physics to a child",
    "Translate this sentence into Latin", "What is the capital of Mongolia?", "Recommend a film for tonight",
    "How do I bake sourdough bread?", "Summarise the French revolution", "Which phone should I buy?",
    "Tell me a joke about penguins", "How many bones has a horse?", "Fix the bug in my CSS",
)  # fmt: skip


async def test_held_out_utterances_find_their_agent_and_strangers_find_none() -> None:
    agents = {name: agent for name, agent in load_all().items() if name != OUT_OF_SCOPE}
    embedder = MiniLMEmbedder()
    await embedder.start()
    try:
        vectors = {name: await embedder.embed(agent.utterances) for name, agent in agents.items()}
        outside = await embedder.embed(OUTSIDE)
    finally:
        await embedder.close()
    right = total = 0
    verdicts = {"sure": 0, "unsure": 0, "out_of_scope": 0}
    for name, rows in vectors.items():
        for held, vector in enumerate(rows):
            index = {
                other: [row for at, row in enumerate(kept) if (other, at) != (name, held)]
                for other, kept in vectors.items()
            }
            route = Router(index).route(vector)
            verdicts[route.verdict] += 1
            right += route.agent == name and route.verdict != "out_of_scope"
            total += 1
    router = Router(vectors)
    rejected = [router.route(vector).verdict for vector in outside].count("out_of_scope")
    print(f"\nheld out: {right}/{total} right, {verdicts}; outside: {rejected}/{len(OUTSIDE)} out of scope")
    assert right / total >= 0.75
    assert rejected / len(OUTSIDE) >= 0.8
