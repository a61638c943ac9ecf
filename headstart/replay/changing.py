"""One thing changed: a setup with another prompt or another model, for turns that run again live. Pure."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from streams.errors import NotFound
from streams.models import ModelSpec
from workers.agents.catalog import Agent, Step
from workers.agents.prompts import Prompt
from workers.planning.machine import Setup


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be otherwise. prompts: the new text by prompt id (`recruiter/answer`). models: by step (plan, answer),
    or "" for every step. Nothing: the turns as they were."""

    prompts: dict[str, str] = msgspec.field(default_factory=dict)
    models: dict[str, str] = msgspec.field(default_factory=dict)

    def words(self) -> dict[str, str]:
        """For the head of what comes of it."""
        told = {
            f"prompt {name}": Prompt(name, text, _step_of(name)).version for name, text in sorted(self.prompts.items())
        }
        return told | {f"model {step}".strip(): name for step, name in sorted(self.models.items())}


def changed(setup: Setup, change: Change, models: Mapping[str, ModelSpec]) -> Setup:
    """The setup with the change made, and these models. Raises NotFound for a prompt or a model that is not there, and
    Misconfigured for a prompt that can not be rendered."""
    known = {step.prompt.id for agent in setup.agents.values() for step in (agent.plan, agent.answer) if step}
    for name in change.prompts:
        if name not in known:
            raise NotFound(f"no agent has a prompt {name!r}", hint=f"there are {', '.join(sorted(known))}")
    for name in change.models.values():
        if name not in models:
            raise NotFound(f"there is no model {name!r} here", hint=f"there are {', '.join(sorted(models))}")
    agents = {name: _agent(agent, change) for name, agent in setup.agents.items()}
    return msgspec.structs.replace(setup, agents=agents, models=dict(models))


def _agent(agent: Agent, change: Change) -> Agent:
    answer = _step("answer", agent.answer, change)
    plan = _step("plan", agent.plan, change) if agent.plan is not None else None
    return msgspec.structs.replace(agent, answer=answer, plan=plan)


def _step(name: str, step: Step, change: Change) -> Step:
    text = change.prompts.get(step.prompt.id)
    prompt = step.prompt if text is None else Prompt(step.prompt.id, text, name)
    model = change.models.get(name) or change.models.get("")
    options = step.options if model is None else msgspec.structs.replace(step.options, model=model)
    return Step(prompt=prompt, options=options)


def _step_of(prompt: str) -> str:
    return prompt.rpartition("/")[2]
