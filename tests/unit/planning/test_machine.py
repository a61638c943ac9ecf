"""The turn as a state machine: fed and drained, no clock, no loop."""

from __future__ import annotations

from typing import Any

import pytest

from streams import ids
from streams.codec import Identity
from streams.events import Event, InputItem, Usage
from streams.events.calling import (
    CallAnswered,
    CallClosed,
    CallFired,
    CallOpened,
    PlanCommitted,
)
from streams.events.generating import (
    AnswerDelta,
    AnswerFinished,
    AnswerStarted,
    ModelAsked,
    PlanDelta,
    PlanFinished,
    PlanStarted,
)
from streams.events.recalling import DiscoveredSkill, Recalled, SkillsDiscovered
from streams.events.registering import SkillManifest
from streams.events.routing import AgentScore, RouteDecided
from streams.events.turn import TERMINAL, TurnAccepted, TurnCancelled, TurnCompleted, TurnFailed, TurnIncomplete
from streams.models import ModelSpec
from workers.agents.catalog import load_all
from workers.planning.commands import (
    AbortCall,
    AbortGeneration,
    Called,
    Cancelled,
    Command,
    Discover,
    Discovered,
    Ended,
    Fire,
    Generate,
    Generated,
    Look,
    Publish,
    Recollected,
    Routed,
    Tick,
)
from workers.planning.leases import LEASE_MS
from workers.planning.machine import Setup, TurnMachine
from workers.planning.restoring import restore, resume

T0 = 1_700_000_000_000
CONVERSATION = ids.conversation_id(3, T0, bytes(range(16)))
TURN = ids.turn_id(CONVERSATION, T0, bytes(range(16)))
AGENTS = load_all()
SETUP = Setup(agents=AGENTS, models={"default": ModelSpec(engine="scripted")})


def text(name: str) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {name: {"type": "string"}},
        "required": [name],
        "additionalProperties": False,
    }


def manifest(name: str, parameter: str, **more: Any) -> SkillManifest:
    return SkillManifest(
        name=name, version="1", description=name, parameters=text(parameter), owner="test",
        url="http://127.0.0.1:1/", hosts=("127.0.0.1:1",), **more,
    )  # fmt: skip


PEOPLE = manifest("search_people", "title")
WEATHER = manifest("get_weather", "city")
MESSAGE = manifest("send_message", "text", effect="irreversible")


class Turn:
    """Drives a machine and keeps what it said."""

    def __init__(self, machine: TurnMachine | None = None, **options: Any) -> None:
        accepted = TurnAccepted(
            turn=TURN, conversation=CONVERSATION, tenant="acme", user="ada",
            input=(InputItem(text="Find nurses in Rome"),), at_ms=T0, deadline_at_ms=T0 + 60_000, **options,
        )  # fmt: skip
        self.machine = machine or TurnMachine(accepted, 7, SETUP)
        self.now = float(T0)
        self.commands: list[Command] = []
        self.index = 0

    def take(self, commands: list[Command]) -> list[Command]:
        self.commands += commands
        return commands

    def feed(self, item: Any, after_ms: float = 1) -> list[Command]:
        self.now += after_ms
        return self.take(self.machine.receive(item, self.now))

    def to_plan(self, *manifests: SkillManifest, agent: str = "recruiter") -> None:
        self.take(self.machine.begin(None, self.now))
        self.feed(Routed(agent=agent, verdict="sure", scores=[AgentScore(agent, 0.9)], took_ms=1))
        self.feed(Recollected(Recalled(items=(), history=(), at_ms=int(self.now))))
        found = tuple(DiscoveredSkill(row.id, 0.5) for row in manifests)
        self.feed(Discovered(SkillsDiscovered(skills=found, at_ms=int(self.now)), manifests))
        self.generated(PlanStarted(model="default", engine="scripted", at_ms=int(self.now)))

    def generated(self, event: Event, step: str = "plan", epoch: int = 1) -> list[Command]:
        return self.feed(Generated(step, epoch, event))

    def write(self, plan: str) -> list[Command]:
        self.index += 1
        return self.generated(PlanDelta(text=plan, index=self.index - 1, ids=(self.index,)))

    def finish(self, reason: str = "stop") -> list[Command]:
        return self.generated(PlanFinished(reason=reason, usage=Usage(prompt=5, completion=9), at_ms=int(self.now)))

    def answer(self) -> None:
        self.generated(AnswerStarted(model="default", engine="scripted", at_ms=int(self.now)), "answer")
        self.generated(AnswerDelta(text="Done.", index=0, ids=(1,)), "answer")
        self.generated(
            AnswerFinished(reason="stop", usage=Usage(prompt=5, completion=1), at_ms=int(self.now)), "answer"
        )

    def answered(self, call: int, result: str = "{}", claim: int = 1, after_ms: float = 10) -> list[Command]:
        event = CallAnswered(call=call, result=result, status=200, took_ms=after_ms, at_ms=int(self.now))
        return self.feed(Called(event, claim), after_ms)

    def said(self, *kinds: type[Event]) -> list[Event]:
        return [c.event for c in self.commands if isinstance(c, Publish) and (not kinds or isinstance(c.event, kinds))]

    def phase(self) -> str:
        return self.machine.phase

    def fires(self) -> list[Fire]:
        return [command for command in self.commands if isinstance(command, Fire)]


