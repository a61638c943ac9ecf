"""Everything that can be wrong with folders of agents, found before they are put to work: each with its file and what
to do about it.

`catalog.load` stops at the first thing that is wrong; this goes on, through all of a folder's files and all folders,
and looks at what loading does not: that prompts render with much to show and with nothing, that what is named exists,
and that what people say to one agent is not said to another as well. Pure, but for reading the files.
"""

from __future__ import annotations

import re
import tomllib
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

from streams.errors import InvalidInput, Misconfigured
from workers.agents.catalog import OUT_OF_SCOPE, AgentOptions, StepOptions
from workers.agents.on_fact import SPEAKING, OnFact, policies, wrong_keys
from workers.agents.prompts import VARIABLES, Prompt
from workers.response.pipeline import make_pipeline

STEPS: Final = ("plan", "answer")
FILES: Final = frozenset({"agent.toml", "utterances.txt", "plan.jinja", "answer.jinja", "rubric.md"})
NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,63}")
FEWEST: Final = 5
"""So few utterances say too little about an agent: its routing can not be told from chance."""
_LISTS: Final = {"history", "recalled", "habits", "skills", "results", "failed", "examples", "facts"}


class Problem(NamedTuple):
    """What is wrong in a file, and what to do."""

    file: Path
    what: str
    do: str

    def __str__(self) -> str:
        return f"{self.file}: {self.what}; {self.do}"


def check(roots: Iterable[Path], models: Collection[str], skills: Collection[str] | None) -> list[Problem]:
    """Every problem of every agent under these folders. models: names that may be used. skills: names that are in
    force; None when nobody knows, and then no name is held against it."""
    folders = [folder for root in roots for folder in sorted(root.iterdir()) if _is_agent(folder)]
    problems = [found for folder in folders for found in check_folder(folder, models, skills)]
    names = Counter(folder.name for folder in folders)
    problems += [
        Problem(folder, f"another agent is named {folder.name!r} too", "rename one of the folders")
        for folder in folders
        if names[folder.name] > 1
    ]
    if folders and OUT_OF_SCOPE not in names:
        problems.append(
            Problem(folders[0].parent, f"no agent is named {OUT_OF_SCOPE!r}", "add one: it answers what no agent takes")
        )
    return problems + _said_to_several(folders)


def check_folder(folder: Path, models: Collection[str], skills: Collection[str] | None) -> list[Problem]:
    """Every problem of one agent, without regard to others."""
    problems = [
        Problem(folder / file.name, "no such file belongs to an agent", f"there are {', '.join(sorted(FILES))}")
        for file in sorted(folder.iterdir())
        if file.name not in FILES and not file.name.startswith((".", "__", "test_"))
    ]
    if not NAME.fullmatch(folder.name):
        problems.append(Problem(folder, "an agent's name is small letters, digits and _", "rename the folder"))
    file = folder / "agent.toml"
    try:
        table = tomllib.loads(file.read_text())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        return [
            *problems,
            Problem(file, f"it can not be read: {error}", "write it as TOML, with a description at least"),
        ]
    return [
        *problems, *_options(file, dict(table), models, skills), *_prompts(folder, table), *_utterances(folder),
        *_rubric(folder),
    ]  # fmt: skip


def _is_agent(folder: Path) -> bool:
    return folder.is_dir() and any((folder / name).exists() for name in FILES)


def _options(
    file: Path, table: dict[str, Any], models: Collection[str], skills: Collection[str] | None
) -> list[Problem]:
    problems = []
    plans = "plan" in table
    for step in STEPS:
        try:
            options = msgspec.convert(table.pop(step, {}), StepOptions)
        except msgspec.ValidationError as error:
            problems.append(Problem(file, f"[{step}]: {error}", f"its fields are {_fields(StepOptions)}"))
            continue
        if options.model and options.model not in models:
            said = f"[{step}] names the model {options.model!r}"
            problems.append(
                Problem(file, said, f"name one of {', '.join(sorted(models))}, or add it to HEADSTART_MODELS")
            )
        if options.max_tokens < 1:
            problems.append(Problem(file, f"[{step}]: max_tokens is {options.max_tokens}", "make it 1 or more"))
    try:
        agent = msgspec.convert(table, AgentOptions)
    except msgspec.ValidationError as error:
        return [*problems, Problem(file, str(error), f"its fields are {_fields(AgentOptions)}")]
    if not agent.description.strip():
        problems.append(Problem(file, "the description is empty", "say in a few words what the agent does"))
    planned = (file.parent / "plan.jinja").exists()
    if planned and not agent.skills:
        problems.append(
            Problem(file, "there is a plan.jinja and no skills to plan with", "name skills, or delete the file")
        )
    if agent.skills and not planned and not plans:
        problems.append(Problem(file, "skills are named and there is no plan.jinja", "write one, or name no skills"))
    if skills is not None:
        for pattern in agent.skills:
            if not any(fnmatchcase(name, pattern) for name in skills):
                near = f"there are {', '.join(sorted(skills)[:12])}" if skills else "none is registered"
                problems.append(Problem(file, f"no skill in force is named {pattern!r}", f"register it first ({near})"))
    problems += [
        Problem(file, f"{name} is {getattr(agent, name)}", "make it 1 or more")
        for name in ("max_skills", "max_calls", "deadline_ms")
        if getattr(agent, name) < 1
    ]
    try:
        _ = make_pipeline(agent.checks)
    except InvalidInput as error:
        problems.append(Problem(file, error.message, "see workers/response for the checks there are"))
    return problems + _policies(file, agent.on_fact)


