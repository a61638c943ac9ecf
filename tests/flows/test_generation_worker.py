"""The generation worker on a log in memory: whole answers, aborts, and every way to fail."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from streams.events.generating import (
    AnswerDelta,
    AnswerFinished,
    AnswerStarted,
    PlanDelta,
    Sampling,
)
from streams.events.turn import TurnHeartbeat
from streams.memory_bus import MemoryBroker
from streams.topology import DEAD_LETTERS, EVENTS
from tests.support.generation_facts import abort, ids_of, of_type, open_bus, say_answer, text_of
from tests.support.generations import (
    ANSWER,
    TURN,
    GatedEngine,
    HandClock,
    ask,
    counting,
    make_worker,
    read_until,
    request,
    seen,
    until_running,
)
from workers.generation.engine import EngineEvent, EngineRequest, EngineUnavailable
from workers.generation.scripted_engine import ScriptedEngine, decode, encode
from workers.generation.worker import GenerationWorker


@pytest.mark.asyncio
async def test_an_answer_from_request_to_last_word() -> None:
    bus = await open_bus()
    worker = await make_worker(bus, ScriptedEngine(say_answer), HandClock(), spacing_ms=0.0)
    await ask(bus, request())
    records = await read_until(bus, seen("answer.finished"))
    await worker.stop()
    facts = counting(records)
    assert [fact.seq for fact, _ in facts] == list(range(len(records)))
    assert {(fact.subject, fact.stage, fact.epoch) for fact, _ in facts} == {(TURN, "answer", 1)}
    assert {record.source for record in records} == {worker.writer}
    started, finished = facts[0][1], facts[-1][1]
    assert isinstance(started, AnswerStarted)
    assert isinstance(finished, AnswerFinished)
    assert (started.model, started.engine, started.can_continue) == ("default", "scripted", True)
    assert started.prompt_ids is not None
    assert started.prompt_tokens == len(started.prompt_ids)
    assert text_of(records) == ANSWER
    assert decode(ids_of(records)) == ANSWER
    index = 0
    for delta in of_type(records, AnswerDelta):
        assert delta.index == index
        index += len(delta.ids)
    assert (finished.reason, finished.usage.completion) == ("stop", index)
    assert finished.usage.prompt == started.prompt_tokens


@pytest.mark.asyncio
async def test_deltas_of_an_instant_are_joined_but_those_of_a_plan_are_not() -> None:
    bus = await open_bus()
    worker = await make_worker(bus, ScriptedEngine(say_answer), HandClock())  # the clock stands still: no 8 ms pass
    await ask(bus, request())
    answer = await read_until(bus, seen("answer.finished"))
    assert [delta.text for delta in of_type(answer, AnswerDelta)] == [ANSWER[:3], ANSWER[3:]]
    assert decode(ids_of(answer)) == ANSWER
    await ask(bus, request(step="plan"))
    plan = await read_until(bus, seen("plan.finished"))
    await worker.stop()
    assert len(of_type(plan, PlanDelta)) > 10
    assert "".join(delta.text for delta in of_type(plan, PlanDelta)) == ANSWER


@pytest.mark.asyncio
async def test_an_abort_reaches_a_running_generation_past_its_lane() -> None:
    bus = await open_bus()
    engine = GatedEngine(say_answer, hold_at=4)
    worker = await make_worker(bus, engine, HandClock(), spacing_ms=0.0)
    await ask(bus, request())
    await engine.reached.wait()
    await ask(bus, abort())
    records = await read_until(bus, seen("answer.finished"))
    assert engine.closed == 1
    assert engine.running() == 0
    finished = of_type(records, AnswerFinished)[0]
    assert finished.reason == "abort"
    assert finished.usage.completion == len(ids_of(records)) > 0
    assert ANSWER.startswith(text_of(records))
    engine.hold_at = None
    await ask(bus, request(epoch=1))  # delivered again: it was aborted, so nothing begins
    await ask(bus, request(step="plan"))
    await read_until(bus, seen("plan.finished"))
    await worker.stop()
    assert worker.dropped == 1


@pytest.mark.asyncio
async def test_an_answer_with_masked_text_is_kept_and_not_continued() -> None:
    secret = "sk-" + "a1B2" * 8
    bus = await open_bus()
    engine = GatedEngine(lambda request: f"Your key is {secret} and it is fine to use it.", hold_at=22)
    worker = await make_worker(bus, engine, HandClock(), spacing_ms=0.0)
    await ask(bus, request(checks=("secrets",)))
    await engine.reached.wait()
    await ask(bus, request(epoch=2, resume=True, checks=("secrets",)))
    records = await read_until(bus, lambda all: any("/2/" in r.event_id and "finished" in r.type for r in all))
    await worker.stop()
    assert secret not in b"".join(record.value for record in records).decode()
    assert text_of(records).startswith("Your key is [secret removed] and")
    last = of_type(records, AnswerFinished)[-1]
    assert (last.reason, last.error_code) == ("abort", "cannot_continue")


@pytest.mark.asyncio
async def test_secrets_are_masked_before_they_enter_the_log() -> None:
    secret = "ghp_" + "x9Y8" * 9
    bus = await open_bus()
    worker = await make_worker(bus, ScriptedEngine(lambda request: f"It is {secret}, ok? ghp"), HandClock())
    await ask(bus, request(checks=("secrets",)))
    records = await read_until(bus, seen("answer.finished"))
    await worker.stop()
    assert text_of(records) == "It is [secret removed], ok? ghp"
    assert of_type(records, AnswerFinished)[0].filtered == ("secrets",)
    assert not set(encode(secret)) & set(ids_of(records))


@pytest.mark.asyncio
async def test_a_check_may_end_the_answer() -> None:
    bus = await open_bus()
    engine = GatedEngine(say_answer)
    worker = await make_worker(bus, engine, HandClock())
    await ask(bus, request(checks=("length:10", "secrets")))
    records = await read_until(bus, seen("answer.finished"))
    await worker.stop()
    assert text_of(records) == ANSWER[:10]
    finished = of_type(records, AnswerFinished)[0]
    assert (finished.reason, finished.filtered) == ("filtered", ("length",))
    assert engine.closed == 1


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"model": "nobody"}, "unknown_model"),
        ({"deadline_at_ms": 9_999}, "deadline"),
        ({"checks": ("taste",)}, "unknown_check"),
        ({"sampling": Sampling(max_tokens=0)}, "engine_refused"),
    ],
)
@pytest.mark.asyncio
async def test_what_cannot_be_generated_ends_with_a_reason(changes: dict[str, Any], code: str) -> None:
    bus = await open_bus()
    worker = await make_worker(bus, ScriptedEngine(say_answer), HandClock())
    await ask(bus, request(**changes))
    records = await read_until(bus, seen("answer.finished"))
    await worker.stop()
    assert [type(event) for _, event in counting(records)] == [AnswerStarted, AnswerFinished]
    finished = of_type(records, AnswerFinished)[0]
    assert (finished.reason, finished.error_code, finished.retriable) == ("error", code, False)


@pytest.mark.asyncio
async def test_an_engine_that_fails_midway_is_said_to_be_retriable() -> None:
    class Failing(ScriptedEngine):
        async def generate(self, request: EngineRequest) -> AsyncGenerator[EngineEvent, None]:
            count = 0
            async for event in super().generate(request):
                yield event
                count += 1
                if count == 4:
                    raise EngineUnavailable("the GPU fell out")

    bus = await open_bus()
    worker = await make_worker(bus, Failing(say_answer), HandClock(), spacing_ms=0.0)
    await ask(bus, request())
    records = await read_until(bus, seen("answer.finished"))
    await worker.stop()
    finished = of_type(records, AnswerFinished)[0]
    assert (finished.reason, finished.error_code, finished.retriable) == ("error", "engine_unavailable", True)
    assert text_of(records) == ANSWER[:7]


@pytest.mark.asyncio
async def test_a_silent_stage_has_a_heartbeat_and_a_deadline() -> None:
    bus = await open_bus()
    clock = HandClock()
    engine = GatedEngine(say_answer, hold_at=2)
    worker = await make_worker(bus, engine, clock, spacing_ms=0.0)
    await ask(bus, request())
    await engine.reached.wait()
    await worker.tick()
    clock.now += 1_001
    await worker.tick()
    clock.now += 500
    await worker.tick()
    before = await read_until(bus, seen("turn.heartbeat"))
    assert len(of_type(before, TurnHeartbeat)) == 1
    clock.now = 60_000
    await worker.tick()
    records = await read_until(bus, seen("answer.finished"))
    await worker.stop()
    assert of_type(records, AnswerFinished)[0].error_code == "deadline"
    assert engine.closed == 1


@pytest.mark.asyncio
async def test_a_higher_epoch_ends_the_lower_one_here() -> None:
    bus = await open_bus()
    engine = GatedEngine(say_answer, hold_at=3)
    worker = await make_worker(bus, engine, HandClock(), spacing_ms=0.0)
    await ask(bus, request())
    await engine.reached.wait()
    engine.hold_at = None
    await ask(bus, request(epoch=2, resume=True))
    await read_until(bus, lambda all: any("/2/" in r.event_id and "finished" in r.type for r in all))
    await ask(bus, request(epoch=1))  # late, and lower
    await ask(bus, request(epoch=2, resume=True))  # delivered again
    await ask(bus, request(step="plan"))
    records = await read_until(bus, seen("plan.finished"))
    await worker.stop()
    assert engine.closed == 1
    assert worker.dropped == 2
    assert text_of(records) == ANSWER


@pytest.mark.asyncio
async def test_a_higher_epoch_takes_the_place_of_the_lower_one_in_a_full_engine() -> None:
    bus = await open_bus()
    engine = GatedEngine(say_answer, hold_at=6)
    worker = await make_worker(bus, engine, HandClock(), spacing_ms=0.0, requests_at_once=1)
    await ask(bus, request())
    await engine.reached.wait()
    engine.hold_at = None
    await ask(bus, request(epoch=2, resume=True))
    records = await read_until(bus, lambda all: any("/answer/2/" in r.event_id and "finished" in r.type for r in all))
    await worker.stop()
    assert text_of(records) == ANSWER
    assert engine.closed == 1


@pytest.mark.asyncio
async def test_a_model_that_is_full_lets_the_next_one_wait() -> None:
    bus = await open_bus()
    engine = GatedEngine(say_answer, hold_at=3)
    worker = await make_worker(bus, engine, HandClock(), requests_at_once=1)
    await ask(bus, request(), partition=0)
    await engine.reached.wait()
    await ask(bus, request(step="plan"), partition=1)  # another lane, no free place
    await ask(bus, request(step="route", model="nobody"), partition=2)  # needs none
    records = await read_until(bus, seen("route.finished"))
    assert not any(record.type.startswith("headstart.plan.") for record in records)
    await until_running(worker, 1)
    assert worker.alive().running == 1
    engine.hold_at = None
    engine.gate.set()
    await read_until(bus, seen("plan.finished"))
    await worker.stop()


@pytest.mark.asyncio
async def test_a_worker_that_stops_hands_its_answers_over_by_a_fact() -> None:
    broker = MemoryBroker(4)
    bus = await open_bus(broker)
    engine = GatedEngine(say_answer, hold_at=7)
    leaving = await make_worker(bus, engine, HandClock(), spacing_ms=0.0)
    await ask(bus, request())
    await engine.reached.wait()
    await leaving.stop(drain_ms=0)
    records = await read_until(bus, seen("answer.finished"))
    last = of_type(records, AnswerFinished)[0]
    assert (last.reason, last.error_code, last.retriable) == ("error", "worker_leaving", True)
    successor = await make_worker(bus, ScriptedEngine(say_answer), HandClock(), spacing_ms=0.0)
    await ask(bus, request(epoch=2, resume=True))
    records = await read_until(bus, seen("answer.finished", 2))
    await successor.stop()
    assert text_of(records) == ANSWER


@pytest.mark.asyncio
async def test_a_log_that_cannot_be_written_leaves_the_stage_silent() -> None:
    broker = MemoryBroker(4)
    bus = await open_bus(broker)
    engine = GatedEngine(say_answer, hold_at=5)
    worker = await make_worker(bus, engine, HandClock(), spacing_ms=0.0)
    await ask(bus, request())
    await engine.reached.wait()
    broker.refuse = 1
    engine.gate.set()
    await until_running(worker, 0)
    reader = await bus.reader(EVENTS.name, {1: "earliest"})
    kinds = [record.type for record in await reader.batch(wait_ms=0)]
    await worker.stop()
    assert not any("finished" in kind for kind in kinds)
    assert engine.closed == 1


@pytest.mark.asyncio
async def test_a_started_that_is_not_kept_is_tried_again() -> None:
    broker = MemoryBroker(4)
    bus = await open_bus(broker)
    worker = await make_worker(bus, ScriptedEngine(say_answer), HandClock(), spacing_ms=0.0)
    ready = asyncio.create_task(ask(bus, request()))
    await ready
    broker.lose_acknowledgements = 1  # the first started stands in the log, and its writer does not know
    records = await read_until(bus, seen("answer.finished"))
    await worker.stop()
    assert text_of(records) == ANSWER


@pytest.mark.asyncio
async def test_poison_goes_to_dead_letters_and_work_goes_on() -> None:
    bus = await open_bus()
    worker = await make_worker(bus, ScriptedEngine(say_answer), HandClock())
    await ask(bus, TurnHeartbeat(at_ms=1))  # not work
    await ask(bus, request())
    await read_until(bus, seen("answer.finished"))
    reader = await bus.reader(DEAD_LETTERS.name, {0: "earliest"})
    dead = await reader.batch()
    await worker.stop()
    assert [record.type for record in dead] == [TurnHeartbeat.TYPE]
    assert isinstance(worker, GenerationWorker)
