"""References: an argument that is the result of an earlier call of the same plan.

    $1.items[0].id        the first call's result, its member `items`, there the first element, there the member `id`
    $2["first name"]      a member whose name is not an identifier, as a JSON string
    $1                    the whole result of the first call

Calls are numbered from 1 in the order the plan names them. A reference is a *whole* string anywhere in the arguments;
nothing is ever replaced inside a longer text, so that a note about "$1.50" stays a note. Three more rules make every
string mean one thing:

- `$n` without a path is a reference only where an earlier call n exists ("$20" in a first call is a price).
- `$n` with a path is a reference always; to a call that is not earlier it is an error, never sent as text.
- a string that starts with `$$` is text and loses one `$`.

Pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec
import orjson

from streams.errors import InvalidInput
from workers.skills.schema_check import path_text

NUMBER_DIGITS: Final = 2  # a plan has at most 99 calls
_STEP: Final = r"""(?:\.[A-Za-z_][A-Za-z0-9_]*|\[(?:0|[1-9][0-9]{0,5})\]|\["(?:[^"\\\x00-\x1f]|\\.)*"\])"""
PATTERN: Final = rf"^\$[1-9][0-9]{{0,{NUMBER_DIGITS - 1}}}{_STEP}*$"
GRAMMAR_PATTERN: Final = r"^\$[1-9][0-9]?(\.[A-Za-z_][A-Za-z0-9_]*|\[(0|[1-9][0-9]?)\])+$"
"""What a constrained model may write: always with a path, members by identifier only, indexes below 100."""
_REFERENCE: Final = re.compile(rf"\$([1-9][0-9]{{0,{NUMBER_DIGITS - 1}}})({_STEP}*)")
_STEPS: Final = re.compile(_STEP)

Step = str | int


class Reference(msgspec.Struct, frozen=True):
    """One reference found in a call's arguments.

    argument: where it stands (parameter name first). call: index of the call it names, from 0. steps: into its result.
    """

    argument: tuple[Step, ...]
    call: int
    steps: tuple[Step, ...]

    @property
    def text(self) -> str:
        """The reference as a plan writes it, numbered from 1."""
        return f"${self.call + 1}" + "".join(_step_text(step) for step in self.steps)


def find(arguments: Mapping[str, Any], call: int | None = None) -> tuple[Reference, ...]:
    """The references in a call's arguments, in reading order.

    call: the index of the call that holds them, from 0; None when it is not known, then every `$n` counts as one.
    Raises InvalidInput (`reference_not_earlier`) for `$n` with a path where call n does not come before.
    """
    return tuple(
        reference
        for path, value in _strings(arguments, ())
        if (reference := _read(value, path, call)) is not None
    )  # fmt: skip


def resolve(arguments: Mapping[str, Any], results: Mapping[int, str], call: int | None = None) -> dict[str, Any]:
    """The arguments with every reference replaced by what it means; a new dict, `arguments` is left as it is.

    results: JSON text of each answered call's result by call index, as `call.answered` holds it.
    Raises InvalidInput: `reference_not_earlier`; `reference_unanswered` when the named call has no result;
    `reference_unreadable` when its result is not whole JSON (it was cut); `reference_not_found` when the result has
    nothing at that path. `facts` name the argument, the reference and, for the last, the step that failed.
    """
    parsed: dict[int, Any] = {}
    return {name: _replace(value, (name,), results, parsed, call) for name, value in arguments.items()}


def _strings(value: Any, path: tuple[Step, ...]) -> Iterator[tuple[tuple[Step, ...], str]]:
    if isinstance(value, str):
        if value.startswith("$"):
            yield path, value
    elif isinstance(value, Mapping):
        for name, member in value.items():
            yield from _strings(member, (*path, name))
    elif isinstance(value, list | tuple):
        for index, element in enumerate(value):
            yield from _strings(element, (*path, index))


def _read(text: str, path: tuple[Step, ...], call: int | None) -> Reference | None:
    match = _REFERENCE.fullmatch(text)
    if match is None:
        return None
    target = int(match[1]) - 1
    steps = tuple(_step(step) for step in _STEPS.findall(match[2]))
    if call is not None and target >= call:
        if not steps:
            return None
        raise InvalidInput(
            f"argument {path_text(path)[1:]} refers to call {target + 1}, which does not come before this one",
            code="reference_not_earlier", hint="a call may use results of calls above it",
            argument=path_text(path)[1:], call=call,
        )  # fmt: skip
    return Reference(path, target, steps)


def _step(text: str) -> Step:
    if text[0] == ".":
        return text[1:]
    if text[1] == '"':
        try:
            return str(orjson.loads(text[1:-1]))
        except orjson.JSONDecodeError:
            return text[2:-2]
    return int(text[1:-1])


def _replace(
    value: Any, path: tuple[Step, ...], results: Mapping[int, str], parsed: dict[int, Any], call: int | None
) -> Any:
    if isinstance(value, str):
        if not value.startswith("$"):
            return value
        if value.startswith("$$"):
            return value[1:]
        reference = _read(value, path, call)
        return value if reference is None else _follow(reference, results, parsed)
    if isinstance(value, Mapping):
        return {name: _replace(member, (*path, name), results, parsed, call) for name, member in value.items()}
    if isinstance(value, list | tuple):
        return [_replace(element, (*path, index), results, parsed, call) for index, element in enumerate(value)]
    return value


def _follow(reference: Reference, results: Mapping[int, str], parsed: dict[int, Any]) -> Any:
    facts = {"argument": path_text(reference.argument)[1:], "reference": reference.text}
    if reference.call not in parsed:
        if reference.call not in results:
            raise InvalidInput(
                f"{reference.text} has no result to refer to", code="reference_unanswered", **facts
            )  # fmt: skip
        try:
            parsed[reference.call] = orjson.loads(results[reference.call])
        except orjson.JSONDecodeError as error:
            raise InvalidInput(
                f"the result that {reference.text} refers to is not whole", code="reference_unreadable", **facts
            ) from error
    here = parsed[reference.call]
    for depth, step in enumerate(reference.steps):
        found = (isinstance(here, dict) and isinstance(step, str) and step in here) or (
            isinstance(here, list) and isinstance(step, int) and step < len(here)
        )
        if not found:
            raise InvalidInput(
                f"{reference.text} names something the result does not have",
                code="reference_not_found", step=depth, **facts,
            )  # fmt: skip
        here = here[step]
    return here


def _step_text(step: Step) -> str:
    if isinstance(step, int):
        return f"[{step}]"
    if step.isidentifier() and step.isascii():
        return f".{step}"
    return f"[{orjson.dumps(step).decode()}]"
