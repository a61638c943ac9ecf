"""The port through which a turn has its effects carried out: the real ones (effects.py), or a recording's.

Each is a coroutine that a turn runs as a task of its own; what it brings back goes through `deliver`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Protocol

from streams.events.intake import CallResult
from streams.events.registering import SkillManifest
from streams.events.turn import TurnAccepted
from streams.writer import StageWriter
from workers.planning.commands import Compensate, Discover, FindApprovals, Fire, Input, Look

Deliver = Callable[[Input], None]
MakeWriter = Callable[[int], StageWriter]


class Timer(Protocol):
    def cancel(self) -> None: ...


Later = Callable[[float, Callable[[], None]], Timer]
"""Calls back after so many seconds, unless it is cancelled first."""


def by_the_loop(delay_s: float, callback: Callable[[], None]) -> Timer:
    """`Later` on the running event loop."""
    return asyncio.get_running_loop().call_later(delay_s, callback)


class Manifests(Protocol):
    """Every version of every skill by `name@version` (a SkillRegistry)."""

    def every(self) -> Mapping[str, SkillManifest]: ...


class Calls(Protocol):
    async def fire(self, accepted: TurnAccepted, item: Fire, make_writer: MakeWriter, deliver: Deliver) -> None:
        """Sends one call, writes its facts with the writer of its claim, and delivers its outcome."""

    async def compensate(self, accepted: TurnAccepted, item: Compensate) -> None:
        """Undoes a reversible call."""

    def result(self, result: CallResult, event_id: str, signer: str, done: Callable[[], None]) -> str:
        """A result that came in over the bus, for a turn that is open here; gives what became of it. done: called once
        its record need not be read again. Raises NotPermitted; done is then not called."""

    def awaits(self, result: CallResult) -> bool:
        """Whether a call waits for this result now, also of a turn that has ended."""

    def abort(self, turn: str, call: int) -> None:
        """The call does not count any more: its skill is told, where there is a way."""

    def ended(self, turn: str) -> None:
        """The turn has ended: results that still come for it count for nobody."""

    def given_away(self, turn: str) -> None:
        """Another worker owns the turn now, and its results."""


class Doing(Protocol):
    """The effects of every turn of one worker."""

    @property
    def calls(self) -> Calls: ...

    def foresee(self, accepted: TurnAccepted) -> None:
        """The turn will look: what can be begun before its `turn.accepted` is in the log."""

    def forget(self, turn: str) -> None:
        """The turn has ended."""

    async def catch_up(self, accepted: TurnAccepted) -> None:
        """Returns once everything that stands in the turn's partition by now was read: only then is silence known."""

    async def agent_without_turn(self, conversation: str, fact: str) -> str:
        """Whose policy decides about a fact that no turn can take in: the agent that took the conversation's last turn,
        "" for none. Raises PeerError while that can not be said."""

    async def look(self, accepted: TurnAccepted, item: Look, deliver: Deliver) -> None:
        """Delivers `Routed` (unless the agent is given), then `Recollected`."""

    async def discover(self, accepted: TurnAccepted, item: Discover, deliver: Deliver) -> None:
        """Delivers `Discovered`."""

    async def find_approvals(self, accepted: TurnAccepted, item: FindApprovals, deliver: Deliver) -> None:
        """Delivers `ApprovalsFound`."""
