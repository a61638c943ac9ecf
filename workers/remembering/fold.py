"""One partition of `events` folded into changes of the store: records in, a batch out. Pure.

The fold judges every record by the fence, follows each turn with a projector, and says two offsets with each batch:
`position`, up to which everything it was fed is in the changes, and `resume`, from where a successor must read to see
every turn whole that is open there. A successor meets some records for the second time; what they caused up to the
stored position is not given again.

A turn is kept after its end while calls of it run, and for LINGER_MS of the log's own time, so that a late result finds
its turn and a writer that wakes up late is still fenced.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from typing import Final

import msgspec

from memory.drafts import Draft, draft_of_fact, row_of_edit
from memory.records import TurnProjector
from memory.rows import Change, ConversationRow, Row, TurnRecord
from streams.codec import Identity, Record, decode
from streams.events import REGISTRY, Event
from streams.events.calling import (
    ApprovalAsked,
    CallAnswered,
    CallClosed,
    CallFailed,
    CallFired,
    CallOpened,
    CallVoided,
)
from streams.events.conversation import (
    ConversationDeleted,
    ConversationOpened,
    ConversationRenamed,
    FactPublished,
    FactTaken,
    MemberForgotten,
)
from streams.events.editing import MemoryEdited
from streams.events.generating import AnswerDelta, MemoryFinished
from streams.events.rating import FeedbackGiven
from streams.events.routing import RouteDecided
from streams.events.turn import TERMINAL, TurnAccepted
from streams.fence import Fence
from workers.remembering.published import Published, Waiting

log = logging.getLogger(__name__)
LINGER_MS: Final = 600_000
# The partition's owner ends every turn by its deadline; one that is still open this long after is given up.
ABANDONED_MS: Final = 3_600_000
# Conversations whose approval request is remembered, so that one that is passed over counts as declined.
UNANSWERED: Final = 10_000
NOT_APPROVED: Final = "not_approved"
_READ: Final = frozenset(
    kind.TYPE
    for kind in (
        AnswerDelta, ApprovalAsked, CallAnswered, CallClosed, CallFailed, CallFired, CallOpened, CallVoided,
        ConversationDeleted, ConversationOpened, ConversationRenamed, FactPublished, FactTaken, FeedbackGiven,
        MemberForgotten, MemoryEdited, MemoryFinished, RouteDecided, TurnAccepted, *TERMINAL,
    )
)  # fmt: skip


class Batch(msgspec.Struct, frozen=True):
    """What to store. ended: turns to remember; drafts: other memories, still without vectors, each with the offset of
    its cause. sources: the record behind each offset that changes something. resume_before: `resume` as it was before
    these records. suggestions: by turn that ended, calls that waited for the person's word, (skill, taken). rated: what
    was said of answers; read: (offset, turn, step, word) of models that read a turn."""

    partition: int
    position: int
    resume: int
    resume_before: int
    changes: list[Change]
    ended: list[TurnRecord]
    drafts: list[tuple[int, Draft]]
    sources: dict[int, Record]
    suggestions: dict[str, list[tuple[str, bool]]] = {}
    rated: list[tuple[int, FeedbackGiven]] = []
    read: list[tuple[int, str, str, MemoryFinished]] = []


class _Turn:
    def __init__(self, accepted: TurnAccepted, source: Record) -> None:
        self.projector = TurnProjector()
        self.deadline_at_ms = accepted.deadline_at_ms
        self.source = source
        self.announced = False
        self.answers = any(item.kind == "approval" for item in accepted.input)
        self.suggestions: list[tuple[str, bool]] = []
        self._skills: dict[int, str] = {}

    def observe(self, event: Event) -> None:
        """Follows what became of the calls that this turn's input approved or refused."""
        if isinstance(event, CallOpened):
            self._skills[event.call] = event.skill.partition("@")[0]
            return
        declined = isinstance(event, CallVoided) and event.reason == NOT_APPROVED
        if self.answers and (declined or isinstance(event, CallFired)):
            skill = self._skills.pop(getattr(event, "call", -1), "")
            self.suggestions += [(skill, not declined)] if skill else []


