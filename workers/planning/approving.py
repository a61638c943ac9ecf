"""A person's answer to an approval request: the successor turn carries out, or drops, what an earlier turn planned.

The earlier turn ended with `approval.asked` in its log; the answer names the request. The call is taken from there,
word for word, so that what is done is what was shown. A request is answered within its time (24 h) and once: a call of
the same key is never sent twice (calling.py), whoever approves it again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from streams.events.calling import CallClosed, CallOpened, PlanCommitted
from workers.planning.commands import ApprovalsFound, Command, Publish
from workers.planning.firing import FiringCore

if TYPE_CHECKING:
    from workers.planning.machine import TurnMachine


def requests(machine: TurnMachine) -> tuple[str, ...]:
    """The request ids that this turn's input answers."""
    return tuple(item.call_id for item in machine.accepted.input if item.kind == "approval")


def answer(machine: TurnMachine, item: ApprovalsFound, now_ms: float) -> list[Command]:
    """Sends what was approved. A request that is unknown here or expired fails the turn before anything is sent."""
    asked = {event.request: event for event in item.asked}
    answers = {entry.call_id: entry.approve for entry in machine.accepted.input if entry.kind == "approval"}
    for request in answers:
        if request not in asked or asked[request].skill not in item.manifests:
            message = "no such approval request in this conversation"
            return machine.fail("approval_unknown", message, now_ms, fault="caller")
        if asked[request].expires_at_ms < now_ms:
            return machine.fail("approval_expired", "the approval request has expired", now_ms, fault="caller")
    firing = machine.firing = FiringCore(machine.turn, {}, {}, dialect="json_list", max_calls=len(answers))
    commands: list[Command] = []
    for request, approve in answers.items():
        event = asked[request]
        call = firing.approved(item.manifests[event.skill], event.arguments, now_ms)
        at_ms = int(now_ms)
        commands.append(Publish(CallOpened(call=call.index, skill=call.skill, token=-1, at_ms=at_ms)))
        closed = CallClosed(call=call.index, skill=call.skill, arguments=event.arguments, token=-1, at_ms=at_ms)
        commands.append(Publish(closed))
        commands += [firing.send(call)] if approve else firing.void(call, "not_approved", now_ms)
    commands.insert(0, Publish(PlanCommitted(calls=len(answers), tokens=0, at_ms=int(now_ms))))
    machine.phase = "calling"
    return machine.carry(commands, now_ms)
