"""A person's answer to an approval request: the successor turn carries out, or drops, what an earlier turn planned.

The earlier turn ended with `approval.asked` in its log; the answer names the request. The call is taken from there,
word for word, so that what is done is what was shown. A request is answered within its time (24 h) and carried out
once: its claim in the ledger stands under the turn and the call that asked, so an answer that is given again, in
another turn or on another device, finds it taken (`approval_used`). What was not approved is voided and never sent.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from streams import ids
from streams.events import Event
from streams.events.calling import CallClosed, CallOpened, CallVoided, PlanCommitted
from streams.events.registering import SkillManifest
from workers.planning.commands import ApprovalsFound, Command, Publish
from workers.planning.firing import FiringCore
from workers.planning.planned_call import PlannedCall

if TYPE_CHECKING:
    from workers.planning.machine import TurnMachine


def requests(machine: TurnMachine) -> tuple[str, ...]:
    """The request ids that this turn's input answers, each once."""
    return tuple(_answers(machine))


def asking_call(request: str) -> tuple[str, int] | None:
    """The turn and the call that a request id names; None when it is not one."""
    body = request.partition("_")[2]
    turn, number = f"{ids.TURN}_{body[:-2]}", body[-2:]
    if not ids.is_id(ids.TURN, turn) or not set(number) <= set("0123456789abcdef"):
        return None
    return turn, int(number, 16)


def answer(machine: TurnMachine, item: ApprovalsFound, now_ms: float) -> list[Command]:
    """Sends what was approved. A request that is unknown here or expired fails the turn before anything is sent.

    An owner before may have come part of the way: what the log has is not written again.
    """
    asked = {event.request: event for event in item.asked}
    answers = _answers(machine)
    for request in answers:
        if request not in asked or asked[request].skill not in item.manifests:
            message = "no such approval request in this conversation"
            return machine.fail("approval_unknown", message, now_ms, fault="caller")
        if asked[request].expires_at_ms < machine.accepted.at_ms:
            return machine.fail("approval_expired", "the approval request has expired", now_ms, fault="caller")
    at_ms = int(now_ms)
    commands: list[Command] = []
    if machine.firing is None:
        machine.firing = _firing(machine)
        commands.append(Publish(PlanCommitted(calls=len(answers), tokens=0, at_ms=at_ms)))
    firing = machine.firing
    for index, (request, approve) in enumerate(answers.items()):
        event = asked[request]
        if index == len(firing.calls):
            commands.append(Publish(CallOpened(call=index, skill=event.skill, token=-1, at_ms=at_ms)))
            firing.calls.append(_opened(index, event.skill, now_ms))
        call = firing.calls[index]
        if call.closed:
            continue
        commands.append(
            Publish(CallClosed(call=index, skill=call.skill, arguments=event.arguments, token=-1, at_ms=at_ms))
        )
        _close(call, request, approve, item.manifests[event.skill], event.arguments, now_ms)
        commands += [firing.send(call)] if approve else firing.void(call, "not_approved", now_ms)
    machine.phase = "calling"
    return machine.carry(commands, now_ms)


def restore(machine: TurnMachine, event: Event, manifests: Mapping[str, SkillManifest], at_ms: float) -> list[Publish]:
    """Takes in one fact of stage "turn" of a turn that answers requests. Gives the fact that follows from it, which
    its owner owed: a call that was not approved is void."""
    if isinstance(event, PlanCommitted):
        machine.firing = _firing(machine)
    elif isinstance(event, CallOpened) and machine.firing is not None:
        machine.firing.calls.append(_opened(event.call, event.skill, at_ms))
    elif isinstance(event, CallClosed) and machine.firing is not None:
        request, approve = list(_answers(machine).items())[event.call]
        call = machine.firing.calls[event.call]
        _close(call, request, approve, manifests[event.skill], event.arguments, at_ms)
        if len(machine.firing.calls) == len(_answers(machine)):
            machine.phase = "calling"
        if not approve:
            call.state = "voided"
            return [Publish(CallVoided(call=call.index, reason="not_approved", at_ms=int(at_ms)))]
    return []


def _answers(machine: TurnMachine) -> dict[str, bool]:
    return {entry.call_id: entry.approve for entry in machine.accepted.input if entry.kind == "approval"}


def _firing(machine: TurnMachine) -> FiringCore:
    firing = FiringCore(machine.turn, {}, {}, dialect="json_list", max_calls=len(_answers(machine)))
    firing.finished = firing.committed = True
    return firing


def _opened(index: int, skill: str, now_ms: float) -> PlannedCall:
    return PlannedCall(index=index, skill=skill, manifest=None, opened_at_ms=now_ms)


def _close(
    call: PlannedCall, request: str, approve: bool, manifest: SkillManifest, arguments: dict[str, Any], now_ms: float
) -> None:
    """The call is whole and committed; approved, it is as good as fired."""
    call.manifest, call.arguments, call.closed = manifest, arguments, True
    call.needed_at_ms = call.closed_at_ms = now_ms
    call.approval = asking_call(request)
    if approve:
        call.asked = call.sent = arguments
        call.claim = call.first_claim = 1
        call.state, call.fired_at_ms = "fired", now_ms


__all__ = ["answer", "asking_call", "requests", "restore"]
