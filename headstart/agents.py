"""`headstart agents list|check`: what agents there are, and whether their folders are right."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from streams.errors import Misconfigured
from streams.models import load_models
from streams.settings import Settings
from workers.agents.catalog import OUT_OF_SCOPE, SHIPPED, Agent, load_all
from workers.agents.on_fact import SPEAKING, policies, wrong_keys

Roots = Annotated[list[Path] | None, typer.Option("--agents", help="further folders of agents, besides the shipped")]


def register(app: typer.Typer) -> None:
    agents = typer.Typer(no_args_is_help=True, help="The assistant's agents: list them, check their folders.")
    agents.command("list")(list_agents)
    agents.command("check")(check)
    app.add_typer(agents, name="agents")


def list_agents(roots: Roots = None) -> None:
    """Every agent, with its skills and prompt versions."""
    table = Table("agent", "takes", "skills", "prompts")
    for agent in load_all([SHIPPED, *(roots or [])]).values():
        prompts = [step.prompt.ref for step in (agent.plan, agent.answer) if step]
        table.add_row(
            agent.name, agent.description, ", ".join(agent.skills) or "–",
            "\n".join(f"{ref.id}@{ref.version}" for ref in prompts),
        )  # fmt: skip
    Console().print(table)


def check(roots: Roots = None) -> None:
    """Loads every folder and says what is wrong: files, keys, prompts that do not render, models that do not exist."""
    import os

    agents = load_all([SHIPPED, *(roots or [])])
    models = load_models(Settings.from_env(os.environ))
    for agent in agents.values():
        for problem in problems(agent, set(models)):
            raise Misconfigured(f"agent {agent.name}: {problem}")
    Console().print(f"{len(agents)} agents are right: {', '.join(agents)}")


def problems(agent: Agent, models: set[str]) -> list[str]:
    """What is wrong with an agent that loaded: unknown models, utterances or skills that are missing, facts that would
    be told and are not shown."""
    found = [
        f"its {name} names model {step.options.model!r}; there are {', '.join(sorted(models))}"
        for name, step in (("plan", agent.plan), ("answer", agent.answer))
        if step and step.options.model and step.options.model not in models
    ]
    if agent.name != OUT_OF_SCOPE and not agent.utterances:
        found.append("utterances.txt is missing or empty, so nothing is ever routed to it")
    if agent.plan and not agent.skills:
        found.append("it has a plan prompt but no skills to plan with")
    found += [
        f"its on_fact names {key!r}, which is no kind of fact and no pattern" for key in wrong_keys(agent.on_fact)
    ]
    if policies(agent.on_fact) & SPEAKING and "facts" not in agent.answer.prompt.variables:
        found.append("its on_fact has facts told, and answer.jinja does not show `facts`")
    return found
