"""The labelled turns and the agents they are routed over: read from data/, the agents written as folders.

A turn's label is an agent's name or `none`. What a set of agents does not have is left out of it, so the turns of the
larger set's agents are no test of the shipped ones.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

from workers.agents.catalog import SHIPPED, Agent, load_all

DATA: Final = Path(__file__).with_name("data")
HELD_OUT: Final = DATA / "held_out.txt"
DEVELOPMENT: Final = DATA / "development.txt"
AGENTS: Final = DATA / "agents.txt"
NONE: Final = "none"
_ANSWER: Final = """\
@system
You {description}. Answer in one or two short sentences. Use only the results. Today is {{{{ today }}}}.
@user
{{{{ question }}}}
{{% for result in results %}}
{{{{ result.skill }}}}: {{{{ result.result }}}}
{{% endfor %}}
"""


class Turn(NamedTuple):
    """What somebody says, and who takes it (`none`: nobody)."""

    agent: str
    text: str


def lines(file: Path) -> list[str]:
    """The lines that say something."""
    return [line.strip() for line in file.read_text().splitlines() if line.strip() and not line.startswith("#")]


def turns(file: Path) -> list[Turn]:
    """Raises ValueError for a line that is not `agent | text`."""
    found = []
    for line in lines(file):
        agent, bar, text = line.partition(" | ")
        if not bar:
            raise ValueError(f"{file.name}: {line!r} is not `agent | text`")
        found.append(Turn(agent, text))
    return found


def of_set(every: Sequence[Turn], agents: Sequence[str]) -> list[Turn]:
    """Those that one of these agents takes, and those that none of any set does."""
    return [turn for turn in every if turn.agent in agents or turn.agent == NONE]


def sample(every: Sequence[Turn], size: int, seed: int) -> list[Turn]:
    """That many of them, always the same for a seed."""
    return random.Random(seed).sample(list(every), min(size, len(every)))


def shipped_set() -> dict[str, Agent]:
    """The agents that ship."""
    return load_all()


def larger_set(root: Path) -> dict[str, Agent]:
    """The agents that ship and those of data/agents.txt, which are written into `root` as folders first."""
    write_folders(root)
    return load_all([SHIPPED, root])


def write_folders(root: Path) -> list[str]:
    """A folder for each agent of data/agents.txt; gives their names."""
    said: dict[str, list[str]] = {}
    descriptions: dict[str, str] = {}
    name = ""
    for line in lines(AGENTS):
        if line.startswith("["):
            name, _, descriptions[name] = (part.strip() for part in line[1:].partition("]"))
            said[name] = []
        else:
            said[name].append(line)
    for name, utterances in said.items():
        folder = root / name
        folder.mkdir(parents=True)
        (folder / "agent.toml").write_text(f'description = "{descriptions[name]}"\n')
        (folder / "utterances.txt").write_text("".join(f"{text}\n" for text in utterances))
        (folder / "answer.jinja").write_text(_ANSWER.format(description=descriptions[name]))
        (folder / "rubric.md").write_text("A good answer uses the results only and says what is missing.\n")
    return list(said)
