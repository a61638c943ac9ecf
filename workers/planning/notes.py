"""Facts about a conversation, outside of any turn's order: each is told apart by what it came from. Pure."""

from __future__ import annotations

import hashlib

from streams.events import Event
from streams.events.conversation import ConversationDeleted, ConversationRenamed, FactPublished, MemberForgotten
from streams.events.editing import MemoryEdit, MemoryEdited
from streams.events.intake import ConversationEdit, FactPublish, MemberForget
from streams.events.rating import FeedbackGive, FeedbackGiven

Noted = ConversationEdit | FactPublish | FeedbackGive | MemoryEdit | MemberForget
"""Commands that become such a fact."""


def note_number(cause: str) -> int:
    """The place of a note in its conversation, made of what it came from (a command's id), so that a repeat is met."""
    return int.from_bytes(hashlib.sha256(cause.encode()).digest()[:6], "big")


def note_of(event: Noted, source: str, now_ms: float) -> Event:
    """The fact that a command becomes. source: who sent it."""
    match event:
        case ConversationEdit():
            if event.delete:
                return ConversationDeleted(conversation=event.conversation, at_ms=int(now_ms))
            return ConversationRenamed(conversation=event.conversation, title=event.title, at_ms=int(now_ms))
        case FactPublish():
            return FactPublished(
                conversation=event.conversation, tenant=event.tenant, user=event.user, kind=event.kind,
                text=event.text, service=source, at_ms=event.at_ms, data=event.data,
            )  # fmt: skip
        case FeedbackGive():
            return FeedbackGiven(
                conversation=event.conversation, turn=event.turn, tenant=event.tenant, user=event.user,
                rating=event.rating, at_ms=event.at_ms, comment=event.comment, share=event.share,
            )  # fmt: skip
        case MemberForget():
            return MemberForgotten(tenant=event.tenant, user=event.user, at_ms=int(now_ms))
        case MemoryEdit():
            return MemoryEdited(
                conversation=event.conversation, tenant=event.tenant, user=event.user, item=event.item,
                at_ms=event.at_ms, text=event.text, muted=event.muted, forget=event.forget, new=event.new,
            )  # fmt: skip
