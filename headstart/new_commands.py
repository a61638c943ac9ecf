"""`headstart new skill | agent NAME`: a working one with its test, to begin from."""

from __future__ import annotations

import keyword
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from string import Template
from typing import Annotated, Final

import typer

from streams.errors import InvalidInput, Refused
from workers.agents.catalog import SHIPPED, load_all

STARTERS: Final = Path(__file__).parent / "starters"
_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,63}")
_TEMPLATES: Final = ".txt"  # a starter's file `x.py.txt` becomes `x.py`, its names filled in; others stay as they are
Name = Annotated[str, typer.Argument(help="lower-case letters, digits and _, a letter first")]
Into = Annotated[Path, typer.Option(help="the folder in which its own folder is made")]


def register(app: typer.Typer) -> None:
    """Adds `headstart new`."""
    commands = typer.Typer(no_args_is_help=True, help="Begin a skill or an agent: a working one with its test.")
    commands.command("skill")(skill)
    commands.command("agent")(agent)
    app.add_typer(commands, name="new")


def skill(
    name: Name,
    service: Annotated[str, typer.Option(help="the service that owns it; unset: as the skill")] = "",
    into: Into = Path(),
) -> None:
    """Write a service with one skill, and its test."""
    _check(name)
    files = {"service.py.txt": f"{name}.py", "test_service.py.txt": f"test_{name}.py"}
    folder = write(STARTERS / "skill", into / name, files, {"name": name, "service": service or name})
    sys.stdout.write(f"{folder}\n  pytest {folder}      # its test\n  python {folder / name}.py    # serves it\n")


def agent(name: Name, into: Into = Path()) -> None:
    """Write an agent's folder, and its test."""
    _check(name)
    if name in load_all([SHIPPED]):
        raise Refused(f"there is an agent {name} among those that ship", code="name_taken")
    starter = STARTERS / "agent"
    files = {file.name: file.name for file in sorted(starter.iterdir()) if file.suffix in (".toml", ".jinja", ".md")}
    files |= {"utterances.txt": "utterances.txt", "test_agent.py.txt": f"test_{name}.py"}
    folder = write(starter, into / name, files, {"name": name})
    sys.stdout.write(
        f"{folder}\n  pytest {folder}      # its test\n"
        f"  headstart agents check --agents {folder.parent}    # beside those that ship\n"
    )


def write(starter: Path, folder: Path, files: Mapping[str, str], names: Mapping[str, str]) -> Path:
    """Makes a folder of a starter's files, each under its new name. Raises Refused (`folder_exists`) where something
    stands already; nothing is written then."""
    if folder.exists():
        raise Refused(f"{folder} is there already", code="folder_exists", hint="choose another name, or --into")
    texts = {}
    for source, target in files.items():
        text = (starter / source).read_text()
        texts[target] = Template(text).substitute(names) if source.endswith(f".py{_TEMPLATES}") else text
    folder.mkdir(parents=True)
    for target, text in texts.items():
        (folder / target).write_text(text)
    return folder


def _check(name: str) -> None:
    if not _NAME.fullmatch(name) or keyword.iskeyword(name):
        raise InvalidInput(
            f"{name!r} is no name", code="invalid_name", hint="lower-case letters, digits and _, a letter first"
        )
