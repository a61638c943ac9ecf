"""A regression suite: a folder of recordings, each with what is expected of it beside it.

    NAME.jsonl.gz   the turns as they should come out
    NAME.toml       note, and what an answer of a live model must and must not say

Run in stub mode with the agents of this build, a case says whether prompts and code still decide what they decided.
Run with a live model, it says whether the answers still say what they must.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path

import msgspec

from headstart.replay.files import read_recording, write_recording
from headstart.replay.recording import Recording
from headstart.replay.steps import steps_of
from headstart.replay.turns import turn_logs
from streams.errors import InvalidInput, NotFound

ENDING = ".jsonl.gz"


class Expected(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """NAME.toml. says, lacks: texts that the last turn's answer has, and has not, letter case aside. calls: skills
    that it calls, in any order."""

    note: str = ""
    says: tuple[str, ...] = ()
    lacks: tuple[str, ...] = ()
    calls: tuple[str, ...] = ()


class Case(msgspec.Struct, frozen=True):
    name: str
    recording: Recording
    expected: Expected


def add(folder: Path, name: str, recording: Recording, expected: Expected) -> None:
    """Writes a case, over one of the same name. Raises InvalidInput for a name that is no file's."""
    if not name.replace("-", "").replace("_", "").isalnum():
        raise InvalidInput(f"{name!r} is no name for a case", hint="letters, digits, - and _")
    folder.mkdir(parents=True, exist_ok=True)
    write_recording(recording, folder / f"{name}{ENDING}")
    lines = [f"{field} = {_toml(getattr(expected, field))}" for field in expected.__struct_fields__]
    (folder / f"{name}.toml").write_text("\n".join(lines) + "\n")


def cases(folder: Path) -> Iterator[Case]:
    """The cases of a suite, by name. Raises NotFound for a folder without any, InvalidInput for a wrong case."""
    files = sorted(folder.glob(f"*{ENDING}"))
    if not files:
        raise NotFound(f"there is no case in {folder}", hint="`headstart suite add` makes one")
    for file in files:
        name = file.name.removesuffix(ENDING)
        beside = file.with_name(f"{name}.toml")
        try:
            table = tomllib.loads(beside.read_text()) if beside.exists() else {}
            expected = msgspec.convert(table, Expected)
        except (tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
            raise InvalidInput(f"{beside}: {error}", code="invalid_case") from error
        yield Case(name, read_recording(file), expected)


def unmet(case: Case, result: Recording) -> list[str]:
    """What a run does not do that was expected of it, in words; [] when all is as it should be."""
    turns = [steps_of(turn) for turn in turn_logs(result.events)]
    if not turns:
        return ["no turn came of it"]
    last = turns[-1]
    answer = last.answer.lower()
    missing = [f"the answer does not say {text!r}" for text in case.expected.says if text.lower() not in answer]
    missing += [f"the answer says {text!r}" for text in case.expected.lacks if text.lower() in answer]
    called = {call.skill.partition("@")[0] for call in last.calls}
    return missing + [f"{skill} is not called" for skill in case.expected.calls if skill not in called]


def _toml(value: str | tuple[str, ...]) -> str:
    """JSON's strings and lists of strings are TOML's, too."""
    return msgspec.json.encode(value).decode()
