"""What a recorded turn's effects are when it runs again: nothing is looked up and nothing is sent.

Each effect that the turn asks for is noted; the replay brings the recorded outcome when the recording says that it
came. What a turn asks for that the recording knows nothing of gets no outcome.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from headstart.replay.turns import TurnLog
from streams.events.calling import CallFired
from streams.events.intake import CallResult
from streams.events.registering import SkillManifest
from streams.events.turn import TurnAccepted
from streams.writer import StageWriter
from workers.planning.commands import Compensate, Discover, FindApprovals, Fire, Look
from workers.planning.doing import Deliver, MakeWriter


class Clock:
    """The moment the replay is at, in milliseconds of the recording's wall clock."""

    def __init__(self) -> None:
        self.now_ms = 0.0

    def __call__(self) -> float:
        return self.now_ms


class PendingTimer:
    """A timer that was set; the replay decides when it fires."""

    def __init__(self, callback: Callable[[], None]) -> None:
        self.callback: Callable[[], None] | None = callback

    def cancel(self) -> None:
        self.callback = None


class Timers:
    """Stands in for the loop's timers: none of them fires by itself."""

    def __init__(self) -> None:
        self._set: list[PendingTimer] = []

    def __call__(self, delay_s: float, callback: Callable[[], None]) -> PendingTimer:
        self._set = [timer for timer in self._set if timer.callback is not None]
        self._set.append(timer := PendingTimer(callback))
        return timer


class RecordedManifests:
    """The skills a recording names, as an owner looks them up."""

    def __init__(self, manifests: Mapping[str, SkillManifest]) -> None:
        self._manifests = manifests

    def every(self) -> Mapping[str, SkillManifest]:
        return self._manifests


class RecordedCalls:
    """Calls as they were claimed and sent: `call.fired` is written again from what the turn wants to send now, under
    the recorded claim and time."""

    def __init__(self, turns: Mapping[str, TurnLog], writer: str, clock: Clock) -> None:
        self._turns, self._writer, self._clock = turns, writer, clock
        self.waiting: dict[tuple[str, int], tuple[Deliver, StageWriter]] = {}
        self._used: set[tuple[str, int, int]] = set()

    async def fire(self, accepted: TurnAccepted, item: Fire, make_writer: MakeWriter, deliver: Deliver) -> None:
        key = (accepted.turn, item.call)
        recorded = self._recorded(accepted.turn, item)
        epoch, was = recorded if recorded is not None else (item.claim, None)
        writer = make_writer(epoch)
        fired = CallFired(
            call=item.call, skill=item.manifest.id, arguments=item.arguments, effect=item.manifest.effect, claim=epoch,
            token=item.token, at_ms=was.at_ms if was else int(self._clock()), written=item.written, key=item.key,
            closed_to_wire_ms=was.closed_to_wire_ms if was else 0.0,
        )  # fmt: skip
        self.waiting[key] = (deliver, writer)
        _ = await writer.post(fired)

    def _recorded(self, turn: str, item: Fire) -> tuple[int, CallFired] | None:
        """The claim and the fact under which this worker sent the call then. A `pure` call goes under the claim that
        its turn gave it; the ledger may have given another a higher one."""
        log = self._turns.get(turn)
        for fact in log.of_stage.get(f"call.{item.call}", []) if log is not None else []:
            epoch = fact.identity.epoch
            fits = epoch == item.claim or (item.manifest.effect != "pure" and epoch > item.claim)
            key = (turn, item.call, epoch)
            if fits and fact.source == self._writer and isinstance(fact.event, CallFired) and key not in self._used:
                self._used.add(key)
                return epoch, fact.event
        return None

    async def compensate(self, accepted: TurnAccepted, item: Compensate) -> None:
        """Undoing is a request and no fact."""

    def result(self, result: CallResult, event_id: str, signer: str, done: Callable[[], None]) -> str:
        """Results come as the outcomes that were made of them."""
        done()
        return "recorded"

    def awaits(self, result: CallResult) -> bool:
        return False

    def abort(self, turn: str, call: int) -> None: ...

    def ended(self, turn: str) -> None: ...

    def given_away(self, turn: str) -> None: ...


class RecordedEffects:
    """The `Doing` of a replay. waiting: by turn and what was asked for (look | discover | approvals).
    deciding: facts without a turn, until the replay says that it was decided about them, and by whose policy."""

    def __init__(self, calls: RecordedCalls) -> None:
        self.calls = calls
        self.waiting: dict[tuple[str, str], Deliver] = {}
        self.deciding: dict[str, asyncio.Future[str]] = {}

    def foresee(self, accepted: TurnAccepted) -> None: ...

    def forget(self, turn: str) -> None: ...

    async def catch_up(self, accepted: TurnAccepted) -> None:
        """A recording's timers fire where they fired."""

    def decided(self, fact: str, agent: str | None) -> None:
        """It was decided about a fact by this agent's policy; None: by a turn."""
        if agent is not None and fact in self.deciding:
            self.deciding.pop(fact).set_result(agent)

    async def agent_without_turn(self, conversation: str, fact: str) -> str:
        self.deciding[fact] = asyncio.get_running_loop().create_future()
        return await self.deciding[fact]

    async def look(self, accepted: TurnAccepted, item: Look, deliver: Deliver) -> None:
        self.waiting[(accepted.turn, "look")] = deliver

    async def discover(self, accepted: TurnAccepted, item: Discover, deliver: Deliver) -> None:
        self.waiting[(accepted.turn, "discover")] = deliver

    async def find_approvals(self, accepted: TurnAccepted, item: FindApprovals, deliver: Deliver) -> None:
        self.waiting[(accepted.turn, "approvals")] = deliver
