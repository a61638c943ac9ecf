"""What a turns worker was set up with, as an event on `prompts`, and back: so that a turn can be run again as it was.

A turn depends on its agent's options and prompts and on what its models are like (how they write calls, what they
cost). All of it is written down once under an id made from the contents; `turn.accepted` names the id. Pure.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from streams.errors import NotFound
from streams.events.base import PromptRef
from streams.events.registering import PromptRegistered, SetupRegistered
from streams.models import ModelSpec
from workers.agents.catalog import Agent, Step, StepOptions
from workers.agents.prompts import Prompt
from workers.planning.machine import Setup

# Where a model is served and with which key is nobody's business but its worker's.
_PLACE: Final = frozenset({"model", "url", "key_variable", "requests_at_once", "tokens_per_second", "end_ms"})
_STEPS: Final = ("plan", "answer")


def registered(setup: Setup, at_ms: int) -> tuple[SetupRegistered, tuple[PromptRegistered, ...]]:
    """The events that tell a setup: itself, and every prompt it names."""
    agents = {name: _told(agent) for name, agent in sorted(setup.agents.items())}
    models = {
        name: {key: value for key, value in msgspec.to_builtins(spec).items() if key not in _PLACE}
        for name, spec in sorted(setup.models.items())
    }
    contents = [agents, models, setup.default_model, setup.router_model]
    digest = hashlib.sha256(msgspec.json.encode(contents, order="deterministic")).hexdigest()
    event = SetupRegistered(
        id=digest[:12], agents=agents, models=models, default_model=setup.default_model,
        router_model=setup.router_model, at_ms=at_ms,
    )  # fmt: skip
    prompts = {
        step.prompt.ref: PromptRegistered(
            id=step.prompt.id, version=step.prompt.version, text=step.prompt.text, at_ms=at_ms
        )
        for agent in setup.agents.values()
        for step in (agent.plan, agent.answer)
        if step is not None
    }
    return event, tuple(prompts.values())


def setup_from(event: SetupRegistered, prompts: Mapping[PromptRef, str]) -> Setup:
    """The setup that an event tells. Raises NotFound (`prompt_missing`) when the text of a prompt it names is not
    there, and what the parts of a setup raise when they are wrong."""
    agents = {name: _agent(name, told, prompts) for name, told in event.agents.items()}
    models = {name: msgspec.convert(told, ModelSpec) for name, told in event.models.items()}
    return Setup(agents=agents, models=models, default_model=event.default_model, router_model=event.router_model)


def prompt_refs(event: SetupRegistered) -> set[PromptRef]:
    """Every prompt that a setup names."""
    return {
        PromptRef(*told[step]["prompt"]) for told in event.agents.values() for step in _STEPS if told.get(step)
    }  # fmt: skip


def _told(agent: Agent) -> dict[str, Any]:
    fields = {name: getattr(agent, name) for name in agent.__struct_fields__ if name not in ("name", "rubric", *_STEPS)}
    steps = {name: _told_step(step) for name in _STEPS if (step := getattr(agent, name)) is not None}
    told: dict[str, Any] = msgspec.to_builtins({**fields, **steps})
    return told


def _told_step(step: Step) -> dict[str, Any]:
    return {"prompt": [step.prompt.id, step.prompt.version], "options": step.options}


def _agent(name: str, told: Mapping[str, Any], prompts: Mapping[PromptRef, str]) -> Agent:
    steps = {step: _step(step, told[step], prompts) for step in _STEPS if told.get(step)}
    fields = {key: tuple(value) if isinstance(value, list) else value for key, value in told.items()}
    return Agent(name=name, **{**fields, **steps})  # type: ignore[arg-type]  # fields are as `_told` wrote them


def _step(step: str, told: Mapping[str, Any], prompts: Mapping[PromptRef, str]) -> Step:
    ref = PromptRef(*told["prompt"])
    text = prompts.get(ref)
    if text is None:
        raise NotFound(
            f"the prompt {ref.id}@{ref.version} is not there", code="prompt_missing",
            hint="its text is a record of the topic `prompts`",
        )  # fmt: skip
    return Step(prompt=Prompt(ref.id, text, step), options=msgspec.convert(told["options"], StepOptions))
