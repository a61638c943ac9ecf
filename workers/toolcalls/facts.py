"""What the parser reports: small, frozen facts in the order of the text that made them.

The facts of one text do not depend on how it was cut into chunks, once neighbouring partial facts are merged (`merge`).

- `Text` and `Reasoning` are what the model says beside its calls.
- A call is opened once its name is known, its arguments close one by one, and it ends either closed or void.
- `ArgumentClosed` is final: a value is reported when the text shows that it cannot grow any more, never before. Only a
  text that breaks its format can take that back, by closing the same path again.
- `StringPart` and `ArgumentsDelta` are partial: for showing a call while it is written, never for firing it.

Values are trees of JSON, so a fact is never part of a reference cycle and the collector need not know of it.
`position` counts characters from the start of the model's output. Calls are numbered from 0 in the order of opening.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeAlias

import msgspec

Path: TypeAlias = tuple[str | int, ...]


class Text(msgspec.Struct, frozen=True, gc=False):
    """Words for the reader, outside calls and reasoning. Never empty."""

    text: str


class Reasoning(msgspec.Struct, frozen=True, gc=False):
    """Words the model wrote to itself, without the markers around them. Never empty."""

    text: str


class CallOpened(msgspec.Struct, frozen=True, gc=False):
    """A call has a name. `position` is where the call's text began."""

    call: int
    name: str
    position: int


class StringPart(msgspec.Struct, frozen=True, gc=False):
    """A further piece of a string argument that is still open, unescaped. Never half of a character."""

    call: int
    path: Path
    text: str


class ArgumentsDelta(msgspec.Struct, frozen=True, gc=False):
    """The next piece of the call's arguments as JSON. All pieces of a closed call, joined, are its `arguments_json`."""

    call: int
    text: str


class ArgumentClosed(msgspec.Struct, frozen=True, gc=False):
    """An argument (path of length 1) has its final value. Longer paths lie inside an argument that may still be open.

    A key that the model writes twice closes twice, and so does, in repair mode, a string whose quote proves to be text;
    the later value counts.
    """

    call: int
    path: Path
    value: Any


class CallClosed(msgspec.Struct, frozen=True, gc=False):
    """The call is complete. `arguments_json` is compact JSON of `arguments`."""

    call: int
    name: str
    arguments: dict[str, Any]
    arguments_json: str


class CallVoided(msgspec.Struct, frozen=True, gc=False):
    """The call will never be complete: what was reported of it must not count. `reason` is an error code or
    `cut_off`.
    """

    call: int
    reason: str


class Repaired(msgspec.Struct, frozen=True, gc=False):
    """A named rule (rules.py) mended the text at `position`. `call` is None where no call was open."""

    call: int | None
    rule: str
    position: int


class ParseError(msgspec.Struct, frozen=True, gc=False):
    """The text at `position` is not what the format allows, and no rule mends it. `code` is stable, `message` is
    for people.
    """

    position: int
    code: str
    message: str


Fact: TypeAlias = (
    Text
    | Reasoning
    | CallOpened
    | StringPart
    | ArgumentsDelta
    | ArgumentClosed
    | CallClosed
    | CallVoided
    | Repaired
    | ParseError
)


class Limits(msgspec.Struct, frozen=True):
    """Bounds on what one model output may hold; beyond them a call is void with an error (`too_deep`, `too_large`,
    `too_many_calls`, `name_too_long`). Sizes are in characters of JSON text."""

    depth: int = 64
    arguments_size: int = 16 * 1024 * 1024
    name_size: int = 256
    calls: int = 128


class CallSnapshot(msgspec.Struct, frozen=True):
    """A call as far as it is known: `arguments` holds the closed ones and, under its key, the text so far of a string
    that is still open. For showing only: an open value may go on."""

    name: str
    arguments: dict[str, Any]
    closed: bool


def merge(facts: Iterable[Fact]) -> list[Fact]:
    """The same facts with neighbouring partial ones joined, so that two ways of cutting a text can be compared.

    Between two facts that are not partial, the pieces of one kind, call and path become one fact, at the place of the
    first.
    """
    merged: list[Fact] = []
    run: dict[tuple[Any, ...], list[str]] = {}

    def flush() -> None:
        for key, texts in run.items():
            merged.append(key[0](*key[1:], "".join(texts)))
        run.clear()

    for fact in facts:
        if isinstance(fact, Text | Reasoning):
            run.setdefault((type(fact),), []).append(fact.text)
        elif isinstance(fact, StringPart):
            run.setdefault((StringPart, fact.call, fact.path), []).append(fact.text)
        elif isinstance(fact, ArgumentsDelta):
            run.setdefault((ArgumentsDelta, fact.call), []).append(fact.text)
        else:
            flush()
            merged.append(fact)
    flush()
    return merged
