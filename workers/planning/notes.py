"""Facts about a conversation, outside of any turn's order: each is told apart by what it came from. Pure."""

from __future__ import annotations

import hashlib


def note_number(cause: str) -> int:
    """The place of a note in its conversation, made of what it came from (a command's id), so that a repeat is met."""
    return int.from_bytes(hashlib.sha256(cause.encode()).digest()[:6], "big")
