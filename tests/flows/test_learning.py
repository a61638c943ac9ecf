"""What a memory worker learns from the log: facts by rule and by a model, summaries, habits, rated answers."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from memory.habits import told as told_habits
from memory.memory_store import MemoryStore
from memory.recall import rank
from memory.selection import tokens_of
from streams.codec import decode, identity
from streams.events.calling import ApprovalAsked, CallClosed, CallOpened, CallVoided
from streams.events.generating import GenerationRequested, MemoryFinished
from streams.models import ModelSpec
from streams.topology import EVENTS, GENERATIONS
from tests.support.generations import HandClock
from tests.support.told import PARTITION, TENANT, USER, Told
from workers.generation.engine import EngineRequest
from workers.generation.models import Models
from workers.generation.scripted_engine import ScriptedEngine
from workers.generation.worker import GenerationWorker
from workers.remembering.learning import LEASE_MS, PATIENCE_MS, READING_TRIES
from workers.remembering.summarising import EVERY_TURNS, KEPT_TURNS, SUMMARY_TOKENS

pytestmark = pytest.mark.asyncio


@pytest_asyncio.fixture
async def told() -> Told:
    made = Told()
    await made.start()
    return made


async def facts(told: Told, user: str = USER) -> list[tuple[str, bool]]:
    """Every fact of a user, oldest first, and whether it holds."""
    rows = [row for row in await told.store.memories(TENANT, user, 99) if row.layer == "fact"]
    return [(row.text, not row.superseded_by) for row in sorted(rows, key=lambda row: row.valid_from_ms)]


async def recalled(told: Told, text: str) -> list[str]:
    candidates = await told.store.recall(TENANT, USER, await told.vector(text), text, 16)
    return [item.text for item in rank(candidates, text, int(told.clock.now_ms) + 60_000, 300)]


# facts


async def test_a_fact_takes_the_place_of_the_one_before_across_conversations(told: Told) -> None:
    worker = await told.worker()
    await told.turn(told.conversation(1), "I live in Bern and work as a nurse.")
    await told.work(worker)
    await told.turn(told.conversation(2, partition=0), "By the way, I moved to Basel. Where is it?")
    await told.work(worker)
    assert await facts(told) == [("I live in Bern.", False), ("I work as nurse.", True), ("I live in Basel.", True)]
    answers = await recalled(told, "Where do I live?")
    assert "I live in Basel." in answers
    assert "I live in Bern." not in answers
    assert await told.store.readings([0, 1], 9) == [], "without a model nothing waits to be read"


# a model that reads


def script(request: EngineRequest) -> str:
    """Says one fact that the message holds, one that it does not, and one that a rule has read."""
    assert request.step == "memory.facts"
    assert request.json_schema is not None
    return json.dumps({"facts": [
        {"subject": "user", "attribute": "plays", "value": "bassoon", "negated": False},
        {"subject": "user", "attribute": "lives_in", "value": "Atlantis", "negated": False},
        {"subject": "user", "attribute": "works_as", "value": "Bern", "negated": False},
    ]})  # fmt: skip


class Reader:
    """A generation worker whose only model is `remember`."""

    def __init__(self, told: Told) -> None:
        self.engine = ScriptedEngine(script)
        spec = ModelSpec(engine="scripted", model="unused")
        models = Models({"remember": self.engine}, {"remember": spec})
        self.worker = GenerationWorker(told.bus, models, clock=HandClock(told.clock.now_ms))
        self.told = told

    async def start(self) -> None:
        await self.engine.start()
        await self.worker.start()

    async def finished(self, number: int = 1) -> list[MemoryFinished]:
        """The model's words in the log, once there are so many."""
        reader = await self.told.bus.reader(EVENTS.name, {PARTITION: "earliest"})
        found: list[MemoryFinished] = []
        try:
            while len(found) < number:
                for record in await reader.batch():
                    event = decode(record)
                    if isinstance(event, MemoryFinished):
                        assert identity(record).stage == "memory.facts"
                        found.append(event)
        finally:
            await reader.close()
        return found


@pytest_asyncio.fixture
async def reader(told: Told) -> AsyncIterator[Reader]:
    made = Reader(told)
    await made.start()
    yield made
    await made.worker.stop()