def test_a_turn_with_two_calls_goes_the_whole_way() -> None:
    turn = Turn()
    turn.to_plan(PEOPLE, WEATHER)
    assert [type(event) for event in turn.said()] == [RouteDecided, Recalled, SkillsDiscovered, ModelAsked]
    turn.write('[{"name": "search_people", "arguments": {"title": "nurse')
    assert turn.fires() == []  # "nurse" may still become "nursery": the string is not closed
    turn.write('"}}, {"name": "get_weather", "arguments": {"city": "Rome"}}')
    turn.write("]")
    turn.finish()
    assert [fire.manifest.name for fire in turn.fires()] == ["search_people", "get_weather"]
    turn.answered(0)
    turn.answered(1)
    asked = turn.said(ModelAsked)
    assert [event.step for event in asked if isinstance(event, ModelAsked)] == ["plan", "answer"]
    turn.answer()
    assert [type(event) for event in turn.said(*TERMINAL)] == [TurnCompleted]
    assert isinstance(turn.commands[-1], Ended)


def test_a_call_fires_before_the_plan_is_finished() -> None:
    turn = Turn()
    turn.to_plan(PEOPLE, WEATHER)
    turn.write('[{"name": "search_people", "arguments": {"title": "nurse"}')
    [fire] = turn.fires()
    assert fire.arguments == {"title": "nurse"}
    assert fire.written
    assert turn.said(CallOpened)
    assert not turn.said(CallClosed)


def test_an_irreversible_call_waits_for_the_committed_plan() -> None:
    turn = Turn()
    turn.to_plan(MESSAGE)
    turn.write('[{"name": "send_message", "arguments": {"text": "hi"}}]')
    assert turn.fires() == []
    commands = turn.finish()
    published = [type(command.event) for command in commands if isinstance(command, Publish)]
    assert published[-1] is PlanCommitted
    assert [fire.arguments for fire in turn.fires()] == [{"text": "hi"}]


def test_a_plan_cut_off_fires_nothing_irreversible() -> None:
    turn = Turn()
    turn.to_plan(MESSAGE)
    turn.write('[{"name": "send_message", "arguments": {"text": "hi"}}')
    turn.finish("length")
    assert turn.fires() == []


def test_the_same_call_twice_is_asked_once() -> None:
    turn = Turn()
    turn.to_plan(WEATHER)
    call = '{"name": "get_weather", "arguments": {"city": "Rome"}}'
    turn.write(f"[{call}, {call}]")
    turn.finish()
    assert len(turn.fires()) == 1
    turn.answered(0, '{"sky":"clear"}')
    assert turn.machine.firing is not None
    assert turn.machine.firing.calls[1].result == '{"sky":"clear"}'
    assert turn.machine.phase == "answering"


def test_a_reference_waits_for_its_result() -> None:
    turn = Turn()
    turn.to_plan(PEOPLE, WEATHER)
    turn.write('[{"name": "search_people", "arguments": {"title": "nurse"}}, ')
    turn.write('{"name": "get_weather", "arguments": {"city": "$1.people[0].city"}}]')
    turn.finish()
    assert len(turn.fires()) == 1
    turn.answered(0, '{"people":[{"city":"Rome"}]}')
    assert [fire.arguments for fire in turn.fires()] == [{"title": "nurse"}, {"city": "Rome"}]


