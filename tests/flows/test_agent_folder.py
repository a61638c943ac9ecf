"""An agent is its folder and nothing else: a turns worker is told of it by a setting, routes to it, uses its prompts.
What is registered or withdrawn while it runs changes its next plan."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from memory.embed import HashEmbedder
from memory.memory_store import MemoryStore
from streams import ids
from streams.codec import decode
from streams.events import InputItem
from streams.events.generating import GenerationRequested
from streams.events.intake import TurnSubmit
from streams.events.routing import RouteDecided
from streams.memory_bus import MemoryBroker, MemoryBus
from streams.settings import Settings
from streams.topology import EVENTS, GENERATIONS, TURNS
from tests.bench.routing.live import measured, write_agent
from tests.bench.routing.registered import QUESTIONS, manifests, questions
from workers.planning.worker import TurnsWorker

pytestmark = pytest.mark.asyncio


def write_gardener(root: Path) -> None:
    folder = root / "gardener"
    folder.mkdir(parents=True)
    (folder / "agent.toml").write_text('description = "says when to plant and to prune"\n')
    said = ("When do I plant tulips", "When do I prune the roses", "Which soil do tomatoes like", "My lawn is brown",
            "How often do I water the tulips")  # fmt: skip
    (folder / "utterances.txt").write_text("\n".join(said))
    (folder / "answer.jinja").write_text("@system\nYou are a gardener.\n@user\n{{ question }}\n")
    (folder / "rubric.md").write_text("A good answer names a month.\n")


@asynccontextmanager
async def running(root: Path) -> AsyncIterator[MemoryBus]:
    embedder = HashEmbedder()
    store = MemoryStore(embedder.dimensions)
    bus = MemoryBus(MemoryBroker(partitions=2))
    await bus.start()
    store.follow(bus.epoch)
    worker = TurnsWorker(bus, store, embedder, Settings.from_env({"HEADSTART_AGENTS": str(root), "HEADSTART_DEV": "1"}))
    await worker.start()
    try:
        yield bus
    finally:
        await worker.stop()
        await bus.stop()


async def asked(bus: MemoryBus, text: str) -> tuple[RouteDecided, GenerationRequested]:
    """Submits a turn; gives its route and the first model call that it makes."""
    now_ms = int(time.time() * 1000)
    conversation = ids.conversation_id(1, now_ms, bytes(10))
    turn = ids.turn_id(conversation, now_ms, bytes(10))
    submit = TurnSubmit(
        turn=turn, conversation=conversation, tenant="acme", user="ada", input=(InputItem(text=text),), at_ms=now_ms,
        opens=True,
    )  # fmt: skip
    _ = await bus.publish(TURNS.name, 1, conversation, submit, turn, "gateway/test")
    requests = await bus.reader(GENERATIONS.name, {0: "earliest", 1: "earliest"})
    while not (records := await requests.batch()):
        pass
    request = decode(records[0])
    events = await bus.reader(EVENTS.name, {1: "earliest"})
    routes = [event for event in map(decode, await events.batch()) if isinstance(event, RouteDecided)]
    await requests.close()
    await events.close()
    assert isinstance(request, GenerationRequested)
    return routes[0], request


async def test_an_agent_is_added_as_a_folder(tmp_path: Path) -> None:
    write_gardener(tmp_path)
    async with running(tmp_path) as bus, asyncio.timeout(60):
        route, request = await asked(bus, "When do I prune the apple tree and the roses?")
    assert (route.agent, route.by) == ("gardener", "embedding")
    assert {score.agent for score in route.scores} >= {"gardener", "recruiter", "desk", "companion", "out_of_scope"}
    assert request.step == "answer"
    assert request.messages[0].content == "You are a gardener."


async def test_a_skill_registered_or_withdrawn_live_changes_the_next_plan(tmp_path: Path) -> None:
    write_agent(tmp_path)
    embedder = HashEmbedder()
    store = MemoryStore(embedder.dimensions)
    bus = MemoryBus(MemoryBroker(partitions=2))
    await bus.start()
    store.follow(bus.epoch)
    every = {manifest.name: manifest for manifest in manifests()}
    tried = [(every[asked.skill], every[asked.skill].examples[0]) for asked in questions(QUESTIONS)[::40]]
    others = [manifest for name, manifest in every.items() if name not in {one.name for one, _ in tried}][::10]
    settings = Settings.from_env({"HEADSTART_AGENTS": str(tmp_path), "HEADSTART_DEV": "1"})
    async with asyncio.timeout(60):
        registered, withdrawn = await measured(bus, store, embedder, settings, others, tried)
    await bus.stop()
    for one in (registered, withdrawn):
        assert len(one.planned_ms) == len(one.in_force_ms) == len(one.next_knew) == len(tried) >= 5
