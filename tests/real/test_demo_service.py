"""The demo service as its own process on a real broker: it registers, is found, is called, and ends cleanly."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest

from memory.embed import Embedder, HashEmbedder, MiniLMEmbedder
from memory.memory_store import MemoryStore
from memory.minilm import find_folder
from streams.embedded import EmbeddedBroker
from streams.errors import Misconfigured, PeerError
from streams.kafka_bus import KafkaBus
from streams.settings import Settings
from workers.skills.compensation import compensation_arguments
from workers.skills.context import CallContext
from workers.skills.executor import HttpExecutor
from workers.skills.registry import SkillRegistry

SECRET = "a-signing-key-for-tests-of-the-demo"
DEMO_SKILLS = {
    "calculate", "delete_note", "get_weather", "list_notes", "save_note", "schedule_interview", "search_jobs",
    "search_people", "send_message",
}  # fmt: skip
pytestmark = pytest.mark.asyncio


class Stage:
    """A broker, the demo service's process, and what a turn worker has of it."""

    def __init__(self, bus: KafkaBus, registry: SkillRegistry, executor: HttpExecutor) -> None:
        self.bus, self.registry, self.executor = bus, registry, executor
        self.process: asyncio.subprocess.Process | None = None

    async def call(self, name: str, key: str = "", user: str = "ada", **arguments: Any) -> Any:
        manifest = self.registry.by_name(name)
        assert manifest is not None
        context = CallContext(turn="turn_1", call=0, tenant="acme", user=user, key=key)
        return orjson.loads((await self.executor.call(manifest, arguments, context)).result)

    async def ledger(self) -> Any:
        manifest = self.registry.by_name("calculate")
        assert manifest is not None
        async with httpx.AsyncClient() as client:
            return (await client.get(manifest.url.replace("/skills/calculate", "/ledger"))).json()


@asynccontextmanager
async def stage(data_dir: Path, embedder: Embedder) -> AsyncIterator[Stage]:
    """Everything up and every demo skill in force; the process is told to end and waited for."""
    async with EmbeddedBroker(data_dir) as broker:
        settings = Settings.from_env({"HEADSTART_SIGNING_KEY": SECRET, "HEADSTART_DEMO_PORT": "0"}).on_broker(
            broker.bootstrap, fetch_max_wait_ms=broker.fetch_max_wait_ms, idempotent=broker.idempotent
        )
        bus = KafkaBus.from_settings(settings)
        await bus.start()
        store = MemoryStore(embedder.dimensions)
        await store.open()
        registry = SkillRegistry(bus, store, embedder)
        complete = asyncio.Event()
        registry.on_change(lambda name, manifest: complete.set() if len(registry.in_force()) == 9 else None)
        executor = HttpExecutor(signing_key=SECRET, allow_private=True)
        made = Stage(bus, registry, executor)
        environment = {key: value for key, value in os.environ.items() if not key.startswith("HEADSTART_")}
        try:
            await registry.start()
            made.process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "headstart.demo_service", env=environment | settings.environment(),
            )  # fmt: skip
            await complete.wait()
            yield made
            if made.process.returncode is None:
                made.process.terminate()
            assert await made.process.wait() == 0
        finally:
            if made.process is not None and made.process.returncode is None:
                made.process.kill()
                await made.process.wait()
            await executor.close()
            await registry.close()
            await bus.stop()


async def test_every_demo_skill_answers_as_it_declares(tmp_path: Path) -> None:
    async with stage(tmp_path, HashEmbedder()) as demo:
        assert {manifest.name for manifest in demo.registry.in_force("anybody")} == DEMO_SKILLS
        await demo.executor.warm(demo.registry.in_force(), connections=1)
        found = await demo.call("search_people", title="data engineer", location="Berlin")
        assert found["people"][0]["city"] == "Berlin"
        assert found["total"] >= len(found["people"]) >= 1
        jobs = await demo.call("search_jobs", title="data engineer", location="Berlin", limit=1)
        assert (len(jobs["jobs"]), jobs["jobs"][0]["city"]) == (1, "Berlin")
        weather = await demo.call("get_weather", city="Sydney", day="2026-01-15")
        assert (weather["city"], weather["day"]) == ("Sydney", "2026-01-15")
        assert await demo.call("calculate", expression="12 * 7") == {"expression": "12 * 7", "value": 84}
        with pytest.raises(PeerError) as caught:
            await demo.call("calculate", expression="import os")
        assert caught.value.code == "skill_refused"
        assert demo.executor.connects == 1


async def test_the_ledger_counts_arrivals_and_effects_apart(tmp_path: Path) -> None:
    async with stage(tmp_path, HashEmbedder()) as demo:
        note = await demo.call("save_note", key="n1", text="buy milk")
        assert await demo.call("save_note", key="n1", text="buy milk") == note
        assert await demo.call("list_notes") == [note]
        assert await demo.call("list_notes", user="bob") == []
        undo = demo.registry.by_name("delete_note")
        assert undo is not None
        arguments = compensation_arguments(undo, {"text": "buy milk"}, orjson.dumps(note).decode())
        assert await demo.call("delete_note", key="d1", **arguments) == {"id": note["note_id"], "done": "deleted"}
        for _ in range(2):
            await demo.call("send_message", key="m1", to="Ada Adler", text="hello")
        ledger = await demo.ledger()
        assert ledger["counts"] == {"save_note": 2, "list_notes": 2, "delete_note": 1, "send_message": 2}
        done = [effect["what"] for effect in ledger["effects"]]
        assert done == ["save_note", "delete_note", "send_message", "send_message"]
        assert {(arrival["turn"], arrival["call"]) for arrival in ledger["arrivals"]} == {("turn_1", 0)}


QUESTIONS = [
    ("Find data engineers in Berlin", "search_people"),
    ("Are there any backend jobs in London?", "search_jobs"),
    ("Will it rain in Hamburg tomorrow?", "get_weather"),
    ("What is 17 times 23?", "calculate"),
    ("Please write down that the meeting is on Monday", "save_note"),
    ("Send Ada a message that she has the job", "send_message"),
]


@pytest.mark.slow
async def test_the_real_embedder_finds_the_skill_for_a_question(tmp_path: Path) -> None:
    try:
        find_folder()
    except Misconfigured as error:
        pytest.skip(f"all-MiniLM-L6-v2: {error.message}")
    embedder = MiniLMEmbedder()
    await embedder.start()
    async with stage(tmp_path, embedder) as demo:
        first = {}
        for question, _ in QUESTIONS:
            rows = await demo.registry.discover(question, "acme", ("*",), 3)
            first[question] = rows[0].skill.partition("@")[0]
    await embedder.close()
    assert first == dict(QUESTIONS)
