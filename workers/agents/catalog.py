"""Reads agents from their folders. A folder is all there is to an agent:

    agent.toml        description, skills, what becomes of services' facts, and per step: model, prompt, sampling
    utterances.txt    what people say to it, one per line; the router's examples
    plan.jinja        the plan prompt (absent when the agent never calls skills)
    answer.jinja      the answer prompt
    rubric.md         what a good answer is, for evaluation

Everything is read and checked once, at start; a wrong folder is a `Misconfigured` that names the file.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from streams.errors import Misconfigured
from workers.agents.on_fact import OnFact
from workers.agents.prompts import Prompt

SHIPPED = Path(__file__).parent
OUT_OF_SCOPE = "out_of_scope"  # a folder, but never a route's target: its prompts answer what no agent takes


class StepOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table [plan] or [answer] of agent.toml. model "": the stack's default model."""

    model: str = ""
    max_tokens: int = 256
    temperature: float = 0.0
    top_p: float = 1.0
    stop: tuple[str, ...] = ()


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One model call of an agent."""

    prompt: Prompt
    options: StepOptions = StepOptions()


class AgentOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """agent.toml, less the tables of its steps. Fields as in `Agent`."""

    description: str
    skills: tuple[str, ...] = ()
    checks: tuple[str, ...] = ("secrets",)
    max_skills: int = 6
    skill_ratio: float = 0.0
    max_calls: int = 6
    deadline_ms: int = 120_000
    history_turns: int = 8
    history_tokens: int = 512
    recall_tokens: int = 256
    example_tokens: int = 160
    on_fact: OnFact = "remember"


class Agent(msgspec.Struct, frozen=True, kw_only=True):
    """skills: names the plan may use; ("*",) all that discovery finds; () the agent never plans.

    checks: names of the in-stream checks its answers pass (workers/response). max_skills: how many discovered skills go
    into the plan's prompt and schema; skill_ratio: only those at least this share as near as the nearest one.
    max_calls: the longest plan. deadline_ms: for the whole turn. history_turns, history_tokens, recall_tokens,
    example_tokens: how much of the past (workers/planning/context.py).
    on_fact: what a fact that a service publishes for the member does (workers/agents/on_fact.py).
    """

    name: str
    description: str
    utterances: tuple[str, ...]
    answer: Step
    plan: Step | None = None
    skills: tuple[str, ...] = ()
    checks: tuple[str, ...] = ("secrets",)
    max_skills: int = 6
    skill_ratio: float = 0.0
    max_calls: int = 6
    deadline_ms: int = 120_000
    history_turns: int = 8
    history_tokens: int = 512
    recall_tokens: int = 256
    example_tokens: int = 160
    on_fact: OnFact = "remember"
    rubric: str = ""


def load(folder: Path) -> Agent:
    """One agent. Raises Misconfigured naming the file and what was expected."""
    file = folder / "agent.toml"
    table = _table(file)
    steps = {step: table.pop(step, {}) for step in ("plan", "answer")}
    rubric = folder / "rubric.md"
    try:
        options = msgspec.convert(table, AgentOptions)
        return Agent(
            name=folder.name,
            utterances=tuple(_lines(folder / "utterances.txt")),
            answer=_step(folder, "answer", steps["answer"]),
            plan=_step(folder, "plan", steps["plan"]) if (folder / "plan.jinja").exists() else None,
            rubric=rubric.read_text() if rubric.exists() else "",
            **msgspec.structs.asdict(options),
        )
    except msgspec.ValidationError as error:
        raise Misconfigured(f"{file}: {error}") from error


def load_all(roots: Iterable[Path] = (SHIPPED,)) -> dict[str, Agent]:
    """Every agent under the given folders, by name. Raises Misconfigured when two share a name or none is there."""
    agents: dict[str, Agent] = {}
    for root in roots:
        for file in sorted(root.glob("*/agent.toml")):
            agent = load(file.parent)
            if agent.name in agents:
                raise Misconfigured(f"two agents are named {agent.name!r}", hint="rename one of the folders")
            agents[agent.name] = agent
    if OUT_OF_SCOPE not in agents:
        raise Misconfigured(f"no agent folder named {OUT_OF_SCOPE!r}", hint="it answers what no agent takes")
    return agents


def _step(folder: Path, step: str, options: Mapping[str, Any]) -> Step:
    file = folder / f"{step}.jinja"
    if not file.exists():
        raise Misconfigured(f"{file} is missing", hint=f"an agent needs a prompt for its step {step!r}")
    prompt = Prompt(f"{folder.name}/{step}", file.read_text(), step)
    return Step(prompt=prompt, options=msgspec.convert(dict(options), StepOptions))


def _table(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text())
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise Misconfigured(f"{file}: {error}") from error


def _lines(file: Path) -> list[str]:
    if not file.exists():
        return []
    return [line.strip() for line in file.read_text().splitlines() if line.strip() and not line.startswith("#")]
