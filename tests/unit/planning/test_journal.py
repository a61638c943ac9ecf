"""What a fact says it was decided from, and what a worker writes down of its setup."""

from __future__ import annotations

import msgspec
import pytest

from streams.codec import Record
from streams.errors import NotFound
from streams.events import Usage
from streams.events.base import PromptRef
from streams.events.calling import CallAnswered
from streams.events.generating import AnswerDelta, AnswerFinished, AnswerStarted, PlanDelta
from streams.events.registering import PromptRegistered
from streams.models import ModelSpec
from streams.taken import HEADER, Taken, header, taken
from workers.agents.catalog import load_all
from workers.planning.commands import Called, Cancelled, Generated, Routed, Tick
from workers.planning.journal import Journal
from workers.planning.machine import Setup
from workers.planning.setups import prompt_refs, registered, setup_from


def record(extra: tuple[tuple[str, bytes], ...]) -> Record:
    return Record("events", 0, 0, 0, b"conv", extra, b"{}")


def test_inputs_are_told_in_order_and_once() -> None:
    journal = Journal()
    journal.took(Routed(agent="desk", verdict="sure", scores=(), took_ms=1.5), 10.25)
    journal.took(Generated("plan", 1, PlanDelta(text="[", index=0)), 11.5)
    journal.took(Called(CallAnswered(call=2, result="{}", status=200, took_ms=1, at_ms=1), 3), 12.75)
    told = taken(record(journal.drain()))
    assert told == (
        Taken("routed", 10.25, "desk", detail="sure"),
        Taken("generated", 11.5, "plan", 1),
        Taken("called", 12.75, number=2, claim=3),
    )
    assert journal.drain() == ()


def test_an_answers_deltas_are_counted_up_to_what_comes_between() -> None:
    journal = Journal()
    started = AnswerStarted(model="m", engine="e", at_ms=1)
    journal.took(Generated("answer", 1, started), -1.0)  # a timer is set by it, at this very time
    for index in range(40):
        journal.took(Generated("answer", 1, AnswerDelta(text="a", index=index)), float(index))
    journal.took(Tick(), 40.0)
    journal.took(Generated("answer", 1, AnswerFinished(reason="stop", usage=Usage(), at_ms=1)), 41.0)
    journal.took(Generated("answer", 2, AnswerDelta(text="a", index=0)), 42.0)
    told = taken(record(journal.drain()))
    assert [(entry.kind, entry.number, entry.count, entry.at_ms) for entry in told] == [
        ("generated", 1, 1, -1.0), ("generated", 1, 40, 39.0), ("tick", 0, 1, 40.0), ("generated", 1, 1, 41.0),
        ("generated", 2, 1, 42.0),
    ]  # fmt: skip


def test_a_plans_deltas_keep_each_its_time() -> None:
    journal = Journal()
    for index in range(3):
        journal.took(Generated("plan", 1, PlanDelta(text="a", index=index)), index + 0.123)
    assert [entry.at_ms for entry in taken(record(journal.drain()))] == [0.123, 1.123, 2.123]


def test_times_come_back_to_the_last_bit() -> None:
    at_ms = 1_700_000_000_123.4568
    assert taken(record(header([Taken("tick", at_ms)])))[0].at_ms == at_ms


def test_a_header_that_cannot_be_read_says_nothing() -> None:
    assert taken(record(((HEADER, b"[["),))) == ()
    assert taken(record(())) == ()


def test_a_steer_says_its_successor() -> None:
    journal = Journal()
    journal.took(Cancelled("steered", "turn_next"), 1.0)
    assert taken(record(journal.drain()))[0] == Taken("cancelled", 1.0, "steered", detail="turn_next")


def setup() -> Setup:
    priced = ModelSpec(
        engine="openai", url="https://models.example.org", model="big", key_variable="SECRET_KEY", dialect="hermes",
        structured=False, input_usd_per_million_tokens=0.5,
    )  # fmt: skip
    return Setup(agents=load_all(), models={"default": ModelSpec(engine="vllm"), "big": priced}, router_model="big")


def test_a_setup_is_what_it_was_when_it_is_read_again() -> None:
    was = setup()
    event, prompts = registered(was, 5)
    now = setup_from(event, {_ref(prompt): prompt.text for prompt in prompts})
    assert registered(now, 5) == (event, prompts)
    assert (now.default_model, now.router_model) == (was.default_model, was.router_model)
    for name, agent in was.agents.items():
        assert now.agents[name].skills == agent.skills
        assert now.agents[name].answer.prompt.text == agent.answer.prompt.text
        assert now.agents[name].answer.options == agent.answer.options
    assert now.models["big"].cost_usd(1_000_000, 0) == 0.5
    assert prompt_refs(event) == {_ref(prompt) for prompt in prompts}


def test_where_a_model_is_served_is_not_written_down() -> None:
    event, _ = registered(setup(), 5)
    text = msgspec.json.encode(event).decode()
    assert "models.example.org" not in text
    assert "SECRET_KEY" not in text


def test_another_prompt_is_another_setup_and_the_time_is_not() -> None:
    was = setup()
    assert registered(was, 1)[0].id == registered(was, 2)[0].id
    fewer = {name: agent for name, agent in was.agents.items() if name != "desk"}
    assert registered(msgspec.structs.replace(was, agents=fewer), 1)[0].id != registered(was, 1)[0].id


def test_a_prompt_that_is_gone_is_named() -> None:
    event, _ = registered(setup(), 5)
    with pytest.raises(NotFound, match="is not there") as caught:
        setup_from(event, {})
    assert caught.value.code == "prompt_missing"


def _ref(prompt: PromptRegistered) -> PromptRef:
    return PromptRef(prompt.id, prompt.version)
