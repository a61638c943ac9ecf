"""The effects of a turn that runs again with a live model: the past from the recording, skills from it too.

What a turn asks of a skill is answered by the recorded result of the same skill with the same arguments, after as
long as it took. What the recording has no result for is asked of the skill itself only where that was allowed and the
skill is `pure`; whatever could have an effect is never sent, and fails as `not_replayed`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

import msgspec

from headstart.replay.inputs import first_of
from headstart.replay.turns import TurnLog
from streams.errors import HeadstartError, NotFound
from streams.events.calling import ApprovalAsked, CallAnswered, CallFailed, CallFired
from streams.events.intake import CallResult
from streams.events.recalling import Recalled, SkillsDiscovered
from streams.events.registering import SkillManifest
from streams.events.routing import RouteDecided
from streams.events.turn import TurnAccepted
from workers.planning.commands import (
    ApprovalsFound,
    Called,
    Compensate,
    Discover,
    Discovered,
    FindApprovals,
    Fire,
    Look,
    Recollected,
    Routed,
)
from workers.planning.doing import Deliver, MakeWriter
from workers.skills.context import CallContext
from workers.skills.execution import Executor

Outcome = CallAnswered | CallFailed


class RecordedOutcomes:
    """What came of a turn's calls, by skill and arguments. Each is given as often as it is asked for."""

    def __init__(self, turn: TurnLog) -> None:
        self._outcomes: dict[str, Outcome] = {}
        sent: dict[tuple[int, int], CallFired] = {}
        for fact in turn.facts:
            if isinstance(fact.event, CallFired):
                sent[(fact.event.call, fact.identity.epoch)] = fact.event
            elif isinstance(fact.event, CallAnswered | CallFailed):
                fired = sent.get((fact.event.call, fact.identity.epoch))
                if fired is not None:
                    self._outcomes[_key(fired.skill, fired.arguments)] = fact.event

    def of(self, item: Fire) -> Outcome | None:
        return self._outcomes.get(_key(item.manifest.id, item.arguments))


class ShadowCalls:
    """executor: for `pure` skills that the recording has no result of; None: nobody is asked."""

    def __init__(self, turn: TurnLog, clock_ms: Callable[[], float], executor: Executor | None) -> None:
        self._recorded, self._clock_ms, self._executor = RecordedOutcomes(turn), clock_ms, executor

    async def fire(self, accepted: TurnAccepted, item: Fire, make_writer: MakeWriter, deliver: Deliver) -> None:
        writer, now_ms = make_writer(item.claim), self._clock_ms()
        fired = CallFired(
            call=item.call, skill=item.manifest.id, arguments=item.arguments, effect=item.manifest.effect,
            claim=item.claim, token=item.token, at_ms=int(now_ms), written=item.written, key=item.key,
        )  # fmt: skip
        _ = await writer.post(fired)
        outcome = await self._outcome(accepted, item)
        deliver(Called(outcome, item.claim))
        _ = await writer.post(outcome)

    async def _outcome(self, accepted: TurnAccepted, item: Fire) -> Outcome:
        recorded = self._recorded.of(item)
        if recorded is not None:
            await asyncio.sleep(recorded.took_ms / 1000)
            return msgspec.structs.replace(recorded, call=item.call, at_ms=int(self._clock_ms()))
        if self._executor is not None and item.manifest.effect == "pure":
            return await self._live(accepted, item, self._executor)
        code = "not_recorded" if item.manifest.effect == "pure" else "not_replayed"
        message = "the recording has no result of this call"
        return CallFailed(call=item.call, code=code, message=message, at_ms=int(self._clock_ms()))

    async def _live(self, accepted: TurnAccepted, item: Fire, executor: Executor) -> Outcome:
        context = CallContext(
            turn=accepted.turn, call=item.call, claim=item.claim, key=item.key, tenant=accepted.tenant,
            user=accepted.user, locale=accepted.options.locale, conversation=accepted.conversation,
        )  # fmt: skip
        try:
            outcome = await executor.call(item.manifest, item.arguments, context)
        except HeadstartError as error:
            return CallFailed(call=item.call, code=error.code, message=error.message, at_ms=int(self._clock_ms()))
        return CallAnswered(
            call=item.call, result=outcome.result, status=outcome.status, took_ms=outcome.took_ms,
            at_ms=int(self._clock_ms()), size_bytes=outcome.size_bytes, cut=outcome.cut, attempts=outcome.attempts,
        )  # fmt: skip

    async def compensate(self, accepted: TurnAccepted, item: Compensate) -> None:
        """Nothing was done, so there is nothing to undo."""

    def result(self, result: CallResult, event_id: str, signer: str, done: Callable[[], None]) -> str:
        raise NotFound("nobody is asked over the bus in a replay")

    def awaits(self, result: CallResult) -> bool:
        return False

    def abort(self, turn: str, call: int) -> None: ...

    def ended(self, turn: str) -> None: ...

    def given_away(self, turn: str) -> None: ...


class ShadowEffects:
    """The `Doing` of one turn. asked: the approval requests of its conversation."""

    def __init__(
        self, turn: TurnLog, manifests: Mapping[str, SkillManifest], asked: tuple[ApprovalAsked, ...],
        calls: ShadowCalls, clock_ms: Callable[[], float],
    ) -> None:  # fmt: skip
        self.calls = calls
        self._turn, self._manifests, self._asked, self._clock_ms = turn, manifests, asked, clock_ms

    def foresee(self, accepted: TurnAccepted) -> None: ...

    def forget(self, turn: str) -> None: ...

    async def catch_up(self, accepted: TurnAccepted) -> None:
        """One owner on one bus in memory has read what there is."""

    async def agent_without_turn(self, conversation: str, fact: str) -> str:
        """Facts are told to the turn of the recording, and not to its shadow."""
        return ""

    async def look(self, accepted: TurnAccepted, item: Look, deliver: Deliver) -> None:
        if not item.agent:
            decided = first_of(self._turn, RouteDecided)
            agent, scores = (decided.agent, decided.scores) if decided is not None else ("", ())
            verdict = "sure" if agent else "out_of_scope"
            deliver(Routed(agent=agent, verdict=verdict, scores=scores, took_ms=decided.took_ms if decided else 0.0))
        recalled = first_of(self._turn, Recalled)
        deliver(Recollected(recalled or Recalled(items=(), history=(), at_ms=int(self._clock_ms()))))

    async def discover(self, accepted: TurnAccepted, item: Discover, deliver: Deliver) -> None:
        found = first_of(self._turn, SkillsDiscovered) or SkillsDiscovered(skills=(), at_ms=int(self._clock_ms()))
        deliver(Discovered(found, tuple(self._manifests[row.skill] for row in found.skills)))

    async def find_approvals(self, accepted: TurnAccepted, item: FindApprovals, deliver: Deliver) -> None:
        asked = tuple(event for event in self._asked if event.request in item.requests)
        deliver(ApprovalsFound(asked, {event.skill: self._manifests[event.skill] for event in asked}))


def _key(skill: str, arguments: Mapping[str, object]) -> str:
    return f"{skill} {msgspec.json.encode(dict(arguments), order='deterministic').decode()}"
