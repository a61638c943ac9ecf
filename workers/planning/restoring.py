"""Going on where another owner stopped: a turn's machine rebuilt from its facts, and what is left to be done.

Pure. The facts of a turn suffice: its own (route, recall, skills, model calls) say how far it came, the deltas of its
plan rebuild the calls, and the calls' stages say which have an outcome.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from streams.codec import Identity
from streams.events import Event
from streams.events.calling import CallAnswered, CallFailed, CallFired
from streams.events.generating import ModelAsked
from streams.events.recalling import Recalled, SkillsDiscovered
from streams.events.registering import SkillManifest
from streams.events.routing import RouteDecided
from streams.events.turn import TurnHeartbeat
from workers.planning import approving, inflight, taking
from workers.planning.commands import Called, Command, Ended, Generated, Publish, WakeAt
from workers.planning.machine import Phase, TurnMachine
from workers.planning.model_calls import Stage, request_for

Timed = tuple[Identity, Event, float]
_PHASES: Mapping[str, Phase] = {"route": "routing", "plan": "planning", "answer": "answering"}


def restore(machine: TurnMachine, facts: Iterable[Timed], manifests: Mapping[str, SkillManifest]) -> list[Publish]:
    """Takes in the facts that count, in log order, each with its time in ms. Gives what the owner before decided but
    did not live to write, which `resume` writes first: the log is then what it would have been.

    manifests: by `name@version`, every one the facts name.
    """
    facts = list(facts)
    taking.restore(machine, (event for _, event, _ in facts))
    owed: list[Publish] = []
    for identity, event, at_ms in facts:
        if identity.stage == "turn":
            _settle(owed, event)
        if isinstance(event, RouteDecided):
            machine.take_route(event)
        elif isinstance(event, Recalled):
            machine.recalled = event
        elif isinstance(event, SkillsDiscovered):
            machine.take_skills(manifests[row.skill] for row in event.skills if row.skill in manifests)
            machine.phase = "discovering"
        elif isinstance(event, ModelAsked):
            machine.phase = _PHASES[event.step]
            request = request_for(event, machine.accepted, machine.offset, machine.agent)
            machine.stage = Stage(event.step, event.epoch, request)
        elif identity.stage in _PHASES:
            owed += _said(machine.receive(Generated(identity.stage, identity.epoch, event), at_ms))
        elif identity.stage == "turn" and approving.requests(machine):
            owed += approving.restore(machine, event, manifests, at_ms)
        elif isinstance(event, CallFired) and machine.firing is not None:
            inflight.note_fired(machine.firing, event, at_ms)
        elif isinstance(event, TurnHeartbeat) and identity.stage.startswith("call.") and machine.firing is not None:
            inflight.note_heard(machine.firing, int(identity.stage.removeprefix("call.")), at_ms)
        elif isinstance(event, CallAnswered | CallFailed):
            owed += _said(machine.receive(Called(event, identity.epoch), at_ms))
    return owed


def _said(commands: Iterable[Command]) -> list[Publish]:
    return [one for one in commands if isinstance(one, Publish) and not isinstance(one.event, TurnHeartbeat)]


def _settle(owed: list[Publish], event: Event) -> None:
    """The log has this fact: of those owed, the first of its kind about the same call or step is not owed any more."""
    for index, one in enumerate(owed):
        if type(one.event) is type(event) and _about(one.event) == _about(event):
            del owed[index]
            return


def _about(event: Event) -> object:
    return getattr(event, "call", getattr(event, "step", None))


def resume(machine: TurnMachine, now_ms: float, owed: Sequence[Publish] = ()) -> list[Command]:
    """What is left to be done: a model call in progress is watched by its lease, one that no worker began is asked
    for again, and calls in flight are left to the worker that fired them while it is heard."""
    wake: list[Command] = [WakeAt(machine.accepted.deadline_at_ms)]
    if machine.phase == "ended":
        return [*owed, Ended()]
    if machine.recalled is None or not machine.decided:
        return [*owed, *machine.look(), *wake]
    if machine.phase == "discovering" and machine.firing is None:
        machine.phase = "recalling"  # nobody wrote down what was discovered
    if machine.phase == "recalling":
        approved = inflight.adopt_all(machine.firing, now_ms) if machine.firing is not None else []
        return [*owed, *approved, *machine.after_look(now_ms), *wake]
    if machine.phase == "discovering":
        return [*owed, *machine.plan(now_ms), *wake]
    commands: list[Command] = [*owed]
    if machine.firing is not None:
        commands += machine.carry(inflight.adopt_all(machine.firing, now_ms), now_ms)
    if machine.stage is not None:
        if machine.stage.heard_at_ms < 0:
            commands += machine.reissue(machine.stage, now_ms)
        else:
            machine.stage.heard_at_ms = now_ms
    return [*commands, machine.wake()]
