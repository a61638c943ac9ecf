"""What tests of the generation worker say to it and read of what it wrote."""

from __future__ import annotations

from typing import Any

from streams.codec import Record
from streams.events import Event
from streams.events.generating import (
    AnswerDelta,
    GenerationAbort,
)
from streams.memory_bus import MemoryBroker, MemoryBus
from tests.support.generations import (
    ANSWER,
    CONVERSATION,
    TURN,
    counting,
)
from workers.generation.engine import EngineRequest


def say_answer(request: EngineRequest) -> str:
    return ANSWER


async def open_bus(broker: MemoryBroker | None = None) -> MemoryBus:
    bus = MemoryBus(broker)
    await bus.start()
    return bus


def abort(epoch: int = 1) -> GenerationAbort:
    return GenerationAbort(conversation=CONVERSATION, turn=TURN, step="answer", epoch=epoch, at_ms=0)


def of_type(records: list[Record], kind: type[Event]) -> list[Any]:
    return [event for _, event in counting(records) if isinstance(event, kind)]


def text_of(records: list[Record]) -> str:
    return "".join(event.text for event in of_type(records, AnswerDelta))


def ids_of(records: list[Record]) -> list[int]:
    return [token for event in of_type(records, AnswerDelta) for token in event.ids]
