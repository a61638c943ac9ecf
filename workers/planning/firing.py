"""Fired before it is finished: decides, while a plan is still being written, which call goes out and when.

The parser's facts come in, events and `Fire`s go out. Rules, each at its branch below:

  * An argument is validated the moment it closes; a wrong one voids its call at once.
  * `pure` and `reversible` fire when every parameter in `fire_on` is closed and every reference among the arguments
    so far (`$0.items[0].id`) has its result. Nothing is fired on a value that may still grow.
  * An argument that closes after the firing and changes the request (it differs from the schema's default) voids the
    call; it goes again, once, when the call is written whole. Results of the first firing are dropped.
  * `irreversible` waits until its call is closed and the plan is committed (finished with "stop"); with `approval` it
    is never fired by this turn but asked for.
  * The same skill with the same arguments is sent, or asked a person for, once: the other call adopts its outcome. When
    that outcome ceases to count, the adopter goes by itself.
  * A plan cut off by the length limit fires nothing whose needed values were not closed.

When a plan is generated anew (a worker died), its calls get new numbers, adopt what the old plan had fired, and what
they do not adopt is voided when the new plan ends.

Pure. Cost: O(text) for parsing plus O(calls) per closed argument; calls are limited (`max_calls`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from streams import ids
from streams.errors import HeadstartError
from streams.events.calling import (
    ApprovalAsked,
    CallAnswered,
    CallArguments,
    CallClosed,
    CallFailed,
    CallOpened,
    CallVoided,
    PlanCommitted,
    PlanRepaired,
)
from streams.events.registering import SkillManifest
from workers.planning.commands import AbortCall, Compensate, Fire, Publish
from workers.planning.planned_call import PlannedCall
from workers.skills import references
from workers.skills.manifest import validate_argument, validate_arguments
from workers.skills.parameters import fire_on
from workers.toolcalls import facts
from workers.toolcalls.parser import Parser

APPROVAL_EXPIRES_MS: Final = 24 * 3_600_000
Decision = Publish | Fire | AbortCall | Compensate


class FiringCore:
    """All calls of one turn. `epoch` is that of the plan being read."""

    def __init__(
        self, turn: str, skills: Mapping[str, SkillManifest], client_tools: Mapping[str, Any], *, dialect: str,
        max_calls: int,
    ) -> None:  # fmt: skip
        self.turn = turn
        self.calls: list[PlannedCall] = []
        self.committed = self.finished = False
        self.text = ""
        self.token = -1
        self._skills = skills
        self._client_tools = client_tools
        self._dialect = dialect
        self._max_calls = max_calls
        self._base = 0
        self._committed_at_ms = -1.0
        self._parser = self._new_parser()

    def _new_parser(self) -> Parser:
        known: dict[str, Any] = {name: manifest.parameters for name, manifest in self._skills.items()}
        known |= self._client_tools
        return Parser(self._dialect, mode="repair", skills=known, string_parts=False)

    # -- the plan's text -------------------------------------------------------------------------------------------

    def restart(self) -> None:
        """A new plan is being written (its worker died): what follows belongs to it."""
        self._base = len(self.calls)
        self._parser = self._new_parser()
        self.finished = self.committed = False
        self.token = -1
        self.text = ""

    def feed(self, text: str, token_ids: tuple[int, ...], token: int, now_ms: float) -> list[Decision]:
        """More of the plan. token: index of the newest token in it."""
        self.token = token
        return self._take(self._parser.feed(text, token_ids), now_ms)

    def finish(self, reason: str, now_ms: float) -> list[Decision]:
        """The plan ended. "stop" commits it; anything else leaves only what was closed."""
        decisions = self._take(self._parser.finish(reason), now_ms)
        self.finished = True
        for call in self.calls[self._base :]:
            if call.standing and not call.closed:
                decisions += self.void(call, "cut_off", now_ms)
            elif call.state == "writing" and reason != "stop" and call.effect == "irreversible":
                decisions += self.void(call, "cut_off", now_ms)  # its plan is never committed
        for call in self.calls[: self._base]:  # an earlier plan's calls that nobody adopted
            if call.standing and not any(other.standing and other.adopts == call.index for other in self.calls):
                decisions += self.void(call, "replanned", now_ms)
        self.committed, self._committed_at_ms = reason == "stop", now_ms
        if self.committed:
            standing = sum(call.standing for call in self.calls)
            decisions.append(Publish(PlanCommitted(calls=standing, tokens=self.token + 1, at_ms=int(now_ms))))
        for call in self.calls:
            decisions += self._consider(call, now_ms)
        return decisions

    def _take(self, parsed: list[facts.Fact], now_ms: float) -> list[Decision]:
        decisions: list[Decision] = []
        for fact in parsed:
            if isinstance(fact, facts.ArgumentsDelta):
                if self.calls[self._base + fact.call].standing:
                    decisions.append(Publish(CallArguments(call=self._base + fact.call, text=fact.text)))
            elif isinstance(fact, facts.ArgumentClosed):
                if len(fact.path) == 1:
                    decisions += self._argument(
                        self.calls[self._base + fact.call], str(fact.path[0]), fact.value, now_ms
                    )
            elif isinstance(fact, facts.CallOpened):
                decisions += self._open(fact.name, now_ms)
            elif isinstance(fact, facts.CallClosed):
                decisions += self._close(self.calls[self._base + fact.call], fact.arguments, now_ms)
            elif isinstance(fact, facts.CallVoided):
                call = self.calls[self._base + fact.call]
                if call.standing:
                    decisions += self.void(call, fact.reason, now_ms)
            elif isinstance(fact, facts.Repaired):
                number = -1 if fact.call is None else self._base + fact.call
                if 0 <= number < len(self.calls):
                    self.calls[number].repairs.append(fact.rule)
                decisions.append(Publish(PlanRepaired(rule=fact.rule, position=fact.position, call=number)))
            elif isinstance(fact, facts.Text):
                self.text += fact.text
        return decisions

    # -- one call --------------------------------------------------------------------------------------------------

    def _open(self, name: str, now_ms: float) -> list[Decision]:
        manifest = self._skills.get(name)
        client = manifest is None and name in self._client_tools
        call = PlannedCall(
            index=len(self.calls), skill=manifest.id if manifest else name, manifest=manifest,
            state="client" if client else "writing", opened_token=self.token, opened_at_ms=now_ms,
        )  # fmt: skip
        self.calls.append(call)
        opened = CallOpened(call=call.index, skill=call.skill, token=self.token, at_ms=int(now_ms), client=client)
        decisions: list[Decision] = [Publish(opened)]
        if manifest is None and not client:
            decisions += self.void(call, "unknown_skill", now_ms)
        elif call.index - self._base >= self._max_calls:
            decisions += self.void(call, "too_many_calls", now_ms)
        return decisions

    def _argument(self, call: PlannedCall, name: str, value: Any, now_ms: float) -> list[Decision]:
        if call.state == "voided":
            return []
        if call.manifest is None:
            call.arguments[name] = value
            return []
        try:
            validate_argument(call.manifest, name, value, call.index - self._base)
        except HeadstartError as error:
            return self.void(call, error.code, now_ms)
        call.arguments[name] = value
        call.needed_at_ms = now_ms if call.sent is None else call.needed_at_ms
        if call.sent is not None and self._changes(call, name, value):
            return self._void_to_refire(call, now_ms)
        return self._consider(call, now_ms)

    def _changes(self, call: PlannedCall, name: str, value: Any) -> bool:
        """Whether an argument that closed late makes another request than the one that left."""
        assert call.manifest is not None
        if name in call.asked:
            return bool(call.asked[name] != value)
        default = call.manifest.parameters.get("properties", {}).get(name, {}).get("default", _NOTHING)
        return bool(default != value)

    def _close(self, call: PlannedCall, arguments: dict[str, Any], now_ms: float) -> list[Decision]:
        if not call.standing:
            return []
        call.closed, call.closed_at_ms, call.closed_token = True, now_ms, self.token
        call.arguments = arguments
        closed = CallClosed(
            call=call.index, skill=call.skill, arguments=arguments, token=self.token, at_ms=int(now_ms),
            repairs=tuple(call.repairs),
        )  # fmt: skip
        decisions: list[Decision] = [Publish(closed)]
        if call.manifest is None:
            return decisions
        try:
            validate_arguments(call.manifest, arguments)
        except HeadstartError as error:
            return decisions + self.void(call, error.code, now_ms)
        if call.state == "writing" and call.needed_at_ms < 0:
            call.needed_at_ms = now_ms
        return decisions + self._consider(call, now_ms)

    def _consider(self, call: PlannedCall, now_ms: float) -> list[Decision]:
        """Fire the call if everything it waits for is there."""
        if call.state != "writing" or call.manifest is None or call.adopts >= 0:
            return []
        manifest, needed_names = call.manifest, fire_on(call.manifest)
        if manifest.effect == "irreversible":
            if not (call.closed and self.committed):
                return []
        elif call.claim > 0 and not call.closed:
            return []  # a refire waits for the whole call: it happens once
        elif not call.closed and not (needed_names and all(name in call.arguments for name in needed_names)):
            return []  # where everything is optional, only the close says what was meant
        number = call.index - self._base
        try:
            found = references.find(call.arguments, number)
            call.after = tuple(sorted({reference.call + self._base for reference in found}))
            needed = [self.calls[index] for index in call.after]
            if any(other.state in ("failed", "voided", "client", "approval") for other in needed):
                return self.void(call, "reference_failed", now_ms)
            if not all(other.state == "answered" for other in needed):
                return []
            results = {index - self._base: self.calls[index].result for index in call.after}
            arguments = references.resolve(call.arguments, results, number)
            for name in {str(reference.argument[0]) for reference in found}:
                validate_argument(manifest, name, arguments[name], 0)
        except HeadstartError as error:
            return self.void(call, error.code, now_ms)
        if call.claim > 0 or not needed_names:  # it had to be written whole, and an irreversible one committed
            committed_at_ms = self._committed_at_ms if manifest.effect == "irreversible" else -1
            call.needed_at_ms = max(call.closed_at_ms, committed_at_ms)
        if needed:
            call.needed_at_ms = max(call.needed_at_ms, *(other.ended_at_ms for other in needed))
        twin = self._twin(call, arguments)
        if twin is not None:
            return self._adopt(call, twin, now_ms)
        if manifest.effect == "irreversible" and manifest.approval:
            call.state, call.sent = "approval", arguments
            asked = ApprovalAsked(
                call=call.index, skill=call.skill, arguments=arguments, at_ms=int(now_ms),
                request=ids.item_id("mcpr", self.turn, call.index), expires_at_ms=int(now_ms) + APPROVAL_EXPIRES_MS,
            )  # fmt: skip
            return [Publish(asked)]
        call.claim += 1
        call.first_claim = call.claim
        call.asked, call.sent = dict(call.arguments), arguments
        call.state = "fired"
        call.fired_token, call.fired_at_ms = self.token, now_ms
        return [self.send(call)]

    def send(self, call: PlannedCall) -> Fire:
        """The request of a call that may go."""
        assert call.manifest is not None
        arguments = call.sent or {}
        asking = call.approval[0] if call.approval is not None else self.turn
        return Fire(
            call=call.index, claim=call.claim, manifest=call.manifest, arguments=arguments, token=self.token,
            key=ids.digest_hex("call", asking, call.manifest.id, _canonical(arguments))[:32],
            written=not call.closed, closed_at_ms=call.needed_at_ms, approval=call.approval,
        )  # fmt: skip

    def _twin(self, call: PlannedCall, arguments: dict[str, Any]) -> PlannedCall | None:
        """The call that already is this request. It may stand behind this one, which waited for a result."""
        for other in self.calls:
            if other.skill == call.skill and other.sent == arguments and other.adopts < 0 and other.state in _SENT:
                return other
        return None

    def _adopt(self, call: PlannedCall, twin: PlannedCall, now_ms: float) -> list[Decision]:
        call.adopts, call.sent, call.state = twin.index, twin.sent, "fired"
        call.fired_token, call.fired_at_ms = twin.fired_token, twin.fired_at_ms
        return self._settle_adopted(twin, now_ms) if twin.state != "fired" else []

    def void(self, call: PlannedCall, reason: str, now_ms: float) -> list[Decision]:
        decisions: list[Decision] = [Publish(CallVoided(call=call.index, reason=reason, at_ms=int(now_ms)))]
        if call.state == "fired" and call.adopts < 0:
            decisions.append(AbortCall(call.index))
            call.in_doubt = call.effect == "irreversible"  # the request may have done its work before it was stopped
        decisions += self._compensation(call)
        call.state, call.ended_at_ms, call.result = "voided", now_ms, ""
        for other in self.calls:  # whatever waited for its result waits in vain
            if other.state == "writing" and call.index in other.after:
                decisions += self.void(other, "reference_failed", now_ms)
        return decisions + self._release(call, now_ms)

    def _release(self, twin: PlannedCall, now_ms: float) -> list[Decision]:
        """Its outcome will not come, or was undone: calls that shared it go by themselves."""
        decisions: list[Decision] = []
        undone = ("fired", "answered") if twin.effect == "reversible" else ("fired",)
        for other in self.calls:
            if other.adopts == twin.index and other.state in undone:
                other.adopts, other.sent, other.state, other.result = -1, None, "writing", ""
                decisions += self._consider(other, now_ms)
        return decisions

    def _void_to_refire(self, call: PlannedCall, now_ms: float) -> list[Decision]:
        voided = CallVoided(call=call.index, reason="late_argument", at_ms=int(now_ms), refire=True)
        decisions: list[Decision] = [Publish(voided)]
        if call.state == "fired" and call.adopts < 0:
            decisions.append(AbortCall(call.index))
        decisions += self._compensation(call)
        call.state, call.sent, call.adopts, call.result = "writing", None, -1, ""
        return decisions + self._release(call, now_ms)

    def _compensation(self, call: PlannedCall) -> list[Decision]:
        manifest = call.manifest
        if manifest is None or manifest.effect != "reversible" or call.sent is None or call.adopts >= 0:
            return []
        return [Compensate(call=call.index, manifest=manifest, arguments=call.sent, result=call.result)]

    # -- outcomes --------------------------------------------------------------------------------------------------

    def outcome(self, event: CallAnswered | CallFailed, claim: int, now_ms: float) -> list[Decision]:
        """A skill answered or failed. Dropped when the call was voided since, also if it went again with other
        arguments; an answer to an earlier attempt with the same ones counts."""
        call = self.calls[event.call]
        if call.state != "fired" or call.adopts >= 0 or not call.first_claim <= claim <= call.claim:
            return []
        call.ended_at_ms = now_ms
        if isinstance(event, CallAnswered):
            call.state, call.result = "answered", event.result
        else:
            call.state, call.in_doubt = "failed", event.in_doubt
        decisions = self._settle_adopted(call, now_ms)
        for other in self.calls:
            decisions += self._consider(other, now_ms)
        return decisions

    def _settle_adopted(self, twin: PlannedCall, now_ms: float) -> list[Decision]:
        for other in self.calls:
            if other.adopts == twin.index and other.state == "fired":
                other.state, other.result, other.ended_at_ms = twin.state, twin.result, now_ms
        return []

    def cancel(self, now_ms: float) -> list[Decision]:
        """The turn ends early: abort what is in flight, undo what can be undone."""
        decisions: list[Decision] = []
        for call in sorted(self.calls, key=lambda one: one.adopts < 0):  # those that share first: none goes by itself
            if call.state in ("writing", "fired"):
                decisions += self.void(call, "cancelled", now_ms)
            elif call.state == "answered":
                decisions += self._compensation(call)
        return decisions

    @property
    def pending(self) -> bool:
        """Some standing call still waits for an outcome."""
        return any(call.waiting for call in self.calls)


_NOTHING: Final = object()
_SENT: Final = frozenset({"fired", "answered", "failed", "approval"})


def _canonical(value: Any) -> str:
    return msgspec.json.encode(value, order="deterministic").decode()


__all__ = ["Decision", "FiringCore"]