def test_a_late_optional_argument_voids_and_refires_once() -> None:
    parameters = {
        "type": "object",
        "properties": {"city": {"type": "string"}, "day": {"type": "string", "default": "today"}},
        "required": ["city"],
    }
    weather = SkillManifest(
        name="get_weather", version="1", description="w", parameters=parameters, owner="test",
        url="http://127.0.0.1:1/", hosts=("127.0.0.1:1",),
    )  # fmt: skip
    turn = Turn()
    turn.to_plan(weather)
    turn.write('[{"name": "get_weather", "arguments": {"city": "Rome", ')
    assert len(turn.fires()) == 1
    turn.write('"day": "tomorrow"}')
    assert any(isinstance(command, AbortCall) for command in turn.commands)
    turn.write("}]")
    turn.finish()
    assert [(fire.claim, fire.arguments) for fire in turn.fires()] == [
        (1, {"city": "Rome"}),
        (2, {"city": "Rome", "day": "tomorrow"}),
    ]
    turn.answered(0, '"old"', claim=1)  # the first firing's result comes late and is dropped
    assert turn.phase() == "calling"
    turn.answered(0, '"new"', claim=2)
    assert turn.phase() == "answering"


def test_out_of_scope_makes_no_planning_call() -> None:
    turn = Turn()
    turn.take(turn.machine.begin(None, turn.now))
    turn.feed(Routed(agent="desk", verdict="out_of_scope", scores=[AgentScore("desk", 0.1)], took_ms=1))
    turn.feed(Recollected(Recalled(items=(), history=(), at_ms=T0)))
    assert not any(isinstance(command, Discover) for command in turn.commands)
    [asked] = turn.said(ModelAsked)
    assert isinstance(asked, ModelAsked)
    assert asked.step == "answer"
    assert asked.prompt.id == "out_of_scope/answer"


def test_cancel_aborts_the_model_and_the_calls_and_ends_once() -> None:
    turn = Turn()
    turn.to_plan(PEOPLE)
    turn.write('[{"name": "search_people", "arguments": {"title": "nurse"}')
    turn.feed(Cancelled("client"))
    assert any(isinstance(command, AbortCall) for command in turn.commands)
    assert any(isinstance(command, AbortGeneration) for command in turn.commands)
    turn.feed(Cancelled("client"))
    turn.finish()
    assert [type(event) for event in turn.said(*TERMINAL)] == [TurnCancelled]


def test_a_silent_stage_is_issued_again_with_the_next_epoch() -> None:
    turn = Turn()
    turn.to_plan(PEOPLE)
    turn.feed(Tick(), LEASE_MS + 1)
    requests = [command.request for command in turn.commands if isinstance(command, Generate)]
    assert [(request.epoch, request.resume) for request in requests] == [(1, False), (2, True)]


def test_the_deadline_ends_the_turn() -> None:
    turn = Turn()
    turn.to_plan(PEOPLE)
    turn.feed(Tick(), 61_000)
    [end] = turn.said(*TERMINAL)
    assert isinstance(end, TurnFailed)
    assert end.code == "deadline"


@pytest.mark.parametrize(("reason", "said"), [("length", "max_output_tokens"), ("filtered", "content_filter")])
def test_a_cut_answer_is_incomplete(reason: str, said: str) -> None:
    turn = Turn()
    turn.to_plan(PEOPLE)
    turn.write("[]")
    turn.finish()
    turn.generated(AnswerStarted(model="default", engine="scripted", at_ms=T0), "answer")
    turn.generated(AnswerFinished(reason=reason, usage=Usage(), at_ms=T0), "answer")
    [end] = turn.said(*TERMINAL)
    assert isinstance(end, TurnIncomplete)
    assert end.reason == said


def test_savings_are_recomputable_from_the_turns_own_times() -> None:
    turn = Turn()
    turn.to_plan(PEOPLE)
    turn.write('[{"name": "search_people", "arguments": {"title": "nurse"}')  # fires here: t
    turn.feed(Tick(), 100)
    turn.write("}]")
    turn.finish()  # the plan ends at t + 102
    turn.answered(0, after_ms=48)  # the call ran 150 ms
    turn.answer()
    [end] = turn.said(TurnCompleted)
    assert isinstance(end, TurnCompleted)
    assert end.savings[0].hidden_ms == pytest.approx(end.plan_ms)
    assert end.saved_ms == pytest.approx(end.plan_ms)
    assert end.saved_ms <= end.oracle_ms


