"""Facts of retrieval: what memory gave, and which skills were discovered for the plan."""

from __future__ import annotations

import msgspec

from streams.events.base import Event, event


class RecalledItem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One remembered text put into the prompt. layer: conversation | episode | fact | procedure. why: the terms of
    its score, for people. about: the skill that a habit has to do with, "" for everything else."""

    id: str
    layer: str
    text: str
    score: float
    source_turn: str = ""
    at_ms: int = 0
    why: str = ""
    about: str = ""


class HistoryMessage(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One message of the conversation so far, oldest first: exactly what was delivered."""

    role: str
    text: str
    turn: str = ""


class ExampleItem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A good past answer to a question like the turn's. score: cosine of the two questions."""

    turn: str
    agent: str
    question: str
    answer: str
    score: float


@event("turn.recalled", "events")
class Recalled(Event, frozen=True, kw_only=True):
    """Everything the turn's prompts may use of the past: recalled memories and the conversation's own messages, a
    summary of what was said before those, rated examples and the member's habits. It is fetched before the agent is
    known; a prompt shows what of it the agent's budgets admit (workers/planning/context.py).

    position: the offset up to which Postgres had stored the partition (-1: nothing); what stands after it was read
    from the log. took_ms: fetching and ranking, without the embedding; embed_ms: the embedding.
    """

    items: tuple[RecalledItem, ...]
    history: tuple[HistoryMessage, ...]
    at_ms: int
    position: int = -1
    took_ms: float = 0.0
    embed_ms: float = 0.0
    summary: str = ""
    examples: tuple[ExampleItem, ...] = ()
    habits: tuple[RecalledItem, ...] = ()


class DiscoveredSkill(msgspec.Struct, frozen=True):
    """A skill offered to the plan, as `name@version`, with its likeness to the turn."""

    skill: str
    score: float


@event("skills.discovered", "events")
class SkillsDiscovered(Event, frozen=True, kw_only=True):
    """The skills the plan's schema allows, best first. Only these go into the prompt."""

    skills: tuple[DiscoveredSkill, ...]
    at_ms: int
    took_ms: float = 0.0


@event("turn.remembered", "events")
class TurnRemembered(Event, frozen=True, kw_only=True):
    """The memory worker stored the turn. memories: how many texts became memories."""

    at_ms: int
    memories: int = 0
