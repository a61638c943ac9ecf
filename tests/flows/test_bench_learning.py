"""A sample of `make bench-learning`: dialogues, scores and the example task hold together. No model, no clock."""

from __future__ import annotations

import json

import pytest

from memory.embed import HashEmbedder
from streams.events.generating import Message
from tests.bench import example_task
from tests.bench.dialogues import Dialogue, every, made, written
from tests.bench.learning import Asker, by_rules, measure_facts, show
from tests.bench.reading import score
from workers.generation.engine import EngineRequest
from workers.generation.scripted_engine import ScriptedEngine
from workers.remembering.rules import Said

pytestmark = pytest.mark.asyncio


async def test_there_are_a_hundred_labelled_dialogues_and_the_same_ones_each_time() -> None:
    dialogues = every()
    assert len(dialogues) >= 100
    assert len({dialogue.name for dialogue in dialogues}) == len(dialogues)
    assert made() == made()
    assert sum(1 for dialogue in written() if dialogue.source == "held out") >= 15
    assert sum(len(dialogue.facts) for dialogue in dialogues) >= 200
    assert sum(len(dialogue.ended) for dialogue in dialogues) >= 60
    for dialogue in dialogues:
        text = " ".join(said for role, said in dialogue.messages if role == "user").casefold()
        assert all(value.casefold() in text for _, _, value, _ in dialogue.facts), dialogue.name
        assert all(any(fact[:3] == ended for fact in dialogue.facts) for ended in dialogue.ended), dialogue.name


async def test_scores_count_what_is_right_too_much_and_missing() -> None:
    dialogue = Dialogue(
        "one", "made", [("user", "first"), ("assistant", "ok"), ("user", "second")],
        [("user", "lives_in", "Bern", False), ("user", "lives_in", "Basel", False), ("user", "likes", "tea", False)],
        [("user", "lives_in", "Bern")],
    )  # fmt: skip

    async def reader(text: str, last: str) -> list[Said]:
        if text == "first":
            return [Said("user", "lives_in", "the old Bern"), Said("user", "likes", "coffee")]
        return [Said("user", "lives_in", "Basel"), Said("user", "lives_in", "Basel")]

    scores = await score(dialogue, reader)
    assert (scores.facts.right, scores.facts.read, scores.facts.labelled) == (2, 3, 3)
    assert (scores.ended.right, scores.ended.read, scores.ended.labelled) == (1, 1, 1)

    async def nothing(text: str, last: str) -> list[Said]:
        return []

    scores = await score(dialogue, nothing)
    assert (scores.facts.precision, scores.facts.recall, scores.ended.recall) == (1.0, 0.0, 0.0)


async def test_the_rules_are_exact_on_every_dialogue_and_find_most_of_what_people_wrote() -> None:
    figures = await measure_facts(every(), None)
    rules = figures["rules"]
    assert rules["all"]["fact_precision"] >= 0.95
    assert rules["all"]["supersession_precision"] >= 0.95
    assert rules["held out"]["fact_recall"] >= 0.9
    assert any("held out" in line for line in show({"model": "none", "facts": figures}))
    assert await by_rules("I live in Bern.", "") == [Said("user", "lives_in", "Bern")]


async def test_examples_stand_in_the_prompt_of_the_held_out_task_and_explain_it() -> None:
    """A model that copies the answer of the example next to the question is right where the nearest example is."""

    async def copies(messages: tuple[Message, ...]) -> str:
        said = [message.content for message in messages if message.role == "assistant"]
        return said[-1] if example_task.CODE.fullmatch(said[-1]) else "I do not know."

    figures = await example_task.measure(HashEmbedder(), copies, (0, 1), limit=24)
    assert figures["right_by_examples"]["0"] == 0.0
    assert 0.5 < figures["right_by_examples"]["1"] <= figures["nearest_example_alone"]
    bank = {item.text for item in example_task.requests(held_out=False)}
    assert bank.isdisjoint(item.text for item in example_task.requests(held_out=True))


async def test_a_model_is_asked_what_states_something_and_adds_what_rules_leave() -> None:
    passion = Dialogue(
        "passion", "made", [("user", "The cello is my great passion."), ("user", "How are you?")],
        [("user", "plays", "cello", False)],
    )  # fmt: skip

    def script(request: EngineRequest) -> str:
        assert request.messages[-1].content == "The cello is my great passion."
        return json.dumps({"facts": [{"subject": "user", "attribute": "plays", "value": "cello", "negated": False}]})

    engine = ScriptedEngine(script)
    await engine.start()
    asker = Asker(engine)
    figures = await measure_facts([passion], asker)
    assert asker.calls == 1
    assert figures["rules"]["all"]["fact_recall"] == 0.0
    for method in ("model", "rules, model"):
        assert (figures[method]["all"]["fact_recall"], figures[method]["all"]["fact_precision"]) == (1.0, 1.0)
    await engine.close()
    assert (await measure_facts([passion], asker))["failed_calls"] == 1, "a call that fails is counted"
