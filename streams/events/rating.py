"""What people think of an answer: asked for on `turns`, a fact on `events`."""

from __future__ import annotations

from typing import Final

from streams.events.base import Event, event

RATINGS: Final = ("good", "bad")


@event("feedback.give", "turns")
class FeedbackGive(Event, frozen=True, kw_only=True):
    """A person rates the answer of one of their turns. Fields as in `feedback.given`; event_id: the idempotency key."""

    conversation: str
    turn: str
    tenant: str
    user: str
    rating: str
    at_ms: int
    comment: str = ""
    share: bool = False
    event_id: str = ""


@event("feedback.given", "events")
class FeedbackGiven(Event, frozen=True, kw_only=True):
    """What a person thinks of a turn's answer; of several words about one turn the newest counts.

    rating: "good" (it may be shown to a model as an example) | "bad" (it may not, whatever was said before).
    share: others of the tenant may be answered by its example too; otherwise only the person themself.
    """

    conversation: str
    turn: str
    tenant: str
    user: str
    rating: str
    at_ms: int
    comment: str = ""
    share: bool = False
