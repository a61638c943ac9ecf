"""The registered skills of the benchmark and the questions that need them, read from data/ as manifests."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final, NamedTuple

from streams.events.registering import SkillManifest
from tests.bench.routing.labelled import DATA, lines

SKILLS: Final = DATA / "skills.txt"
QUESTIONS: Final = DATA / "skill_questions.txt"
DEVELOPMENT: Final = DATA / "skill_development.txt"
URL: Final = "http://skills.example:9/{name}"
_ROW: Final = re.compile(r"(?P<name>[a-z_0-9]+)\((?P<parameters>[^)]*)\) \| (?P<description>[^|]+) \| (?P<examples>.+)")


class Question(NamedTuple):
    """What somebody asks, and the name of the skill that it needs."""

    skill: str
    text: str


def manifests(version: str = "1") -> list[SkillManifest]:
    """Raises ValueError for a line that is not `name(parameters) | description | examples`."""
    found, owner = [], ""
    for line in lines(SKILLS):
        if line.startswith("["):
            owner = line.strip("[]")
            continue
        row = _ROW.fullmatch(line)
        if row is None:
            raise ValueError(f"{SKILLS.name}: {line!r} is not `name(parameters) | description | examples`")
        name = row["name"]
        found.append(
            SkillManifest(
                name=name,
                version=version,
                owner=owner,
                description=row["description"].strip(),
                parameters=_schema(row["parameters"]),
                examples=tuple(row["examples"].split(" | ")),
                url=URL.format(name=name),
                hosts=("skills.example:9",),
            )
        )
    return found


def questions(file: Path) -> list[Question]:
    """The labelled questions of a file."""
    return [Question(*line.split(" | ", 1)) for line in lines(file)]


def _schema(parameters: str) -> dict[str, Any]:
    names = [name.strip() for name in parameters.split(",") if name.strip()]
    return {
        "type": "object",
        "properties": {name.rstrip("?"): {"type": "string"} for name in names},
        "required": [name for name in names if not name.endswith("?")],
        "additionalProperties": False,
    }