def _policies(file: Path, on_fact: OnFact) -> list[Problem]:
    problems = [
        Problem(file, f"on_fact names {key!r}, which is no kind of fact and no pattern", "let * stand at its end only")
        for key in wrong_keys(on_fact)
    ]
    answer = file.parent / "answer.jinja"
    if policies(on_fact) & SPEAKING and answer.exists() and not re.search(r"\bfacts\b", answer.read_text()):
        problems.append(Problem(answer, "on_fact has facts told, and it does not show `facts`", "show them"))
    return problems


def _fields(kind: type[msgspec.Struct]) -> str:
    return ", ".join(kind.__struct_fields__)


def _prompts(folder: Path, table: Mapping[str, Any]) -> list[Problem]:
    problems = []
    for step in STEPS:
        file = folder / f"{step}.jinja"
        if not file.exists():
            if step == "answer" or step in table:
                said = f"agent.toml has a table [{step}]" if step in table else "every agent answers"
                problems.append(Problem(file, f"it is missing: {said}", f"write the prompt of the step {step!r}"))
            continue
        try:
            prompt = Prompt(f"{folder.name}/{step}", file.read_text(), step)
            rendered = [prompt.render(**values) for values in (full(step), empty(step))]
        except Misconfigured as error:
            problems.append(Problem(file, error.message, error.hint or "correct the template"))
            continue
        except Exception as error:  # a template may divide by a text, or ask a number for its items
            problems.append(Problem(file, f"it does not render: {error}", "correct the template"))
            continue
        for messages, what in zip(rendered, ("everything is known", "nothing is known"), strict=True):
            if not messages or messages[-1].role != "user":
                problems.append(Problem(file, f"its last message is not the user's when {what}", "end it with @user"))
                break
        if not any(QUESTION in message.content for message in rendered[0]):
            problems.append(Problem(file, "it does not show the question", "put {{ question }} into the last message"))
    return problems


QUESTION: Final = "What is the weather in Rome?"


def full(step: str) -> dict[str, Any]:
    """A value for each variable of a step's prompt, as a turn with a long past has them."""
    values: dict[str, Any] = {
        "question": QUESTION, "summary": "Ada planned a trip.", "instructions": "Be brief.", "today": "2026-01-14",
        "locale": "en-GB", "habits": ["The city is usually Rome."], "failed": ["get_weather"],
        "history": [{"role": "user", "text": "Hello"}, {"role": "assistant", "text": "Hello, Ada."}],
        "recalled": [{"text": "Ada lives in Rome.", "kind": "fact", "score": 0.9, "at_ms": 0}],
        "skills": [{
            "name": "get_weather", "description": "Tells the weather.", "effect": "pure",
            "parameters": [{"name": "city", "type": "string", "required": True, "description": "city"}],
        }],
        "results": [{"skill": "get_weather", "result": "city Rome, mean_c 12"}],
        "examples": [{"question": "And in Oslo?", "answer": "It snows in Oslo."}],
        "facts": [{"kind": "order.shipped", "text": "Order A-17 has left.", "service": "orders", "at_ms": 0}],
    }  # fmt: skip
    return {name: values.get(name, "") for name in VARIABLES[step]}


def empty(step: str) -> dict[str, Any]:
    """The same for a turn without any past or result."""
    known = {"question": QUESTION, "today": "2026-01-14"}
    return {name: known.get(name, [] if name in _LISTS else "") for name in VARIABLES[step]}


def _utterances(folder: Path) -> list[Problem]:
    file = folder / "utterances.txt"
    if not file.exists():
        wanted = "examples of what no agent takes" if folder.name == OUT_OF_SCOPE else "what people say to this agent"
        return [Problem(file, "it is missing, so nothing is routed to it", f"write {wanted}, one per line")]
    said = spoken(file)
    problems = []
    if len(said) < FEWEST:
        problems.append(Problem(file, f"it has {len(said)} utterances", f"write {FEWEST} or more, in varied words"))
    for text, times in Counter(_folded(text) for text in said).items():
        if times > 1:
            problems.append(Problem(file, f"{text!r} stands there {times} times", "keep it once"))
    return problems


def spoken(file: Path) -> list[str]:
    """The utterances of a file, as the catalog reads them."""
    return [line.strip() for line in file.read_text().splitlines() if line.strip() and not line.startswith("#")]


def _said_to_several(folders: Sequence[Path]) -> list[Problem]:
    """Utterances of more than one agent; those of OUT_OF_SCOPE are not meant to be anybody else's either."""
    heard: dict[str, Path] = {}
    problems = []
    for folder in folders:
        file = folder / "utterances.txt"
        for text in dict.fromkeys(spoken(file) if file.exists() else ()):
            first = heard.setdefault(_folded(text), file)
            if first != file:
                problems.append(Problem(file, f"{text!r} stands in {first} too", "keep it where it belongs"))
    return problems


def _folded(text: str) -> str:
    """The text without what does not tell two of them apart: case, spaces, marks at its end."""
    return " ".join(text.casefold().split()).rstrip(".!?")


def _rubric(folder: Path) -> list[Problem]:
    file = folder / "rubric.md"
    if file.exists() and file.read_text().strip():
        return []
    return [Problem(file, "it is missing or empty", "say what a good answer of this agent is")]
