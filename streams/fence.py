"""One writer at a time, without locks: which facts of a log count, decided by their order alone.

Rules (docs/delivery.md has the proof for each crash point):
  1. A stage's epoch is opened by its fact with seq 0. Once a higher epoch has been opened, facts of lower epochs
     count for no reader. Of two writers that open the same epoch, the first in the log wins.
  2. Within (subject, stage, epoch) seq is dense from 0; a fact counts only when it is the next. A lower seq is a
     repeat; a higher one means that its writer broke its own rule, and is dropped too.
  3. After a turn's terminal fact only the outcomes of its calls and what memory stored still count.

Every reader of `events` runs the same fence over the same order, so all see the same history. Cost: one dict entry
per open (subject, stage), dropped when the turn is `forget`-ed.
"""

from __future__ import annotations

from typing import Literal

from streams.codec import Identity
from streams.events.turn import TERMINAL_TYPES

Verdict = Literal["counts", "repeat", "fenced", "gap", "after_end"]
NOTE = "note"  # stage of facts outside a turn's order (renamed, deleted, published): deduplicated by id alone
_AFTER_END = ("call.", "memory")


class Fence:
    """The fence of one reader, for any number of turns. Feed every fact of a partition in log order."""

    def __init__(self) -> None:
        self._stages: dict[tuple[str, str], tuple[int, str, int]] = {}  # (subject, stage) -> epoch, writer, next seq
        self._ended: set[str] = set()
        self._notes: dict[str, set[str]] = {}
        self.dropped: dict[str, int] = {"repeat": 0, "fenced": 0, "gap": 0, "after_end": 0}

    def judge(self, fact: Identity, writer: str, kind: str) -> Verdict:
        """Whether this fact, next in log order, counts. kind: its CloudEvents type. Changes the fence."""
        verdict = self._judge(fact, writer, kind)
        if verdict != "counts":
            self.dropped[verdict] += 1
        return verdict

    def _judge(self, fact: Identity, writer: str, kind: str) -> Verdict:
        if fact.stage == NOTE:
            seen = self._notes.setdefault(fact.subject, set())
            if (text := fact.text()) in seen:
                return "repeat"
            seen.add(text)
            return "counts"
        if fact.subject in self._ended and not fact.stage.startswith(_AFTER_END):
            return "after_end"
        key = (fact.subject, fact.stage)
        epoch, owner, expected = self._stages.get(key, (0, "", 0))
        if fact.epoch < epoch:
            return "fenced"
        if fact.epoch > epoch:
            if fact.seq != 0:
                return "gap"
        elif writer != owner:
            return "fenced"
        elif fact.seq != expected:
            return "repeat" if fact.seq < expected else "gap"
        self._stages[key] = (fact.epoch, writer, fact.seq + 1)
        if kind in TERMINAL_TYPES and fact.stage == "turn":
            self._ended.add(fact.subject)
        return "counts"

    def unseen(self, fact: Identity) -> bool:
        """Nothing of the fact's stage has been read, so it can not be judged: the stage began before."""
        return fact.stage != NOTE and fact.subject not in self._ended and (fact.subject, fact.stage) not in self._stages

    def noted(self, subject: str, text: str) -> bool:
        """Whether a note with this id about the subject has been read."""
        return text in self._notes.get(subject, ())

    def epoch(self, subject: str, stage: str) -> int:
        """The epoch in force of a stage, 0 when none has been opened."""
        return self._stages.get((subject, stage), (0, "", 0))[0]

    def ended(self, subject: str) -> bool:
        return subject in self._ended

    def forget(self, subject: str) -> None:
        """Drop what is held about a turn that nobody reads any more."""
        self._ended.discard(subject)
        self._notes.pop(subject, None)
        for key in [key for key in self._stages if key[0] == subject]:
            del self._stages[key]
