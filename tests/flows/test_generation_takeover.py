"""A generation worker that goes on where another stopped: byte for byte, anew, or not at all."""

from __future__ import annotations

import pytest

from streams.events.generating import (
    AnswerFinished,
    PlanDelta,
    PlanFinished,
)
from streams.events.turn import TurnCompleted
from streams.memory_bus import MemoryBroker
from streams.writer import StageWriter
from tests.support.generation_facts import ids_of, of_type, open_bus, say_answer, text_of
from tests.support.generations import (
    ANSWER,
    CONVERSATION,
    TURN,
    GatedEngine,
    HandClock,
    ask,
    counting,
    make_worker,
    read_until,
    request,
    seen,
)
from workers.generation.scripted_engine import decode, encode, render


@pytest.mark.parametrize("hold_at", [0, 1, 2, 5, 11, 20])
@pytest.mark.parametrize("zombie", [False, True], ids=["crashed", "zombie"])
@pytest.mark.asyncio
async def test_a_successor_goes_on_byte_for_byte(hold_at: int, zombie: bool) -> None:
    broker = MemoryBroker(4)
    first_bus, second_bus = await open_bus(broker), await open_bus(broker)
    stuck, healthy = GatedEngine(say_answer, hold_at), GatedEngine(say_answer)
    first = await make_worker(first_bus, stuck, HandClock(), spacing_ms=0.0)
    await ask(first_bus, request())
    await stuck.reached.wait()
    second = await make_worker(second_bus, healthy, HandClock(), spacing_ms=0.0)
    delivered = await read_until(second_bus, seen("answer.delta", hold_at))
    if not zombie:
        await first_bus.stop()
    await ask(second_bus, request(epoch=2, resume=True), partition=3)
    records = await read_until(second_bus, seen("answer.finished"))
    stuck.gate.set()  # it wakes up, and says its part again
    if zombie:
        records = await read_until(second_bus, seen("answer.finished", 2))
    await second.stop()
    await first.stop(drain_ms=0)
    assert text_of(records) == ANSWER
    assert decode(ids_of(records)) == ANSWER
    finished = of_type(records, AnswerFinished)
    assert [fact.reason for fact in finished] == ["stop"]
    assert finished[0].usage.completion == len(encode(ANSWER))  # all epochs, once
    logged = healthy.requests[0].logged_ids
    assert logged == ids_of(delivered)
    assert (healthy.requests[0].prompt_ids is None) == (hold_at == 0)


@pytest.mark.asyncio
async def test_a_second_successor_finds_the_prompt_in_the_first_epoch() -> None:
    bus = await open_bus()
    engine = GatedEngine(say_answer, hold_at=6)
    worker = await make_worker(bus, engine, HandClock(), spacing_ms=0.0)
    for epoch in (1, 2, 3):
        engine.reached.clear()
        await ask(bus, request(epoch=epoch, resume=epoch > 1))
        await engine.reached.wait()
    engine.gate.set()
    records = await read_until(bus, lambda seen: any("/3/" in r.event_id and "finished" in r.type for r in seen))
    await worker.stop()
    assert text_of(records) == ANSWER
    assert len(engine.requests) == 3
    assert [len(call.logged_ids) for call in engine.requests] == [0, 6, 12]
    assert engine.requests[1].prompt_ids == engine.requests[2].prompt_ids == render(engine.requests[0].messages)


@pytest.mark.asyncio
async def test_a_plan_is_generated_anew() -> None:
    bus = await open_bus()
    engine = GatedEngine(say_answer, hold_at=3)
    worker = await make_worker(bus, engine, HandClock(), spacing_ms=0.0)
    await ask(bus, request(step="plan"))
    await engine.reached.wait()
    engine.gate.set()
    engine.hold_at = None
    await ask(bus, request(step="plan", epoch=2, resume=True))
    records = await read_until(bus, lambda all: any("/plan/2/" in r.event_id and "finished" in r.type for r in all))
    await worker.stop()
    second = [event for fact, event in counting(records) if fact.epoch == 2]
    assert "".join(event.text for event in second if isinstance(event, PlanDelta)) == ANSWER
    assert isinstance(second[-1], PlanFinished)
    assert engine.requests[1].logged_ids == []


@pytest.mark.asyncio
async def test_an_answer_that_was_whole_already_is_not_generated_again() -> None:
    bus = await open_bus()
    engine = GatedEngine(say_answer)
    worker = await make_worker(bus, engine, HandClock(), spacing_ms=0.0)
    await ask(bus, request())
    await read_until(bus, seen("answer.finished"))
    await ask(bus, request(epoch=2, resume=True))
    records = await read_until(bus, seen("answer.finished", 2))
    await worker.stop()
    assert len(engine.requests) == 1
    assert text_of(records) == ANSWER
    first, second = of_type(records, AnswerFinished)
    assert (first.reason, first.usage) == (second.reason, second.usage)


@pytest.mark.asyncio
async def test_a_turn_that_has_ended_is_not_answered() -> None:
    bus = await open_bus()
    engine = GatedEngine(say_answer)
    worker = await make_worker(bus, engine, HandClock(), spacing_ms=0.0)
    owner = StageWriter(bus, CONVERSATION, TURN, "turn", 1, "owner")
    await owner.write(TurnCompleted(at_ms=1))
    await ask(bus, request(epoch=2, resume=True))
    await ask(bus, request(turn=TURN[:-1] + "f"))  # another turn of the conversation: its lane comes after
    await read_until(bus, seen("answer.finished"))
    await worker.stop()
    assert [call.request_id for call in engine.requests] == [f"{TURN[:-1]}f/answer/1"]
