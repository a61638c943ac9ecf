"""Rows of the store, as its callers see them. Times are milliseconds since the epoch. Pure."""

from __future__ import annotations

import msgspec

from streams.events.conversation import ConversationDeleted, ConversationRenamed, MemberForgotten
from streams.events.recalling import HistoryMessage
from streams.events.turn import ModelUse

Vector = list[float]


class Principal(msgspec.Struct, frozen=True, kw_only=True):
    """Who a key speaks for. service: may publish for any user of the tenant. key_id: names the key, is no secret."""

    tenant: str
    user: str
    service: bool
    scopes: tuple[str, ...]
    key_id: str


class KeyRow(msgspec.Struct, frozen=True, kw_only=True):
    """A key as it is listed; the key itself can not be got back. revoked_at_ms None: it is in force."""

    key_id: str
    tenant: str
    user: str
    name: str
    scopes: tuple[str, ...]
    created_at_ms: int
    revoked_at_ms: int | None = None


class ConversationRow(msgspec.Struct, frozen=True, kw_only=True):
    """A conversation. A deleted one keeps ids, times and `deleted`, and nothing anybody said."""

    conversation: str
    tenant: str
    user: str
    created_at_ms: int
    title: str = ""
    parent: str = ""
    parent_turn: str = ""
    updated_at_ms: int = 0
    deleted: bool = False


class MessageRow(msgspec.Struct, frozen=True, kw_only=True):
    """One item of a turn, in the order a model reads them.

    kind "message": role and text. kind "function_call": `name` and, as text, the arguments (JSON).
    kind "function_call_output": the result; `call_id` pairs it with its call.
    status: "" | "answered" | "failed" | "unanswered" (the turn ended first) | "client" (the client runs the function).
    """

    index: int
    role: str
    text: str
    kind: str = "message"
    call_id: str = ""
    name: str = ""
    status: str = ""


class TurnRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A turn as its log tells it so far. end_offset -1 and status "running": its terminal fact has not been seen.

    status: running | completed | incomplete | cancelled | failed; reason: why it is incomplete, cancelled or failed.
    agent: "" before routing and when out of scope; `routed` tells the two apart.
    """

    turn: str
    conversation: str
    tenant: str
    user: str
    begin_offset: int
    end_offset: int
    status: str
    reason: str
    routed: bool
    agent: str
    messages: tuple[MessageRow, ...]
    models: tuple[ModelUse, ...]
    accepted_at_ms: int
    ended_at_ms: int
    previous_turn: str
    previous_offset: int
    event_id: str
    origin: str
    awaiting: str = ""

    @property
    def answer(self) -> str:
        """What the person got to read: every accepted answer.delta before the terminal fact. "" when nothing."""
        for message in reversed(self.messages):
            if message.kind == "message" and message.role == "assistant" and message.name == "answer":
                return message.text
        return ""


class TurnRow(msgspec.Struct, frozen=True, kw_only=True):
    """Where a turn is found. offset: of its first fact in `events`, -1 when that log no longer exists."""

    turn: str
    conversation: str
    tenant: str
    user: str
    partition: int
    offset: int
    end_offset: int
    status: str
    agent: str
    accepted_at_ms: int
    ended_at_ms: int


class CallOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """A call's result that came after its turn had ended: it fills the place of "unanswered"."""

    turn: str
    call_id: str
    status: str
    text: str


class MemoryRow(msgspec.Struct, frozen=True, kw_only=True):
    """One remembered text. layer: conversation | episode | fact | procedure.

    id is made from its source, so that storing it again changes nothing. valid_to_ms None: it holds until further
    notice; superseded_by: the memory that took its place. confidence: 0..1. source_offset: the fact it came from, -1
    when it came from no log. speaker: the role or service that said it. context: what was said just before it, by which
    it is found too.
    """

    id: str
    layer: str
    tenant: str
    user: str
    text: str
    vector: Vector
    at_ms: int
    conversation: str = ""
    turn: str = ""
    source_offset: int = -1
    speaker: str = ""
    context: str = ""
    valid_from_ms: int = 0
    valid_to_ms: int | None = None
    superseded_by: str = ""
    confidence: float = 1.0


Row = (
    TurnRecord | ConversationRow | MemoryRow | CallOutcome | ConversationRenamed | ConversationDeleted | MemberForgotten
)


class Change(msgspec.Struct, frozen=True):
    """A row and the offset of the fact that caused it; a change at or before the stored position is ignored."""

    offset: int
    row: Row


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """A memory that may be recalled, with what each search said of it.

    similarity: cosine in -1..1, None when only the text search found it. vector_rank and text_rank: place in that
    search from 1, 0 when not in it.
    """

    id: str
    layer: str
    text: str
    at_ms: int
    conversation: str = ""
    turn: str = ""
    speaker: str = ""
    context: str = ""
    valid_from_ms: int = 0
    valid_to_ms: int | None = None
    superseded_by: str = ""
    confidence: float = 1.0
    similarity: float | None = None
    text_score: float = 0.0
    vector_rank: int = 0
    text_rank: int = 0


class History(msgspec.Struct, frozen=True, kw_only=True):
    """A conversation's messages, oldest first, from the turns that ended at or before `position`.

    position: of the conversation's partition in the store, -1 when nothing is stored. resume: from this offset on the
    log holds, whole, every turn that is not in `messages`. turns: ids of the turns in `messages`, oldest first.
    """

    messages: list[HistoryMessage]
    position: int
    resume: int
    turns: list[str]


class ClaimRow(msgspec.Struct, frozen=True, kw_only=True):
    """The newest claim of a call. outcome None: nobody has settled it; past lease_until_ms it is in doubt."""

    turn: str
    call: int
    argument_hash: str
    number: int
    writer: str
    lease_until_ms: int
    outcome: str | None


TITLE_CHARACTERS = 80


def title_of(record: TurnRecord) -> str:
    """What a conversation is called until somebody names it: the beginning of the first thing its user said."""
    for message in record.messages:
        if message.kind == "message" and message.role == "user":
            return " ".join(message.text.split())[:TITLE_CHARACTERS]
    return ""
