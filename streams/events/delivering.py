"""What clients say that they have: facts on `deliveries`, beside the log and for people only."""

from __future__ import annotations

from streams.events.base import Event, event


@event("turn.acknowledged", "deliveries")
class TurnAcknowledged(Event, frozen=True, kw_only=True):
    """A client has acknowledged a turn's last frame to the gateway that wrote this (`ce_source`), at the gateway's
    wall clock. Said once by each socket that acknowledges; nothing depends on it."""

    turn: str
    conversation: str
    at_ms: int
