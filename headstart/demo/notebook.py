"""What the demo service did to the world: its notes, what it sent, and a ledger of every request that arrived.

The ledger is how tests see effects: it counts arrivals whether or not they were carried out, and effects apart.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import msgspec

from streams.errors import InvalidInput


class Arrival(msgspec.Struct, frozen=True):
    """One valid request. key: its Idempotency-Key, "" when none. turn, call, claim: from the signed context."""

    skill: str
    key: str
    turn: str
    call: int
    claim: int
    at_ms: int


class Effect(msgspec.Struct, frozen=True):
    """Something that was done. what: the skill; detail: what it did it with."""

    what: str
    detail: dict[str, Any]
    tenant: str
    user: str


class Ledger:
    """In memory: it is the world of one demo, and ends with it."""

    def __init__(self) -> None:
        self.arrivals: list[Arrival] = []
        self.effects: list[Effect] = []
        self._notes: dict[tuple[str, str], dict[int, str]] = {}
        self._note_ids = 0

    def arrived(self, arrival: Arrival) -> None:
        self.arrivals.append(arrival)

    def done(self, what: str, detail: dict[str, Any], tenant: str, user: str) -> int:
        """Records an effect and gives its number, from 1."""
        self.effects.append(Effect(what, detail, tenant, user))
        return len(self.effects)

    def counts(self) -> dict[str, int]:
        """Arrivals by skill."""
        return dict(Counter(arrival.skill for arrival in self.arrivals))

    def save_note(self, tenant: str, user: str, text: str) -> int:
        """Gives the note's id."""
        self._note_ids += 1
        self._notes.setdefault((tenant, user), {})[self._note_ids] = text
        self.done("save_note", {"note_id": self._note_ids, "text": text}, tenant, user)
        return self._note_ids

    def delete_note(self, tenant: str, user: str, note_id: int) -> None:
        """Raises InvalidInput (`unknown_note`) when this member has none with this id."""
        if self._notes.get((tenant, user), {}).pop(note_id, None) is None:
            raise InvalidInput("there is no such note", code="unknown_note")
        self.done("delete_note", {"note_id": note_id}, tenant, user)

    def notes(self, tenant: str, user: str) -> dict[int, str]:
        """A member's notes by id, oldest first."""
        return dict(self._notes.get((tenant, user), {}))