class PartitionFold:
    """position: what the store has of this partition, -1 for nothing. Feed every record from `resume` on, in order."""

    def __init__(self, partition: int, position: int, resume: int) -> None:
        self.partition = partition
        self.fence = Fence()
        self._stored = position
        self._position = position
        self._resume = resume
        self.expected = resume  # offset of the record that should be fed next
        self._turns: dict[str, _Turn] = {}
        self._ended_at_ms: OrderedDict[str, int] = OrderedDict()  # subjects to forget, oldest first
        self._log_time_ms = 0
        self._changes: list[Change] = []
        self._ended: list[TurnRecord] = []
        self._drafts: list[tuple[int, Draft]] = []
        self._sources: dict[int, Record] = {}
        self._suggestions: dict[str, list[tuple[str, bool]]] = {}
        self._rated: list[tuple[int, FeedbackGiven]] = []
        self._read: list[tuple[int, str, str, MemoryFinished]] = []
        self._published = Published()
        self._unanswered: OrderedDict[str, list[str]] = OrderedDict()  # by conversation: skills that wait for a word

    def feed(self, record: Record) -> None:
        """Takes the next record. Raises InvalidInput or UnknownEvent when it can not be read; it then counts as read,
        and is the caller's to set aside unless `repeats` says that this was done before."""
        offset = record.offset
        self._position = max(self._position, offset)
        self.expected = offset + 1
        self._log_time_ms = max(self._log_time_ms, record.timestamp_ms)
        identity = Identity.parse(record.event_id)
        unseen = record.type == FactTaken.TYPE and self.fence.unseen(identity)  # by a turn that ended long ago
        if self.fence.judge(identity, record.source, record.type) != "counts" and not unseen:
            return
        if identity.subject not in self._turns:
            self._ended_at_ms.setdefault(identity.subject, self._log_time_ms)
        if record.type in _READ or record.type not in REGISTRY:
            self._take(identity, decode(record), record)

    @property
    def position(self) -> int:
        """Offset up to which records have been taken or were stored before; -1 for none."""
        return self._stored

    @property
    def memories_waiting(self) -> int:
        """About how many memories the next batch has so far: most turns give two."""
        return 2 * len(self._ended) + len(self._drafts)

    @property
    def has_changes(self) -> bool:
        """Whether the next batch has more to say than positions and turns that have begun."""
        return bool(self._changes or self._drafts or self._rated or self._read)

    @property
    def is_quiet(self) -> bool:
        """Whether no turn runs here."""
        return all(turn.projector.ended for turn in self._turns.values())

    def repeats(self, offset: int) -> bool:
        """Whether the store's position already covers this offset."""
        return offset <= self._stored

    def _take(self, identity: Identity, event: Event, record: Record) -> None:
        if isinstance(event, MemoryFinished):
            if not self.repeats(record.offset):
                self._read.append((record.offset, identity.subject, identity.stage, event))
                self._sources[record.offset] = record
            return
        if isinstance(event, FactTaken):
            waiting = self._published.taken(event)
            if waiting is not None and not self.repeats(record.offset):
                self._remember(event.fact, waiting, record.offset)
            return
        if isinstance(event, TurnAccepted) and identity.subject not in self._turns:
            made = self._turns[identity.subject] = _Turn(event, record)
            self._ended_at_ms.pop(identity.subject, None)
            ignored = self._unanswered.pop(event.conversation, [])
            if not made.answers:  # the person went on with something else
                made.suggestions += [(skill, False) for skill in ignored]
        turn = self._turns.get(identity.subject)
        if turn is None:
            self._take_note(identity, event, record)
            return
        if isinstance(event, ConversationOpened):
            self._take_note(identity, event, record)
        if isinstance(event, ApprovalAsked):
            self._unanswered.setdefault(_key(record), []).append(event.skill.partition("@")[0])
            if len(self._unanswered) > UNANSWERED:
                self._unanswered.popitem(last=False)
            return
        turn.observe(event)
        ended_before = turn.projector.ended
        late = turn.projector.feed(identity, event, record.offset)
        if late is not None:
            self._change(record, late)
        elif turn.projector.ended and not ended_before:
            ended = turn.projector.record()
            turn.announced = True
            self._change(record, ended)
            self._ended_at_ms[identity.subject] = self._log_time_ms
            if not self.repeats(record.offset):
                self._ended.append(ended)
                if turn.suggestions:
                    self._suggestions[ended.turn] = turn.suggestions

    def _take_note(self, identity: Identity, event: Event, record: Record) -> None:
        """Facts about conversations and members, not of a turn's own course."""
        if isinstance(event, ConversationOpened):
            row = ConversationRow(
                conversation=event.conversation, tenant=event.tenant, user=event.user, created_at_ms=event.at_ms,
                title=event.title, parent=event.parent, parent_turn=event.parent_turn,
            )  # fmt: skip
            self._change(record, row)
        elif isinstance(event, ConversationRenamed | ConversationDeleted | MemberForgotten):
            self._change(record, event)
        elif isinstance(event, FeedbackGiven) and not self.repeats(record.offset):
            self._rated.append((record.offset, event))
            self._sources[record.offset] = record
        elif isinstance(event, MemoryEdited) and not self.repeats(record.offset):
            made = row_of_edit(event, identity.text(), record.offset)
            if isinstance(made, Draft):
                self._drafts.append((record.offset, made))
                self._sources[record.offset] = record
            else:
                self._change(record, made)
        elif isinstance(event, FactPublished):
            self._published.came(identity.text(), event, record)

    def _remember(self, fact: str, waiting: Waiting, offset: int) -> None:
        """A service's fact, at the offset of what says that it is to be remembered."""
        drafts = draft_of_fact(waiting.event, fact, offset)
        self._drafts.extend((offset, draft) for draft in drafts)
        self._sources.setdefault(offset, waiting.record)

    def _change(self, record: Record, row: Row) -> None:
        if not self.repeats(record.offset):
            self._changes.append(Change(record.offset, row))
            self._sources[record.offset] = record

    def take(self) -> Batch | None:
        """What came of the records fed since the last call; None when none was fed."""
        if self._position <= self._stored:
            return None
        self._tidy()
        resume = self._published.oldest(self._position + 1)
        for turn in self._turns.values():
            projector = turn.projector
            if not projector.ended or projector.calls_running:
                resume = min(resume, projector.begin_offset)
            if not turn.announced:
                turn.announced = True
                self._change(turn.source, projector.record())
        batch = Batch(
            self.partition, self._position, resume, self._resume, self._changes, self._ended, self._drafts,
            self._sources, self._suggestions, self._rated, self._read,
        )  # fmt: skip
        self._stored, self._resume = self._position, resume
        self._changes, self._ended, self._drafts, self._sources = [], [], [], {}
        self._suggestions, self._rated, self._read = {}, [], []
        return batch

    def _tidy(self) -> None:
        """Forgets what ended long ago, and gives up turns that nobody ended."""
        while self._ended_at_ms:
            subject, ended_at_ms = next(iter(self._ended_at_ms.items()))
            if ended_at_ms + LINGER_MS > self._log_time_ms:
                break
            del self._ended_at_ms[subject]
            self._turns.pop(subject, None)
            self.fence.forget(subject)
        for subject, turn in list(self._turns.items()):
            if not turn.projector.ended and turn.deadline_at_ms + ABANDONED_MS < self._log_time_ms:
                log.warning("a turn was never ended and is given up", extra={"turn": subject})
                del self._turns[subject]
                self.fence.forget(subject)
        for fact, waiting in self._published.overdue(self._log_time_ms):
            self._remember(fact, waiting, self._position)


def _key(record: Record) -> str:
    """The conversation of a record."""
    return (record.key or b"").decode()
