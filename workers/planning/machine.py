"""A turn as a state machine over events: route, recall, plan, fire, answer, end.

Fed and drained: `receive(input, now_ms)` changes the state and returns commands (commands.py). It reads no clock,
draws no random number and does no I/O; the same inputs at the same times give the same commands, which is what
replay rests on.

                   ┌──────────── no skills, out of scope ───────────┐
    begin ▶ looking ──Routed──▶ recalling ──▶ discovering ──▶ planning ──▶ answering ──▶ ended
                                   (Recollected)  (Discovered)   calls fire while it is written

`restore` rebuilds a machine from the facts of a turn that another owner left; `resume` says what to do next.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, Literal

import msgspec

from streams.events import PromptRef
from streams.events.calling import CallFired
from streams.events.conversation import ConversationOpened
from streams.events.generating import (
    GenerationDelta,
    GenerationFinished,
    GenerationStarted,
    Message,
    ModelAsked,
    Sampling,
)
from streams.events.recalling import Recalled
from streams.events.registering import SkillManifest
from streams.events.routing import RouteDecided
from streams.events.turn import (
    ModelUse,
    TurnAccepted,
    TurnCancelled,
    TurnCompleted,
    TurnEnd,
    TurnFailed,
    TurnHeartbeat,
    TurnIncomplete,
)
from workers.agents.catalog import OUT_OF_SCOPE, Agent, Step
from workers.planning import approving, inflight, leases, savings, taking
from workers.planning.commands import (
    AbortGeneration,
    ApprovalsFound,
    Called,
    CallHeard,
    Cancelled,
    Command,
    Discover,
    Discovered,
    Ended,
    FactCame,
    FindApprovals,
    Generate,
    Generated,
    Input,
    Publish,
    Recollected,
    Routed,
    Tick,
    WakeAt,
)
from workers.planning.context import look_for
from workers.planning.firing import FiringCore
from workers.planning.model_calls import Stage, answer_sampling, plan_sampling, request_for, use_of
from workers.planning.rendering import answer_values, plan_values
from workers.planning.setup import Setup as Setup
from workers.routing import asking
from workers.skills.manifest import plan_schema

Phase = Literal["looking", "routing", "recalling", "discovering", "planning", "calling", "answering", "ended"]


class TurnMachine:
    """One turn. Created from its `turn.accepted`; everything else arrives by `receive`."""

    def __init__(self, accepted: TurnAccepted, offset: int, setup: Setup) -> None:
        self.accepted = accepted
        self.offset = offset
        self.setup = setup
        self.phase: Phase = "looking"
        self.agent: Agent = setup.agents[OUT_OF_SCOPE]
        self.recalled: Recalled | None = None
        self.facts = taking.Facts()
        self.manifests: dict[str, SkillManifest] = {}
        self.firing: FiringCore | None = None
        self.uses: list[ModelUse] = []
        self.end: TurnEnd | None = None
        self.stage: Stage | None = None
        self._route: Routed | None = None
        self.decided = False
        self._epochs: dict[str, int] = {}  # of each step, the highest that was heard
        self._plan_first_at_ms = self._plan_end_at_ms = -1.0

    @property
    def turn(self) -> str:
        return self.accepted.turn

    @property
    def question(self) -> str:
        """The text of the turn's own input."""
        return self.accepted.question

    # -- in and out ------------------------------------------------------------------------------------------------

    def begin(self, opened: ConversationOpened | None, now_ms: float) -> list[Command]:
        """The first commands of a turn that was just accepted (its `turn.accepted` is the caller's to write)."""
        return [*([Publish(opened)] if opened else []), *self.look(), WakeAt(self.accepted.deadline_at_ms)]

    def receive(self, item: Input, now_ms: float) -> list[Command]:
        """Feeds one input. After the turn has ended only outcomes of calls are taken, and nothing is commanded."""
        return [] if self.phase == "ended" else _HANDLERS[type(item)](self, item, now_ms)

    # -- route and recall ------------------------------------------------------------------------------------------

    def look(self) -> list[Command]:
        wanted = self.accepted.options.agent
        return [look_for(self.question, self.setup.agents, wanted)]

    def _routed(self, item: Routed, now_ms: float) -> list[Command]:
        self._route = item
        if item.verdict == "unsure" and self.setup.router_model and len(self.setup.agents) > 2:
            self.phase = "routing"
            messages, sampling = asking.question(self.question, self._targets())
            return self._ask("route", asking.PROMPT_REF, self.setup.router_model, messages, sampling, now_ms)
        agent = "" if item.verdict == "out_of_scope" else item.agent
        return self._decide(agent, "embedding", now_ms)

    def _targets(self) -> list[Agent]:
        return [agent for name, agent in self.setup.agents.items() if name != OUT_OF_SCOPE]

    def _decide(self, agent: str, by: str, now_ms: float, reason: str = "") -> list[Command]:
        scores = tuple(self._route.scores) if self._route else ()
        took_ms = self._route.took_ms if self._route else 0.0
        decided = RouteDecided(
            agent=agent, by=by, at_ms=int(now_ms), scores=scores, took_ms=took_ms, reason=reason
        )  # fmt: skip
        self.take_route(decided)
        return [Publish(decided), *taking.weigh(self, now_ms), *self.after_look(now_ms)]

    def take_route(self, event: RouteDecided) -> None:
        self.agent = self.setup.agents.get(event.agent, self.setup.agents[OUT_OF_SCOPE])
        self.decided = True
        self.phase = "recalling"

    def _recollected(self, item: Recollected, now_ms: float) -> list[Command]:
        commands: list[Command] = []
        if self.recalled is None:  # an owner before may have written it, and not the route
            self.recalled = item.recalled
            commands.append(Publish(item.recalled))
        wanted = self.accepted.options.agent
        if not self.decided and wanted in self.setup.agents:
            return commands + self._decide(wanted, "client", now_ms)
        return commands + self.after_look(now_ms)

    def after_look(self, now_ms: float) -> list[Command]:
        """Once both the route and the past are known: discover skills, or answer at once."""
        if not self.decided or self.recalled is None or self.phase != "recalling":
            return []
        if approvals := approving.requests(self):
            return [FindApprovals(approvals)]
        outputs = any(item.kind == "function_call_output" for item in self.accepted.input)
        outputs = outputs or self.accepted.origin == taking.TELLING
        if self.agent.plan is None or outputs or not (self.agent.skills or self.accepted.options.tools):
            return self._answer(now_ms)
        self.phase = "discovering"
        return [Discover(self.question, self.agent.skills, self.agent.max_skills, self.agent.skill_ratio)]

    # -- plan ------------------------------------------------------------------------------------------------------

    def _discovered(self, item: Discovered, now_ms: float) -> list[Command]:
        if self.phase != "discovering":
            return []
        self.take_skills(item.manifests)
        if not self.manifests and not self.accepted.options.tools:
            return [Publish(item.discovered), *self._answer(now_ms)]
        return [Publish(item.discovered), *self.plan(now_ms)]

    def take_skills(self, manifests: Iterable[SkillManifest]) -> None:
        self.manifests = {manifest.name: manifest for manifest in manifests}
        tools = {tool.name: tool.parameters for tool in self.accepted.options.tools}
        model = self.setup.models[self._model(self.agent.plan)]
        self.firing = FiringCore(
            self.turn, self.manifests, tools, dialect=model.dialect, max_calls=self.agent.max_calls
        )  # fmt: skip

    def plan(self, now_ms: float) -> list[Command]:
        self.phase = "planning"
        step = self.agent.plan
        assert step is not None
        assert self.recalled is not None
        tools = self.accepted.options.tools
        values = plan_values(self.accepted, self.question, self.recalled, self.manifests.values(), tools, self.agent)
        taken = taking.show(self, now_ms, telling=False)
        messages = step.prompt.render(**taking.shown(self, values))
        name = self._model(step)
        model = self.setup.models[name]
        schema = plan_schema(tuple(self.manifests.values()), tools, max_calls=self.agent.max_calls)
        sampling = plan_sampling(step.options, self.accepted.options, schema if model.structured else None)
        return [*taken, *self._ask("plan", step.prompt.ref, name, messages, sampling, now_ms)]

    def _planned(self, event: GenerationFinished, now_ms: float) -> list[Command]:
        assert self.firing is not None
        self._plan_end_at_ms = now_ms
        self.phase = "calling"
        return self.carry(self.firing.finish(event.reason, now_ms), now_ms)

    def _called(self, item: Called, now_ms: float) -> list[Command]:
        if self.firing is None or isinstance(item.event, CallFired):
            return []
        return self.carry(self.firing.outcome(item.event, item.claim, now_ms), now_ms)

    def carry(self, decisions: Sequence[Command], now_ms: float) -> list[Command]:
        """Passes the firing core's decisions on; goes on to the answer once nothing is pending."""
        commands: list[Command] = list(decisions)
        firing = self.firing
        if self.phase == "calling" and firing is not None and not firing.pending:
            states = {call.state for call in firing.calls}
            if "approval" in states:
                return commands + self._complete("approval", now_ms)
            if "client" in states:
                return commands + self._complete("tool_output", now_ms)
            return commands + self._answer(now_ms)
        return commands

    # -- answer ----------------------------------------------------------------------------------------------------

    def _answer(self, now_ms: float) -> list[Command]:
        self.phase = "answering"
        step = self.agent.answer
        calls = self.firing.calls if self.firing else []
        assert self.recalled is not None
        values = answer_values(self.accepted, self.question, self.recalled, calls, self.agent)
        options = self.accepted.options
        sampling = answer_sampling(step.options, options)
        model = options.model if options.model in self.setup.models else self._model(step)
        taken = taking.show(self, now_ms, telling=True)
        messages = step.prompt.render(**taking.shown(self, values))
        return [*taken, *self._ask("answer", step.prompt.ref, model, messages, sampling, now_ms)]

    def _answered(self, event: GenerationFinished, now_ms: float) -> list[Command]:
        cut = {"length": "max_output_tokens", "filtered": "content_filter"}.get(event.reason)
        if cut is not None:
            return self._terminate(TurnIncomplete(reason=cut, **self._summary(now_ms)))
        return self._complete("", now_ms)

    # -- model calls -----------------------------------------------------------------------------------------------

    def _model(self, step: Step | None) -> str:
        name = step.options.model if step else ""
        return name if name in self.setup.models else self.setup.default_model

    def _ask(
        self, step: str, prompt: PromptRef, model: str, messages: tuple[Message, ...], sampling: Sampling, now_ms: float
    ) -> list[Command]:
        epoch = self._epochs.get(step, 0) + 1  # above 1 where the log has the model's words and not the question
        asked = ModelAsked(
            step=step, epoch=epoch, model=model, prompt=prompt, messages=messages, sampling=sampling, at_ms=int(now_ms)
        )  # fmt: skip
        self.stage = Stage(step, epoch, request_for(asked, self.accepted, self.offset, self.agent))
        return [Publish(asked), Generate(self.stage.request)]

    def _generated(self, item: Generated, now_ms: float) -> list[Command]:
        stage, self._epochs[item.step] = self.stage, max(item.epoch, self._epochs.get(item.step, 0))
        if stage is None or item.step != stage.step or item.epoch < stage.epoch:
            return []
        stage.heard_at_ms = now_ms
        event = item.event
        if isinstance(event, GenerationDelta):
            return self._delta(stage, event, now_ms)
        if isinstance(event, GenerationStarted):
            stage.epoch = item.epoch
            if stage.step == "plan" and self.firing is not None and (stage.text or self.firing.calls):
                self.firing.restart()
                stage.text = ""
            return [self.wake()]
        if isinstance(event, GenerationFinished):
            return self._finished(stage, event, now_ms)
        return []  # a heartbeat: hearing it was the point

    def _delta(self, stage: Stage, event: GenerationDelta, now_ms: float) -> list[Command]:
        stage.shown = True
        if stage.step == "answer":
            return []
        stage.text += event.text
        if stage.step == "route" or self.firing is None:
            return []
        if self._plan_first_at_ms < 0:
            self._plan_first_at_ms = now_ms
        token = event.index + max(len(event.ids), 1) - 1
        return self.carry(self.firing.feed(event.text, event.ids, token, now_ms), now_ms)

    def _finished(self, stage: Stage, event: GenerationFinished, now_ms: float) -> list[Command]:
        if event.reason == "error" and event.retriable and stage.epoch < leases.RETRY_EPOCHS:
            return self.reissue(stage, now_ms)
        self.stage = None
        self.uses.append(use_of(stage, event.usage, self.setup.models[stage.request.model]))
        if event.reason == "error":
            return self._fail(event.error_code or "model_failed", event.error_message, "peer", now_ms)
        if event.reason == "abort":
            return self._terminate(TurnIncomplete(reason="model_lost", **self._summary(now_ms)))
        if stage.step == "route":
            agent = asking.parse(stage.text, self._targets())
            return self._decide(agent, "model", now_ms)
        if stage.step == "plan":
            return self._planned(event, now_ms)
        return self._answered(event, now_ms)

    def reissue(self, stage: Stage, now_ms: float) -> list[Command]:
        """The same model call with the next epoch; an answer goes on where the log stands, a plan starts anew."""
        stage.epoch += 1
        stage.heard_at_ms = -1.0
        stage.request = msgspec.structs.replace(stage.request, epoch=stage.epoch, at_ms=int(now_ms), resume=True)
        return [Publish(TurnHeartbeat(at_ms=int(now_ms))), Generate(stage.request), self.wake()]

    # -- time, cancel, end -----------------------------------------------------------------------------------------

    def wake(self) -> WakeAt:
        """When to look again: at the deadline, or when a lease that something is watched by may be over."""
        return WakeAt(leases.look_again_at_ms(self.stage, self.firing, self.accepted.deadline_at_ms))

    def suspects(self, now_ms: float) -> bool:
        """Whether a `Tick` at this time would find somebody silent for too long."""
        return leases.look_again_at_ms(self.stage, self.firing, math.inf) <= now_ms

    def _heard(self, item: CallHeard, now_ms: float) -> list[Command]:
        if self.firing is not None:
            inflight.note_heard(self.firing, item.call, now_ms)
        return []

    def _tick(self, _: Tick, now_ms: float) -> list[Command]:
        if now_ms >= self.accepted.deadline_at_ms:
            return self._deadline(now_ms)
        commands: list[Command] = []
        if self.firing is not None:
            commands += inflight.refire_silent(self.firing, leases.LEASE_MS, now_ms)
        stage = self.stage
        if stage is not None and leases.silent(stage, now_ms):
            if stage.epoch >= leases.RETRY_EPOCHS:
                return [*commands, *self._fail("model_lost", f"no worker finished the {stage.step}", "ours", now_ms)]
            return [*commands, *self.reissue(stage, now_ms)]
        return [*commands, self.wake()]

    def _deadline(self, now_ms: float) -> list[Command]:
        if self.stage is not None and self.stage.step == "answer" and self.stage.shown:
            end: TurnEnd = TurnIncomplete(reason="deadline", **self._summary(now_ms))
            return [*self._stop(now_ms), *self._terminate(end)]
        message = f"the turn was not finished within {self.accepted.deadline_at_ms - self.accepted.at_ms} ms"
        return [*self._stop(now_ms), *self._fail("deadline", message, "ours", now_ms)]

    def _cancelled(self, item: Cancelled, now_ms: float) -> list[Command]:
        stop = self._stop(now_ms)
        if item.successor:
            steered = TurnIncomplete(reason="steered", successor=item.successor, **self._summary(now_ms))
            return [*stop, *self._terminate(steered)]
        return [*stop, *self._terminate(TurnCancelled(reason=item.reason, **self._summary(now_ms)))]

    def fail(self, code: str, message: str, now_ms: float, fault: str = "ours") -> list[Command]:
        """Stops everything and ends the turn by name."""
        return [] if self.phase == "ended" else [*self._stop(now_ms), *self._fail(code, message, fault, now_ms)]

    def _stop(self, now_ms: float) -> list[Command]:
        """Aborts the model call and the calls in flight; undoes reversible ones."""
        commands: list[Command] = list(self.firing.cancel(now_ms)) if self.firing else []
        if self.stage is not None:
            commands.append(AbortGeneration(self.stage.step, self.stage.epoch))
        return commands

    def _complete(self, awaiting: str, now_ms: float) -> list[Command]:
        return self._terminate(TurnCompleted(awaiting=awaiting, **self._summary(now_ms)))

    def _fail(self, code: str, message: str, fault: str, now_ms: float) -> list[Command]:
        return self._terminate(TurnFailed(code=code, message=message, fault=fault, **self._summary(now_ms)))

    def _terminate(self, end: TurnEnd) -> list[Command]:
        self.phase, self.end = "ended", end
        return [*taking.close(self, end), Publish(end), Ended()]

    def _summary(self, now_ms: float) -> dict[str, Any]:
        calls = self.firing.calls if self.firing is not None else []
        tokens = self.firing.token + 1 if self.firing is not None else 0
        spent = savings.summary(calls, tokens, self._plan_first_at_ms, self._plan_end_at_ms, now_ms)
        return {"at_ms": int(now_ms), "models": tuple(self.uses), **spent}


_HANDLERS: Final[Mapping[type[Any], Callable[[TurnMachine, Any, float], list[Command]]]] = {
    Generated: TurnMachine._generated, Called: TurnMachine._called, CallHeard: TurnMachine._heard,
    Routed: TurnMachine._routed, Recollected: TurnMachine._recollected, Discovered: TurnMachine._discovered,
    ApprovalsFound: approving.answer, Cancelled: TurnMachine._cancelled, FactCame: taking.hear,
    Tick: TurnMachine._tick,
}  # fmt: skip
