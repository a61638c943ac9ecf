"""One model call of a turn: what it is made from, and how it stands."""

from __future__ import annotations

from typing import Any

import msgspec

from streams.events import Usage
from streams.events.generating import GenerationRequested, ModelAsked, Sampling
from streams.events.intake import TurnOptions
from streams.events.turn import ModelUse, TurnAccepted
from streams.models import ModelSpec
from workers.agents.catalog import Agent, StepOptions


class Stage(msgspec.Struct):
    """A model call in progress. heard_at_ms: when its newest fact came; -1 while it waits in the queue.

    text: what a route or plan has written so far. shown: something was delivered.
    """

    step: str
    epoch: int
    request: GenerationRequested
    heard_at_ms: float = -1.0
    text: str = ""
    shown: bool = False


def request_for(asked: ModelAsked, accepted: TurnAccepted, offset: int, agent: Agent) -> GenerationRequested:
    """The work for a generation worker that `asked` stands for."""
    return GenerationRequested(
        conversation=accepted.conversation, turn=accepted.turn, step=asked.step, epoch=asked.epoch, model=asked.model,
        messages=asked.messages, sampling=asked.sampling, at_ms=asked.at_ms, deadline_at_ms=accepted.deadline_at_ms,
        turn_offset=offset, tenant=accepted.tenant, user=accepted.user,
        checks=agent.checks if asked.step == "answer" else (), resume=asked.epoch > 1,
    )  # fmt: skip


def plan_sampling(step: StepOptions, options: TurnOptions, schema: dict[str, Any] | None) -> Sampling:
    """A plan is the agent's own affair: the submitter only chooses the seed. schema None: the model is not forced."""
    return Sampling(
        max_tokens=step.max_tokens, temperature=step.temperature, top_p=step.top_p, stop=step.stop, seed=options.seed,
        json_schema=schema,
    )  # fmt: skip


def answer_sampling(step: StepOptions, options: TurnOptions) -> Sampling:
    """The submitter may lower the length, and choose temperature, top_p and seed."""
    return Sampling(
        max_tokens=min(step.max_tokens, options.max_output_tokens or step.max_tokens), stop=step.stop,
        seed=options.seed,
        temperature=step.temperature if options.temperature is None else options.temperature,
        top_p=step.top_p if options.top_p is None else options.top_p,
    )  # fmt: skip


def use_of(stage: Stage, usage: Usage, model: ModelSpec) -> ModelUse:
    """What the call used and cost."""
    cost_usd = model.cost_usd(usage.prompt, usage.completion)
    return ModelUse(step=stage.step, model=stage.request.model, usage=usage, cost_usd=cost_usd)
