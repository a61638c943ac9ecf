"""Arguments in other notations than JSON: one top-level value at a time, from open text.

A `Notation` says how strings are quoted and how the text of a closed value is read. Strings close at their quote,
containers at their bracket, everything else by what follows.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from workers.toolcalls.reader import Ended, Malformed, Reader, Steps

_SCALAR_END = re.compile(r"[,\]}\)\n]")


@dataclass(frozen=True)
class Notation:
    """`marks` finds quotes, brackets and escapes; `quotes` are those that open a string (which the same one closes).

    `value` reads the whole text of a container, `scalar` that of anything that is neither string nor container. Both
    raise ValueError or Malformed. `half` is the longest mark that a cut can leave unfinished.
    """

    marks: re.Pattern[str]
    quotes: tuple[str, ...]
    value: Callable[[str, int, int, Reader], Any]
    scalar: Callable[[str, int, int, Reader], Any]
    half: Callable[[str], int]


def read_container(reader: Reader, index: int, notation: Notation) -> Steps:
    """A container, from its opening bracket; returns its value."""
    limits = reader.limits
    start = reader.position
    pieces: list[str] = []
    quote = ""
    nested = 0
    while True:
        buf, pos = reader.buf, reader.pos
        hold = notation.half(buf)
        hold = len(buf) if hold < pos else hold
        for match in notation.marks.finditer(buf, pos, hold):
            mark = match.group()
            if quote:
                if mark == quote:
                    quote = ""
            elif mark in notation.quotes:
                quote = mark
            elif mark in "{[(":
                nested += 1
                if nested > limits.depth:
                    reader.pos = match.end()
                    raise Malformed(reader.position, "too_deep", f"more than {limits.depth} containers deep")
            elif mark in "}])":
                nested -= 1
                if not nested:
                    pieces.append(buf[pos : match.end()])
                    reader.pos = match.end()
                    return _value(notation.value, "".join(pieces), start, index, reader)
        pieces.append(buf[pos:hold])
        reader.pos = hold
        if reader.position - start > limits.arguments_size:
            raise Malformed(start, "too_large", f"more than {limits.arguments_size} characters in a container")
        try:
            yield from reader.more()
        except Ended as ended:
            if not reader.mends_end(ended, index):
                raise
            pieces.append(reader.buf[reader.pos :])
            reader.pos = len(reader.buf)
            return _value(notation.value, "".join(pieces), start, index, reader)


def read_scalar(reader: Reader, index: int, notation: Notation) -> Steps:
    """A number, literal or bare word; returns its value."""
    start = reader.position
    limit = reader.limits.arguments_size
    pieces: list[str] = []
    while True:
        match = _SCALAR_END.search(reader.buf, reader.pos)
        end = len(reader.buf) if match is None else match.start()
        pieces.append(reader.buf[reader.pos : end])
        reader.pos = end
        if match is not None:
            break
        if reader.position - start > limit:
            raise Malformed(start, "too_large", f"more than {limit} characters in a value")
        try:
            yield from reader.more()
        except Ended as ended:
            if not reader.mends_end(ended, index):
                raise
            break
    return _value(notation.scalar, "".join(pieces).strip(), start, index, reader)


def _value(read: Callable[[str, int, int, Reader], Any], text: str, start: int, index: int, reader: Reader) -> Any:
    try:
        return read(text, start, index, reader)
    except (ValueError, SyntaxError, RecursionError, MemoryError) as error:
        raise Malformed(start, "invalid_value", f"{text[:60]!r}: {error}") from None