async def test_a_model_reads_what_rules_leave_and_only_what_was_said_is_believed(told: Told, reader: Reader) -> None:
    worker = await told.worker("remember")
    turn = await told.turn(told.conversation(), "I live in Bern and the bassoon is my great passion.")
    await told.turn(told.conversation(), "What time is it?")
    await told.work(worker)
    assert await facts(told) == [("I live in Bern.", True)], "rules need no model"
    assert [row.turn for row in await told.store.readings([PARTITION], 9)] == [turn], "a question states nothing"
    assert await worker.ask() == 1
    assert await worker.ask() == 0, "it is out already"
    [word] = await reader.finished()
    assert "Atlantis" in word.text
    await told.work(worker)
    assert sorted(await facts(told)) == [("I live in Bern.", True), ("I play bassoon.", True)]
    assert await told.store.readings([PARTITION], 9) == []


async def test_a_successor_takes_the_models_word_from_the_log_once(told: Told, reader: Reader) -> None:
    doomed = await told.worker("remember")
    await told.turn(told.conversation(), "The bassoon is my great passion.")
    await told.work(doomed)
    assert await doomed.ask() == 1
    await reader.finished()
    await told.kill(doomed)
    for _ in range(2):
        successor = await told.worker("remember")
        await told.work(successor)
        assert await successor.ask() == 0
        await told.kill(successor)
    assert await facts(told) == [("I play bassoon.", True)]


async def test_memory_built_again_from_the_log_asks_no_model(told: Told, reader: Reader) -> None:
    worker = await told.worker("remember")
    await told.turn(told.conversation(), "I live in Bern and the bassoon is my great passion.")
    await told.work(worker)
    assert await worker.ask() == 1
    await reader.finished()
    await told.work(worker)
    before = await told.store.memories(TENANT, USER, 99)
    await told.kill(worker)
    told.store = MemoryStore(told.embedder.dimensions)
    told.store.follow(told.bus.epoch)
    again = await told.worker("remember")
    await told.work(again)
    assert await again.ask() == 0
    assert await told.store.memories(TENANT, USER, 99) == before


async def test_readings_wait_while_turns_run_but_not_for_ever(told: Told) -> None:
    worker = await told.worker("remember")
    await told.turn(told.conversation(), "The bassoon is my great passion.")
    log = told.broker.log_of(EVENTS.name, PARTITION)
    await told.turn(told.conversation(2), "Hello")
    del log.records[-1]  # the second turn has not ended yet
    await told.work(worker)
    assert await worker.ask() == 0
    told.clock.now_ms += PATIENCE_MS
    assert await worker.ask() == 1


async def test_a_reading_nobody_answers_is_asked_again_and_then_given_up(told: Told) -> None:
    worker = await told.worker("remember")
    await told.turn(told.conversation(), "The bassoon is my great passion.")
    await told.work(worker)
    for _ in range(READING_TRIES):
        assert await worker.ask() == 1
        told.clock.now_ms += LEASE_MS
    assert await worker.ask() == 0
    assert await told.store.readings([PARTITION], 9) == []
    records = told.broker.log_of(GENERATIONS.name, PARTITION).records
    asked = [event for record in records if isinstance(event := decode(record), GenerationRequested)]
    assert [event.epoch for event in asked] == list(range(1, READING_TRIES + 1))
    assert {event.model for event in asked} == {"remember"}


# summaries


async def test_old_turns_become_a_summary_that_stays_within_its_budget(told: Told) -> None:
    worker = await told.worker()
    conversation = told.conversation()
    await told.turn(conversation, "My dog is called Rex.", "What a fine name!")
    summaries = []
    for number in range(2, 61):
        await told.turn(conversation, f"What about topic number {number}?", f"Topic {number} is about things.")
        await told.work(worker)
        summaries.append((await told.store.history(conversation, 3)).summary)
    assert summaries[KEPT_TURNS + EVERY_TURNS - 3] == "", "as long as a prompt holds every turn there is none"
    last = summaries[-1]
    assert "user: My dog is called Rex." in last
    assert tokens_of(last) <= SUMMARY_TOKENS
    waiting = (await told.store.unsummarised([conversation]))[conversation]
    assert KEPT_TURNS <= waiting.turns < KEPT_TURNS + EVERY_TURNS + 1
    held = [row for row in await told.store.memories(TENANT, USER, 999) if row.attribute == "summary"]
    assert sum(1 for row in held if not row.superseded_by) == 1
    assert len(held) == len(set(summaries)) - 1


