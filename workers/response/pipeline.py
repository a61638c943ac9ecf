"""All checks of one answer, and the token ids that belong to its text.

Every check reads the engine's text by itself; a character leaves when all of them let it go. Text leaves in the pieces
in which the engine gave it, with their ids, so that at every boundary the ids decode to the text. A piece that a check
changed leaves without ids: ids of what was masked must not enter the log, and a successor sees by their absence that
it cannot go on from there.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from streams.errors import InvalidInput
from workers.response.check import Check, Segment
from workers.response.length_check import LengthCheck
from workers.response.secrets_check import SecretsCheck


class Piece(msgspec.Struct, frozen=True):
    """Text that may leave. ids: its tokens, () when a check changed it. index: of its first token in the answer.
    size: how many characters the engine gave for it."""

    text: str
    ids: tuple[int, ...]
    index: int
    size: int


class _Change(NamedTuple):
    start: int
    end: int
    replacement: str


class Pipeline:
    """Feed it the engine's pieces; it gives those that may leave, in order, perhaps changed."""

    def __init__(self, checks: Sequence[Check]) -> None:
        self._checks = list(checks)
        self._frontiers = [0] * len(self._checks)  # characters that each check has decided about
        self._changes: list[_Change] = []
        self._held: deque[Piece] = deque()
        self._fed = 0
        self._released = 0
        self._filtered: dict[str, None] = {}

    @property
    def filtered(self) -> tuple[str, ...]:
        """Names of the checks that changed something, in the order in which they first did."""
        return tuple(self._filtered)

    @property
    def stopped(self) -> bool:
        """A check ended the answer."""
        return any(check.stopped for check in self._checks)

    def prime(self, text: str) -> None:
        """What an earlier worker delivered; before the first `feed`."""
        for check in self._checks:
            check.prime(text)

    def feed(self, text: str, ids: tuple[int, ...], index: int) -> list[Piece]:
        """One piece from the engine."""
        piece = Piece(text, ids, index, len(text))
        if not self._checks:
            return [piece]
        self._held.append(piece)
        self._fed += len(text)
        for number, check in enumerate(self._checks):
            self._note(number, check, check.feed(text))
        return self._release()

    def finish(self) -> list[Piece]:
        """The answer ended: everything that is held leaves."""
        for number, check in enumerate(self._checks):
            self._note(number, check, check.finish())
            if self._frontiers[number] < self._fed:
                raise AssertionError(f"the check {check.name} did not decide about all of the text")
        return self._release()

    def _note(self, number: int, check: Check, segments: list[Segment]) -> None:
        at = self._frontiers[number]
        for size, replacement in segments:
            if replacement is not None:
                self._changes.append(_Change(at, at + size, replacement))
                self._filtered[check.name] = None
            at += size
        self._frontiers[number] = at

    def _release(self) -> list[Piece]:
        limit = min(self._frontiers, default=0)
        released: list[Piece] = []
        while self._held and self._released + self._held[0].size <= limit:
            piece = self._held.popleft()
            start, end = self._released, self._released + piece.size
            self._released = end
            touching = [change for change in self._changes if change.start < end and change.end > start]
            if touching:
                text = _changed(piece.text, start, touching)
                self._changes = [change for change in self._changes if change.end > end]
                piece = Piece(text, (), piece.index, piece.size)
            released.append(piece)
        return released


def _changed(text: str, start: int, changes: list[_Change]) -> str:
    """A piece's text with the changes that touch it. A change's replacement stands where the change begins; of two
    changes that overlap, the one that begins first counts for what they share."""
    out: list[str] = []
    at = start
    for change in sorted(changes):
        if change.end <= at:
            continue
        if change.start >= at:
            out.append(text[at - start : change.start - start])
            out.append(change.replacement)
        at = change.end
    out.append(text[at - start :] if at - start < len(text) else "")
    return "".join(out)


def make_pipeline(names: Sequence[str]) -> Pipeline:
    """The checks that a request names: `secrets`, `length:N`. Raises InvalidInput (`unknown_check`)."""
    return Pipeline([_make(name) for name in names])


def _make(name: str) -> Check:
    kind, _, argument = name.partition(":")
    if kind == "secrets" and not argument:
        return SecretsCheck()
    if kind == "length" and argument.isdecimal() and int(argument) > 0:
        return LengthCheck(int(argument))
    raise InvalidInput(
        f"there is no check {name!r}", code="unknown_check", hint="there are `secrets` and `length:N`", check=name
    )
