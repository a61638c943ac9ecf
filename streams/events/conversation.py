"""Facts about a conversation as a whole."""

from __future__ import annotations

from typing import Any

import msgspec

from streams.events.base import Event, event


@event("conversation.opened", "events")
class ConversationOpened(Event, frozen=True, kw_only=True):
    """The conversation exists from here on and belongs to (tenant, user). `parent`: what it was forked from."""

    conversation: str
    tenant: str
    user: str
    at_ms: int
    parent: str = ""
    parent_turn: str = ""
    title: str = ""


@event("conversation.renamed", "events")
class ConversationRenamed(Event, frozen=True, kw_only=True):
    conversation: str
    title: str
    at_ms: int


@event("conversation.deleted", "events")
class ConversationDeleted(Event, frozen=True, kw_only=True):
    """Every projection forgets the conversation; the topic's own copy ages out by its retention."""

    conversation: str
    at_ms: int


@event("fact.published", "events")
class FactPublished(Event, frozen=True, kw_only=True):
    """A service's fact, after the owner of the partition checked its signature and tenant. `service`: who said it."""

    conversation: str
    tenant: str
    user: str
    kind: str
    text: str
    service: str
    at_ms: int
    data: dict[str, Any] = msgspec.field(default_factory=dict)


@event("fact.taken", "events")
class FactTaken(Event, frozen=True, kw_only=True):
    """What became of a published fact, said once: in the turn that took it in, or in its conversation when none ran.

    fact: the id of its `fact.published`; kind, service: as there. agent: whose policy it was, "" when it was that of
    what no agent takes. policy: ignore | remember | tell | steer | open. moment: where the turn was when it heard of
    the fact: before_plan | planning | call_in_flight | generating | after_end (no turn ran).
    outcome: ignored | remembered | told | steered | opened. successor: the turn that was opened for it; "" where the
    running turn took it in by itself, or nothing was to be said. text: as much of the fact as that turn's prompts show.
    """

    conversation: str
    fact: str
    kind: str
    service: str
    agent: str
    policy: str
    moment: str
    outcome: str
    at_ms: int
    successor: str = ""
    text: str = ""


@event("member.forgotten", "events")
class MemberForgotten(Event, frozen=True, kw_only=True):
    """Every projection, replay and archive erases what it holds of this member, at once."""

    tenant: str
    user: str
    at_ms: int
