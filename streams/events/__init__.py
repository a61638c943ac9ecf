"""Every event type, one file per step of the journey. Importing this package fills the registry."""

from streams.events import (
    auditing,
    calling,
    conversation,
    delivering,
    editing,
    generating,
    intake,
    rating,
    recalling,
    registering,
    routing,
    turn,
)
from streams.events.base import REGISTRY, Event, InputItem, PromptRef, Usage

__all__ = [
    "REGISTRY",
    "Event",
    "InputItem",
    "PromptRef",
    "Usage",
    "auditing",
    "calling",
    "conversation",
    "delivering",
    "editing",
    "generating",
    "intake",
    "rating",
    "recalling",
    "registering",
    "routing",
    "turn",
]
