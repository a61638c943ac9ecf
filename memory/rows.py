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


class Admission(msgspec.Struct, frozen=True):
    """Whether a service's record may be taken. replayed: it was taken at another place. wait_ms: until its key has
    quota again, 0 when it had."""

    replayed: bool
    wait_ms: float


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
    kind "fact": what a service published, of role "service"; `name` is the fact's own kind. kind "again": what was said
    in the turn that this one goes on from.
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

    subject, attribute, value: what a fact says, "" for texts that were not read as one. single: the attribute has
    one value at a time, so a new one takes the place of the old. negated: it says that this is not so (any more). Rows
    of one user, subject and attribute are held to each other by memory/revising.py when they are stored.
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
    subject: str = ""
    attribute: str = ""
    value: str = ""
    single: bool = False
    negated: bool = False


OUTDATED = 0.4
"""Confidence of an utterance that said a fact which another has taken the place of: the words stay, and count less."""


class ExampleRow(msgspec.Struct, frozen=True, kw_only=True):
    """A turn that somebody rated, with what was asked and answered. The newest rating of a turn counts.

    rating: "good" | "bad"; only good ones are found. shared: others of the tenant may be shown it. vector: of the
    question.
    """

    turn: str
    conversation: str
    tenant: str
    user: str
    agent: str
    question: str
    answer: str
    rating: str
    shared: bool
    at_ms: int
    vector: Vector


class Example(msgspec.Struct, frozen=True, kw_only=True):
    """A good past answer to a question near to the one asked. score: cosine of the two questions."""

    turn: str
    agent: str
    question: str
    answer: str
    score: float


class Observed(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that a member did, to be counted (memory/habits.py). kind: agent | skill | argument | suggestion.

    taken: it was used, or a suggestion followed; else a suggestion was declined or left unanswered.
    """

    tenant: str
    user: str
    kind: str
    name: str
    taken: bool
    at_ms: int


class HabitRow(msgspec.Struct, frozen=True, kw_only=True):
    """How often a member did something, and when in the day. hours: times by hour of the day in UTC, 24 numbers.

    correction: what the person says instead, "" when nothing; muted: it must not be used, whatever is counted.
    """

    id: str
    tenant: str
    user: str
    kind: str
    name: str
    taken: int
    declined: int
    hours: tuple[int, ...]
    first_at_ms: int
    last_at_ms: int
    correction: str = ""
    muted: bool = False


class Experience(msgspec.Struct, frozen=True):
    """What there is of a member's experience. rated: whether any answer may be shown to them as an example."""

    habits: list[HabitRow]
    rated: bool


class Edit(msgspec.Struct, frozen=True, kw_only=True):
    """What a person says of a memory or a habit of theirs (memory/editing.py). Fields as in `memory.edited`.

    successor: id of the memory that a correction makes, vector: of its text; "" and [] for everything else. offset: of
    the fact. forgotten_at_ms: until when the item was forgotten, -1 never; what is stored of an edit says it.
    """

    tenant: str
    user: str
    item: str
    at_ms: int
    text: str = ""
    muted: bool = False
    forget: bool = False
    successor: str = ""
    offset: int = -1
    vector: Vector = []
    forgotten_at_ms: int = -1


class Reading(msgspec.Struct, frozen=True, kw_only=True):
    """A turn that a model is still to read. step: memory.facts | memory.summary. text: what it is given. epoch: how
    often it was asked so far; asked_at_ms: when last, 0 never."""

    turn: str
    step: str
    conversation: str
    tenant: str
    user: str
    at_ms: int
    text: str
    epoch: int = 0
    asked_at_ms: int = 0


class ReadingDone(msgspec.Struct, frozen=True, kw_only=True):
    """The model's word about a reading was taken, or it was given up."""

    turn: str
    step: str


Row = (
    TurnRecord | ConversationRow | MemoryRow | CallOutcome | ExampleRow | Observed | Edit | Reading | ReadingDone
    | ConversationRenamed | ConversationDeleted | MemberForgotten
)  # fmt: skip


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
    subject: str = ""
    attribute: str = ""
    value: str = ""
    similarity: float | None = None
    text_score: float = 0.0
    vector_rank: int = 0
    text_rank: int = 0


class History(msgspec.Struct, frozen=True, kw_only=True):
    """A conversation's messages, oldest first, from the turns that ended at or before `position`.

    position: of the conversation's partition in the store, -1 when nothing is stored. resume: from this offset on the
    log holds, whole, every turn that is not in `messages`. turns: ids of the turns in `messages`, oldest first.
    summary: what was said before, in short, "" as long as nothing was left out.
    """

    messages: list[HistoryMessage]
    position: int
    resume: int
    turns: list[str]
    summary: str = ""


SUMMARY = "summary"
"""Attribute of the memory (layer episode) that holds a conversation's summary; its value says the last turn in it and
who wrote it, `TURN/rule` or `TURN/model`."""


class Unsummarised(msgspec.Struct, frozen=True):
    """How many ended turns of a conversation its summary does not hold yet, and that summary ("" when none)."""

    turns: int
    summary: str


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
