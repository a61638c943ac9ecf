"""`headstart agents list|check`: what agents there are, and whether their folders are right."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from headstart.service_registration import read_catalog
from memory.opening import open_bus
from streams.errors import InvalidInput
from streams.models import load_models
from streams.settings import Settings
from workers.agents import checking
from workers.agents.catalog import load_all
from workers.agents.folders import roots

Roots = Annotated[
    list[Path] | None, typer.Option("--agents", help="further folders of agents, besides the installation's")
]


def register(app: typer.Typer) -> None:
    agents = typer.Typer(no_args_is_help=True, help="The assistant's agents: list them, check their folders.")
    agents.command("list")(list_agents)
    agents.command("check")(check)
    app.add_typer(agents, name="agents")


def list_agents(given: Roots = None) -> None:
    """Every agent, with its skills and prompt versions."""
    table = Table("agent", "takes", "skills", "prompts")
    for agent in load_all(_roots(Settings.from_env(os.environ), given)).values():
        prompts = [step.prompt.ref for step in (agent.plan, agent.answer) if step]
        table.add_row(
            agent.name, agent.description, ", ".join(agent.skills) or "–",
            "\n".join(f"{ref.id}@{ref.version}" for ref in prompts),
        )  # fmt: skip
    Console().print(table)


def check(given: Roots = None) -> None:
    """Says everything that is wrong with the agents' folders, by file, and what to do; status 1 when anything is.
    With HEADSTART_KAFKA also whether the skills that they name are in force."""
    settings = Settings.from_env(os.environ)
    every = _roots(settings, given)
    skills = asyncio.run(_skills_in_force(settings)) if settings.kafka else None
    problems = checking.check(every, set(load_models(settings)), skills)
    console = Console(soft_wrap=True, highlight=False, markup=False)
    for problem in problems:
        console.print(str(problem))
    if problems:
        console.print(f"{len(problems)} things are wrong")
        raise typer.Exit(1)
    agents = load_all(every)
    looked = "" if settings.kafka else "; whether their skills are in force is looked up where HEADSTART_KAFKA is set"
    console.print(f"{len(agents)} agents are right: {', '.join(agents)}{looked}")


def _roots(settings: Settings, given: Sequence[Path] | None) -> list[Path]:
    for folder in given or ():
        if not folder.is_dir():
            raise InvalidInput(f"--agents {folder} is not a folder", code="not_a_folder")
    return [*roots(settings), *(given or ())]


async def _skills_in_force(settings: Settings) -> list[str]:
    async with open_bus(settings, "headstart-agents") as bus:
        return [manifest.name for manifest in (await read_catalog(bus)).in_force()]
