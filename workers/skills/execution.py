"""The port by which calls leave, and the two ways behind it: HTTP (executor.py) and the bus (bus_executor.py).

A manifest says which way its skill goes; whoever fires a call does not. What comes back is the same: an `Outcome`, or
an error of failures.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

import msgspec

from streams.events.intake import CallResult
from streams.events.registering import SkillManifest
from workers.skills.context import CallContext


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """A skill's answer. result: JSON text (its beginning when `cut`). size_bytes: the whole answer's size as far as it
    is known. took_ms: from `call` to the answer's end. sent_ms: from `call` until the request was written whole."""

    result: str
    status: int
    took_ms: float
    sent_ms: float
    size_bytes: int
    cut: bool = False
    attempts: int = 1


class Executor(Protocol):
    """One way to a skill."""

    async def call(
        self, manifest: SkillManifest, arguments: Mapping[str, Any], context: CallContext,
        on_sent: Callable[[], None] | None = None,
    ) -> Outcome:  # fmt: skip
        """Sends the arguments, which must be valid and without references, and gives the answer.

        on_sent: called once, when the request has left. Raises the errors of failures.py; what of the effect may have
        happened then is `failures.in_doubt`. After a cancel nobody waits for the answer, and nothing is left behind.
        """


class Warm(Executor, Protocol):
    """A way with connections that can be opened before they are needed."""

    async def warm(self, manifests: Iterable[SkillManifest], connections: int = 1) -> None:
        """Opens connections to these skills' hosts; never raises for a skill's sake."""


class Results(Executor, Protocol):
    """A way whose answers come back over the log, to whoever owns the turn by then."""

    def take(self, result: CallResult, event_id: str, signer: str, done: Callable[[], None]) -> str:
        """A result that came in; gives what became of it. See bus_executor.BusExecutor."""

    def awaits(self, result: CallResult) -> bool:
        """Whether a call waits for this result now."""

    def settled(self, turn: str, call: int) -> None:
        """The call's outcome stands in the log: the records it came from need not be read again."""

    def abandon(self, turn: str, call: int) -> None:
        """Tells the skill that nobody waits for the call any more."""

    def forget(self, turn: str) -> None:
        """The turn has ended: nothing of it is waited for."""

    def drop(self, turn: str) -> None:
        """The turn is another worker's: what came in for it is that one's to read."""


class Executors:
    """Each call the way its manifest says."""

    def __init__(self, http: Warm, bus: Results) -> None:
        self.http, self.bus = http, bus

    async def call(
        self, manifest: SkillManifest, arguments: Mapping[str, Any], context: CallContext,
        on_sent: Callable[[], None] | None = None,
    ) -> Outcome:  # fmt: skip
        """See Executor."""
        way: Executor = self.bus if manifest.bus else self.http
        return await way.call(manifest, arguments, context, on_sent)
