"""Services' facts between their `fact.published` and their `fact.taken`: only the latter says whether an agent's policy
has them ignored. Pure.

A fact is remembered when it is taken in, unless it is ignored. Until then it holds back where a successor begins to
read. One that nobody takes in (its owner ran a build that takes none in) is remembered after UNTAKEN_MS of the log's
own time.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import msgspec

from streams.codec import Record
from streams.events.conversation import FactPublished, FactTaken

UNTAKEN_MS: Final = 3_600_000
IGNORED: Final = "ignored"


class Waiting(msgspec.Struct, frozen=True):
    """A fact that was published. record: where."""

    event: FactPublished
    record: Record


class Published:
    """Those of one partition."""

    def __init__(self) -> None:
        self._waiting: dict[str, Waiting] = {}

    def came(self, fact: str, event: FactPublished, record: Record) -> None:
        self._waiting[fact] = Waiting(event, record)

    def taken(self, event: FactTaken) -> Waiting | None:
        """What is to be remembered of it; None when nothing is."""
        waiting = self._waiting.pop(event.fact, None)
        return waiting if event.outcome != IGNORED else None

    def overdue(self, log_time_ms: int) -> Iterator[tuple[str, Waiting]]:
        """Takes out those that nobody took in, with their ids."""
        for fact, waiting in list(self._waiting.items()):
            if waiting.record.timestamp_ms + UNTAKEN_MS >= log_time_ms:
                return  # later ones are younger
            del self._waiting[fact]
            yield fact, waiting

    def oldest(self, upto: int) -> int:
        """Where the oldest of them stands, at most `upto`."""
        first = next(iter(self._waiting.values()), None)
        return upto if first is None else min(upto, first.record.offset)
