"""The engines that the conformance suite runs on, each with questions that suit it.

`open_subject` starts one: the scripted engine in this process, the OpenAI engine against a real HTTP server on a
scripted engine, or vLLM on the real small model.
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import pytest

from tests.support.openai_server import OpenAIServer, serve
from workers.generation.engine import (
    Engine,
    EngineDelta,
    EngineEvent,
    EngineFinished,
    EngineRequest,
    EngineStarted,
    Message,
)
from workers.generation.model_cache import ensure_model
from workers.generation.openai_engine import OpenAIEngine, OpenAIOptions
from workers.generation.scripted_engine import ScriptedEngine
from workers.generation.vllm_engine import VllmEngine, VllmOptions

KINDS = ("scripted", "openai", pytest.param("vllm", marks=pytest.mark.vllm))

# Easy enough that the small model is sure of every token, so that greedy answers do not hang on rounding.
COUNTING = [
    Message("system", "You count."),
    Message("user", "Count from 1 to 5."),
    Message("assistant", "1, 2, 3, 4, 5."),
    Message("user", "Count from 1 to 40."),
]
EMOJI = [
    Message("user", "Repeat this exactly: 🎉🎉🎉"),
    Message("assistant", "🎉🎉🎉"),
    Message("user", "Repeat this exactly: 🌪🌪🌪🌪 東京"),
]
WEATHER = [
    Message("system", "Write calls as JSON."),
    Message("user", "What is the weather in Tokyo?"),
    Message("assistant", '[{"name":"get_weather","arguments":{"city":"Tokyo"}}]'),
    Message("user", "What is the weather in Berlin?"),
]
WEATHER_SCHEMA: dict[str, Any] = {
    "type": "array",
    "minItems": 1,
    "maxItems": 2,
    "items": {
        "type": "object",
        "properties": {
            "name": {"const": "get_weather"},
            "arguments": {
                "type": "object",
                "properties": {"city": {"type": "string", "maxLength": 40}},
                "required": ["city"],
                "additionalProperties": False,
            },
        },
        "required": ["name", "arguments"],
        "additionalProperties": False,
    },
}


def script(request: EngineRequest) -> str:
    """What the scripted model answers to the questions above."""
    if request.json_schema is not None:
        return json.dumps([{"name": "get_weather", "arguments": {"city": "Berlin"}}])
    if "Repeat" in request.messages[-1].content:
        return request.messages[-1].content.removeprefix("Repeat this exactly: ")
    return ", ".join(str(number) for number in range(1, 41)) + "."


class Pace:
    """The scripted engine's clock: tokens come as fast as the loop goes, or, while held, only a few and then none."""

    def __init__(self) -> None:
        self.held = False
        self.held_for = 0

    async def sleep(self, seconds: float) -> None:
        self.held_for += 1
        if self.held and self.held_for > 4:
            await asyncio.Event().wait()
        await asyncio.sleep(0)


@dataclass
class Subject:
    """One engine under test. `pace` is None for a real model; `server` is there for the OpenAI engine only."""

    kind: str
    engine: Engine
    pace: Pace | None = None
    server: OpenAIServer | None = None
    numbers: Any = field(default_factory=count)

    def request(self, messages: list[Message], **fields: Any) -> EngineRequest:
        fields = {"max_tokens": 48, **fields}
        return EngineRequest(
            request_id=f"{self.kind}-{next(self.numbers)}", model=self.engine.model, messages=messages, **fields
        )

    async def answer(self, messages: list[Message], **fields: Any) -> Answer:
        return await collect(self.engine, self.request(messages, **fields))

    def hold(self) -> None:
        """From now on, answers stall after their first tokens; a real model is asked for long ones instead."""
        if self.pace is not None:
            self.pace.held, self.pace.held_for = True, 0

    def release(self) -> None:
        if self.pace is not None:
            self.pace.held = False


@dataclass
class Answer:
    """The events of one answer, taken apart."""

    started: EngineStarted
    deltas: list[EngineDelta]
    finished: EngineFinished

    @property
    def text(self) -> str:
        return "".join(delta.text for delta in self.deltas)

    @property
    def ids(self) -> list[int]:
        return [token_id for delta in self.deltas for token_id in delta.ids]


async def collect(engine: Engine, request: EngineRequest) -> Answer:
    """All events of one request; asserts their order."""
    events: list[EngineEvent] = [event async for event in engine.generate(request)]
    started, *middle, finished = events
    assert isinstance(started, EngineStarted)
    assert isinstance(finished, EngineFinished)
    deltas = [event for event in middle if isinstance(event, EngineDelta)]
    assert len(deltas) == len(middle)
    return Answer(started, deltas, finished)


@asynccontextmanager
async def open_subject(kind: str) -> AsyncIterator[Subject]:
    """Start an engine; it is closed afterwards."""
    if kind == "vllm":
        if importlib.util.find_spec("vllm") is None:
            pytest.skip("vllm is not installed (extra 'local' or 'gpu')")
        folder = await ensure_model()
        engine = VllmEngine(VllmOptions(model_path=str(folder), model="smollm2"))
        try:
            await engine.start()
            yield Subject(kind, engine)
        finally:
            await engine.close()
        return
    pace = Pace()
    scripted = ScriptedEngine(script, sleep=pace.sleep)
    if kind == "scripted":
        await scripted.start()
        yield Subject(kind, scripted, pace)
        await scripted.close()
        return
    server = OpenAIServer(scripted)
    async with serve(server) as url:
        hosted = OpenAIEngine(OpenAIOptions(base_url=url, model=scripted.model, retries=0))
        await hosted.start()
        yield Subject(kind, hosted, pace, server)
        await hosted.close()