@pytest.mark.parametrize("cut", range(1, 26))
def test_a_successor_goes_on_from_any_point(cut: int) -> None:
    """Restored from the first `cut` facts of a turn, a machine brings the turn to its end, and never fires what
    already has its result."""
    first = Turn()
    log: list[tuple[Identity, Event, float]] = []

    def own(turn: Turn, since: int) -> int:
        for command in turn.commands[since:]:
            if isinstance(command, Publish):
                log.append((Identity(TURN, "turn", 1, len(log)), command.event, turn.now))
            elif isinstance(command, Fire):
                fired = CallFired(
                    call=command.call, skill=command.manifest.id, arguments=command.arguments, effect="pure",
                    claim=command.claim, token=command.token, at_ms=int(turn.now),
                )  # fmt: skip
                log.append((Identity(TURN, f"call.{command.call}", command.claim, 0), fired, turn.now))
        return len(turn.commands)

    done = 0
    first.to_plan(PEOPLE, WEATHER)
    done = own(first, done)
    pieces = [
        '[{"name": "search_people", "argum',
        'ents": {"title": "nurse"}}, {"name": "get_we',
        'ather", "arguments": {"city": "Rome"}}]',
    ]
    log.append((Identity(TURN, "plan", 1, 0), PlanStarted(model="default", engine="s", at_ms=T0), first.now))
    for index, piece in enumerate(pieces):
        log.append((Identity(TURN, "plan", 1, index + 1), PlanDelta(text=piece, index=index, ids=(index,)), first.now))
        first.write(piece)
        done = own(first, done)
    log.append((Identity(TURN, "plan", 1, 9), PlanFinished(reason="stop", usage=Usage(), at_ms=T0), first.now))
    first.finish()
    done = own(first, done)
    for call in (0, 1):
        event = CallAnswered(call=call, result="{}", status=200, took_ms=1, at_ms=T0)
        log.append((Identity(TURN, f"call.{call}", 1, 1), event, first.now))
        first.answered(call)
        done = own(first, done)
    end = AnswerFinished(reason="stop", usage=Usage(), at_ms=T0)
    for seq, said in enumerate((AnswerStarted(model="default", engine="s", at_ms=T0), end)):
        log.append((Identity(TURN, "answer", 1, seq), said, first.now))
        first.generated(said, "answer")
    assert cut <= len(log) == 25

    machine = TurnMachine(first.machine.accepted, 7, SETUP)
    owed = restore(machine, log[:cut], {row.id: row for row in (PEOPLE, WEATHER)})
    second = Turn(machine)
    commands = second.take(resume(machine, second.now, owed))
    if any(isinstance(command, Look) for command in commands):
        second.feed(Routed(agent="recruiter", verdict="sure", scores=[], took_ms=1))
        second.feed(Recollected(Recalled(items=(), history=(), at_ms=T0)))
    if machine.phase == "discovering":
        found = (DiscoveredSkill(PEOPLE.id, 0.5), DiscoveredSkill(WEATHER.id, 0.5))
        second.feed(Discovered(SkillsDiscovered(skills=found, at_ms=T0), (PEOPLE, WEATHER)))
    if machine.phase == "planning":
        second.feed(Tick(), LEASE_MS + 1)
        epoch = max((c.request.epoch for c in second.commands if isinstance(c, Generate)), default=1)
        second.generated(PlanStarted(model="default", engine="s", at_ms=T0), epoch=epoch)
        for index, piece in enumerate(pieces):
            second.generated(PlanDelta(text=piece, index=index, ids=(index,)), epoch=epoch)
        second.generated(PlanFinished(reason="stop", usage=Usage(), at_ms=T0), epoch=epoch)
    assert machine.firing is not None
    answered = {call.index for call in machine.firing.calls if call.state == "answered"}
    assert not answered & {fire.call for fire in second.fires()}
    for planned in list(machine.firing.calls):
        if planned.state == "fired" and planned.adopts < 0:
            second.answered(planned.index, claim=planned.claim)
    if machine.phase == "answering":
        second.feed(Tick(), LEASE_MS + 1)
        epoch = max((c.request.epoch for c in second.commands if isinstance(c, Generate)), default=1)
        second.generated(AnswerStarted(model="default", engine="s", at_ms=T0), "answer", epoch)
        second.generated(AnswerFinished(reason="stop", usage=Usage(), at_ms=T0), "answer", epoch)
    assert [type(event) for event in second.said(*TERMINAL)] == [TurnCompleted]
    written = [type(event) for _, event, _ in log[:cut]] + [type(event) for event in second.said()]
    assert written.count(PlanCommitted) == 1, "what its owner did not live to write is written by the next"
    assert sum(kind is ModelAsked for kind in written) >= 2
