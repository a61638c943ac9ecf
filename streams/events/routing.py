"""Facts of the first step: which agent takes the turn, or none."""

from __future__ import annotations

import msgspec

from streams.events.base import Event, event


class AgentScore(msgspec.Struct, frozen=True):
    """How much an agent's examples speak for it: about 1 for what is said to it, about 0 for what is not. The agent
    `out_of_scope` stands for nobody."""

    agent: str
    score: float


@event("route.decided", "events")
class RouteDecided(Event, frozen=True, kw_only=True):
    """agent: the agent that takes the turn ("" means out of scope: no planning call is made).

    by: "client" (asked for), "embedding", "model" (the router was unsure and asked one).
    """

    agent: str
    by: str
    at_ms: int
    scores: tuple[AgentScore, ...] = ()
    took_ms: float = 0.0
    reason: str = ""
