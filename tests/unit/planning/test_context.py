"""How much of the past a prompt shows: an agent's budgets over what was fetched."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from memory.selection import tokens_of
from streams.events.recalling import ExampleItem, HistoryMessage, Recalled, RecalledItem
from workers.agents.catalog import load_all
from workers.planning.context import context_of, look_for, shown_history

AGENT = load_all()["companion"]


def turn(name: str, *texts: str) -> list[HistoryMessage]:
    roles = ("user", "assistant")
    return [HistoryMessage(role=roles[number % 2], text=text, turn=name) for number, text in enumerate(texts)]


def item(name: str, text: str, source_turn: str = "", about: str = "") -> RecalledItem:
    return RecalledItem(id=name, layer="fact", text=text, score=0.5, source_turn=source_turn, about=about)


def test_the_newest_turns_are_shown_whole_as_long_as_they_fit() -> None:
    messages = [*turn("a", "one", "two"), *turn("b", "three", "four"), *turn("c", "five", "six")]
    assert [message.text for message in shown_history(messages, 2, 100)] == ["three", "four", "five", "six"]
    cost = sum(tokens_of(text) for text in ("five", "six"))
    assert [message.text for message in shown_history(messages, 9, cost)] == ["five", "six"]
    assert [message.text for message in shown_history(messages, 9, cost + 1)] == ["five", "six"]
    assert shown_history([], 9, 100) == []


def test_the_newest_turn_is_shown_whatever_it_costs_but_cut() -> None:
    [asked, _] = shown_history(turn("a", "x" * 4_000, "y"), 8, 100)
    assert len(asked.text) < 220
    assert asked.text.endswith("…")


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.text(max_size=900)), max_size=20), st.integers(64, 2_000))
def test_a_history_of_any_shape_keeps_its_budget(said: list[tuple[str, str]], tokens: int) -> None:
    said.sort(key=lambda one: one[0])
    messages = [HistoryMessage(role="user", text=text, turn=name) for name, text in said]
    shown = shown_history(messages, 8, tokens)
    newest = {message.turn for message in shown[-1:]}
    assert [message.turn for message in shown] == sorted(message.turn for message in shown)
    if {message.turn for message in shown} != newest:
        assert sum(tokens_of(message.text) for message in shown) <= tokens


def test_what_the_history_shows_is_not_shown_again_and_what_it_cuts_is() -> None:
    agent = msgspec.structs.replace(AGENT, history_turns=1)
    history = (*turn("old", "I live in Bern", "Noted"), *turn("new", "And work there", "I see"))
    items = (item("1", "I live in Bern", "old"), item("2", "And work there", "new"))
    context = context_of(Recalled(items=items, history=history, at_ms=0), agent)
    assert [one.id for one in context.items] == ["1"]
    assert {message.turn for message in context.history} == {"new"}


def test_memories_and_examples_keep_their_budgets_and_examples_their_agent() -> None:
    agent = msgspec.structs.replace(AGENT, recall_tokens=30, example_tokens=30)
    items = (item("long", "x" * 400), item("short", "y" * 40), item("next", "z" * 90))

    def example(name: str, agent_name: str = agent.name) -> ExampleItem:
        return ExampleItem(turn=name, agent=agent_name, question="q", answer="a" * 20, score=0.9)

    examples = (example("near"), example("other", "desk"), example("far"), example("farther"))
    context = context_of(Recalled(items=items, history=(), at_ms=0, examples=examples), agent)
    assert [one.id for one in context.items] == ["short"]
    assert [one.turn for one in context.examples] == ["far", "near"], "the nearest stands next to the question"


def test_habits_are_shown_for_the_skills_at_hand() -> None:
    habits = (item("1", "I usually mean Bern", about="get_weather"), item("2", "I declined", about="send_message"))
    recalled = Recalled(items=(), history=(), at_ms=0, habits=habits)
    assert [one.id for one in context_of(recalled, AGENT, {"get_weather"}).habits] == ["1"]
    assert context_of(recalled, AGENT).habits == ()


def test_what_is_fetched_serves_every_agent_or_the_one_that_is_wanted() -> None:
    agents = {
        "small": msgspec.structs.replace(AGENT, history_turns=4, history_tokens=300, recall_tokens=100),
        "large": msgspec.structs.replace(AGENT, history_turns=9, history_tokens=900, recall_tokens=400),
    }
    look = look_for("hi", agents, "")
    assert (look.agent, look.turns, look.tokens, look.least_turns, look.least_tokens) == ("", 9, 400, 4, 300)
    look = look_for("hi", agents, "small")
    assert (look.agent, look.turns, look.tokens, look.least_turns, look.least_tokens) == ("small", 4, 100, 4, 300)
