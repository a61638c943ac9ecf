"""The arguments that the parsers are measured on, and where each of their values closes."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import count

import orjson

DELTA = 4
FIRST = '"limit": 120, "city": "Oslo", '
# Sizes of the comparison, and of the line through ours.
SIZES = {"0.5 KB": 500, "20 KB": 20_000, "500 KB": 500_000}
LINE_SIZES = (80_000, 250_000, 800_000, 2_500_000, 8_000_000)


@dataclass(frozen=True)
class Payload:
    """`text` is an object whose first member is the number `limit`. All of it is ASCII: characters are bytes."""

    shape: str
    size: str
    text: str

    @property
    def deltas(self) -> list[str]:
        return cut(self.text)


def cut(text: str) -> list[str]:
    return [text[start : start + DELTA] for start in range(0, len(text), DELTA)]


def dense(size: int) -> str:
    """A list of small objects."""
    item = '{"id": 1234, "name": "Anna Berg", "tags": ["a", "b"], "score": 0.75, "open": true}, '
    return "{" + FIRST + '"rows": [' + (item * max(1, (size - 60) // len(item)))[:-2] + "]}"


def long_string(size: int) -> str:
    words = "the quick brown fox jumps over the lazy dog and runs on, "
    return "{" + FIRST + '"content": "' + (words * (size // len(words) + 1))[: max(1, size - 60)] + '"}'


def tiny_members(size: int) -> str:
    """Nothing but short members of the outermost object."""
    members: list[str] = []
    length = 0
    while length < size - 60:
        number = len(members)
        members.append(f'"k{number}": {number}' if number % 2 else f'"k{number}": "v{number}"')
        length += len(members[-1]) + 2
    return "{" + FIRST + ", ".join(members) + "}"


def small_lists(size: int) -> str:
    """Nothing but short lists as members of the outermost object."""
    items = (f'"k{number}": [{number}, "x"]' for number in count())
    members: list[str] = []
    length = 0
    while length < size - 60:
        members.append(next(items))
        length += len(members[-1]) + 2
    return "{" + FIRST + ", ".join(members) + "}"


SHAPES = {
    "dense": dense,
    "one long string": long_string,
    "tiny members": tiny_members,
    "small lists": small_lists,
}
# Those that all parsers are compared on.
COMPARED = ("dense", "one long string", "tiny members")


def payloads(sizes: dict[str, int] = SIZES) -> list[Payload]:
    return [Payload(shape, name, SHAPES[shape](size)) for name, size in sizes.items() for shape in COMPARED]


def closings(text: str, start: int) -> dict[str, int]:
    """By member, the place of the first character that shows that its value is complete; `start` is the object's.

    That is the last character of a string, container or literal, and the character behind a number.
    """
    found: dict[str, int] = {}
    depth = 0
    key: str | None = None
    at = start
    number = False
    while at < len(text):
        c = text[at]
        if c == '"':
            end = at + 1
            while text[end] != '"':
                end += 2 if text[end] == "\\" else 1
            if depth == 1 and key is None:
                key = orjson.loads(text[at : end + 1])
            elif depth == 1 and key is not None:
                found[key], key = end, None
            at = end
        elif c in "{[":
            depth += 1
        elif c in "}],":
            if depth == 1 and key is not None and number:
                found[key], key, number = at, None, False
            depth -= c != ","
            if depth == 1 and c != "," and key is not None:
                found[key], key = at, None
            if not depth:
                break
        elif depth == 1 and key is not None and c in "-0123456789":
            number = True
        at += 1
    return found
