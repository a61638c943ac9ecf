"""What people say of their memories and habits: asked for on `turns`, a fact on `events`.

One fact for both, told apart by the item's id: `mem_…` names a memory, `habit_…` a habit. What is corrected keeps its
text and gets a successor; what is forgotten is erased. The memory worker applies the fact, so that memory built again
from the log obeys it too.
"""

from __future__ import annotations

from streams.events.base import Event, event


@event("memory.edit", "turns")
class MemoryEdit(Event, frozen=True, kw_only=True):
    """A person corrects or forgets an item of theirs, or tells a new one. Fields as in `memory.edited`; event_id: the
    idempotency key."""

    conversation: str
    tenant: str
    user: str
    item: str
    at_ms: int
    text: str = ""
    muted: bool = False
    forget: bool = False
    new: bool = False
    event_id: str = ""


@event("memory.edited", "events")
class MemoryEdited(Event, frozen=True, kw_only=True):
    """What a person says of one of their memories or habits.

    conversation: the one that a memory comes from; of a habit the member's own (ids.member_conversation). forget: the
    item is erased. text: what is said instead; of a habit "" takes a correction back. muted: a habit that must not be
    used, whatever is counted. new: the item is a memory that the person tells, and the text is what it says.
    """

    conversation: str
    tenant: str
    user: str
    item: str
    at_ms: int
    text: str = ""
    muted: bool = False
    forget: bool = False
    new: bool = False