# rated answers


async def test_a_rated_answer_is_an_example_until_it_is_rated_badly(told: Told) -> None:
    worker = await told.worker()
    conversation = told.conversation()
    turn = await told.turn(conversation, "How do I ask for leave?", "Fill in form 12.", agent="desk")
    await told.rate(conversation, turn, "good")  # in the same batch as the turn
    await told.work(worker)
    vector = await told.vector("How do I ask for leave?")
    [example] = await told.store.examples(TENANT, USER, vector, 3)
    assert (example.question, example.answer, example.agent) == ("How do I ask for leave?", "Fill in form 12.", "desk")
    assert example.score == pytest.approx(1.0)
    await told.rate(conversation, turn, "bad")  # in a batch of its own
    await told.work(worker)
    assert await told.store.examples(TENANT, USER, vector, 3) == []


async def test_nobody_rates_what_is_not_theirs_and_unknown_words_are_no_rating(told: Told) -> None:
    worker = await told.worker()
    conversation = told.conversation()
    turn = await told.turn(conversation, "How do I ask for leave?", "Fill in form 12.")
    await told.rate(conversation, turn, "good", user="eve", share=True)
    await told.rate(told.conversation(7), turn, "good")
    await told.rate(conversation, turn, "splendid")
    await told.rate(conversation, conversation.replace("conv", "turn"), "good")
    await told.work(worker)
    assert await told.store.examples(TENANT, USER, await told.vector("leave"), 3) == []


# habits


async def test_what_is_done_again_and_again_becomes_a_habit(told: Told) -> None:
    worker = await told.worker()
    for number in range(3):
        await told.turn(told.conversation(number), "Weather?", agent="desk", calls=[("get_weather", {"city": "Bern"})])
    await told.turn(told.conversation(9), "Weather in Rome?", agent="desk", calls=[("get_weather", {"city": "Rome"})])
    await told.work(worker)
    habits = await told.store.habits(TENANT, USER)
    assert {(row.kind, row.name): row.taken for row in habits} == {
        ("agent", "desk"): 4, ("skill", "get_weather"): 4, ("argument", "get_weather/city=Bern"): 3,
        ("argument", "get_weather/city=Rome"): 1,
    }  # fmt: skip
    [item] = told_habits(habits)
    assert item.text.startswith("I usually mean Bern as city for get_weather")
    assert item.about == "get_weather"


async def test_suggestions_count_as_taken_declined_or_passed_over(told: Told) -> None:
    at_ms = int(told.clock.now_ms)
    asked = ApprovalAsked(
        call=0, skill="send_message@1", arguments={}, request="mcpr_x", at_ms=at_ms, expires_at_ms=at_ms + 1_000
    )
    opened = CallOpened(call=0, skill="send_message@1", token=-1, at_ms=at_ms)
    closed = CallClosed(call=0, skill="send_message@1", arguments={}, token=-1, at_ms=at_ms)
    refused = CallVoided(call=0, reason="not_approved", at_ms=at_ms)
    worker = await told.worker()
    conversation = told.conversation()
    await told.turn(conversation, "Tell Lena.", more=[asked])
    await told.turn(conversation, "", approval=True, calls=[("send_message", {})])
    await told.turn(conversation, "Tell Tim.", more=[asked])
    await told.turn(conversation, "", approval=False, more=[opened, closed, refused])
    await told.turn(conversation, "Tell Kim.", more=[asked])
    await told.turn(conversation, "What is the weather?")
    await told.work(worker)
    [habit] = [row for row in await told.store.habits(TENANT, USER) if row.kind == "suggestion"]
    assert (habit.name, habit.taken, habit.declined) == ("send_message", 1, 2)
    [item] = told_habits([habit])
    assert item.text.startswith("I declined send_message 2 of 3 times")
