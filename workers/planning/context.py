"""How much of the past a prompt shows: an agent's budgets laid over what was fetched for any agent.

What a turn may use of the past is fetched before its agent is known, and stands whole in `turn.recalled`. Here it is
cut to the agent's own measure, so that a conversation of any length gives a prompt of bounded size:

    history    the newest turns, whole, as long as they fit into `history_tokens`; a single longer message is cut
    summary    what was said before, as the memory worker keeps it (at most its own budget)
    memories   the best of what was recalled, without what the history shows anyway, up to `recall_tokens`
    examples   good answers of this agent to like questions, up to `example_tokens`
    habits     those that have to do with the skills at hand

Pure.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Final

import msgspec

from memory.selection import CHARACTERS_PER_TOKEN, tokens_of
from streams.events.recalling import ExampleItem, HistoryMessage, Recalled, RecalledItem
from workers.agents.catalog import Agent
from workers.planning.commands import Look

# Of the history's budget that one message may take: the one before it still has room.
MESSAGE_SHARE: Final = 0.5
CUT: Final = " …"


class Context(msgspec.Struct, frozen=True):
    """What of the past a prompt of one agent shows."""

    history: tuple[HistoryMessage, ...]
    summary: str
    items: tuple[RecalledItem, ...]
    examples: tuple[ExampleItem, ...]
    habits: tuple[RecalledItem, ...]


def look_for(text: str, agents: Mapping[str, Agent], wanted: str) -> Look:
    """What to fetch for a turn that the agent `wanted` takes, or, where there is none of this name, any of them."""
    eligible = [agents[wanted]] if wanted in agents else list(agents.values())
    return Look(
        text, wanted if wanted in agents else "",
        turns=max(agent.history_turns for agent in eligible), tokens=max(agent.recall_tokens for agent in eligible),
        least_turns=min(agent.history_turns for agent in eligible),
        least_tokens=min(agent.history_tokens for agent in eligible),
    )  # fmt: skip


def context_of(recalled: Recalled, agent: Agent, skills: Collection[str] = ()) -> Context:
    """The agent's part of what was fetched. skills: names of those the turn may use."""
    history = shown_history(recalled.history, agent.history_turns, agent.history_tokens)
    turns = {message.turn for message in history}
    return Context(
        history=tuple(history),
        summary=recalled.summary,
        items=_within([item for item in recalled.items if item.source_turn not in turns], agent.recall_tokens),
        examples=_examples(recalled.examples, agent),
        habits=tuple(item for item in recalled.habits if item.about in skills),
    )


def shown_history(messages: Sequence[HistoryMessage], turns: int, tokens: int) -> list[HistoryMessage]:
    """The messages of the newest turns, oldest first: at most `turns` of them and `tokens` tokens. A turn is shown
    whole or not at all, except that long messages are cut; the newest is always shown."""
    longest = int(tokens * MESSAGE_SHARE) * CHARACTERS_PER_TOKEN
    by_turn: dict[str, list[HistoryMessage]] = {}
    for message in messages:
        text = message.text if len(message.text) <= longest else message.text[:longest] + CUT
        by_turn.setdefault(message.turn, []).append(msgspec.structs.replace(message, text=text))
    shown: list[list[HistoryMessage]] = []
    for turn in reversed(by_turn.values()):
        tokens -= sum(tokens_of(message.text) for message in turn)
        if len(shown) == turns or (tokens < 0 and shown):
            break
        shown.append(turn)
    return [message for turn in reversed(shown) for message in turn]


def _within(items: Sequence[RecalledItem], tokens: int) -> tuple[RecalledItem, ...]:
    """The best that fit; one that does not is passed over for a shorter one."""
    kept: list[RecalledItem] = []
    for item in items:
        cost = tokens_of(item.text)
        if cost <= tokens:
            tokens -= cost
            kept.append(item)
    return tuple(kept)


def _examples(examples: Sequence[ExampleItem], agent: Agent) -> tuple[ExampleItem, ...]:
    """The nearest last, next to the question they are like."""
    tokens, kept = agent.example_tokens, []
    for example in examples:
        cost = tokens_of(example.question) + tokens_of(example.answer)
        if example.agent == agent.name and cost <= tokens:
            tokens -= cost
            kept.append(example)
    return tuple(reversed(kept))
