"""What becomes of a request that a gateway could not take: it ends, goes to another gateway, or waits and comes again.

A request carries its `event_id`, so one that is sent again names the same turn, whether or not the first one stands in
the log. Waiting is for what passes by itself and is the same behind every gateway: nobody carries out turns at the
moment, or the database does not answer.

Pure: time and randomness are arguments.
"""

from __future__ import annotations

from typing import Final, Literal

import msgspec

from headstart.client_backoff import Backoff
from headstart.client_readers import Reader
from streams.errors import HeadstartError, PeerError

ELSEWHERE_TIMES: Final = 5  # how often a request is repeated that a gateway could not take for a reason of its own
PASSES: Final = frozenset({"no_worker", "database_unavailable"})
PAUSES: Final = Backoff(first_ms=500.0, longest_ms=5_000.0, attempts=None)
PATIENCE_MS: Final = 60_000.0  # a rolling restart, a new leader of a partition, a database that fails over

Verdict = Literal["ends", "elsewhere", "later"]


def verdict(reader: Reader, error: HeadstartError) -> Verdict:
    """What to do about this reader's refused request. Being too fast, and what was asked wrongly, ends it: that is for
    the caller to know. So does any error of a turn that has begun."""
    if reader.request is None:
        return "ends"
    if error.code in PASSES:
        return "later"
    if reader.response or reader.refusals >= ELSEWHERE_TIMES:
        return "ends"
    return "elsewhere" if error.code == "draining" or isinstance(error, PeerError) else "ends"


class Patience(msgspec.Struct, frozen=True, kw_only=True):
    """limit_ms: for how long after its first refusal a request is sent again; 0 ends it with the first."""

    limit_ms: float = PATIENCE_MS
    pauses: Backoff = PAUSES

    def wait_ms(self, times: int, since_ms: float, draw: float) -> float | None:
        """The wait after this many refusals (from 1), `since_ms` after the first; None when it is time to give up. At
        least half of the bound is waited, since whoever refused is there and would be asked in a loop. draw: uniform
        in 0..1."""
        bound_ms = self.pauses.ceiling_ms(times - 1)
        wait_ms = bound_ms * (1.0 + draw) / 2
        return wait_ms if since_ms + wait_ms <= self.limit_ms else None
