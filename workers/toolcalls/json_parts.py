"""The parts of JSON below the walk over its containers, read as they come: a container that is only scanned, a number
or literal, a key, a value that is read past.

Each is a grammar step (reader.py): it starts where the reader stands and leaves it right behind what it read. When the
text ends inside one, it is taken as closed in repair mode if the model stopped by itself, else `Ended` goes on.
"""

from __future__ import annotations

import re
from itertools import islice
from typing import Any

from workers.toolcalls import repair
from workers.toolcalls.decode import compact, dumps, loads, scalar_value, string_text, string_value
from workers.toolcalls.facts import Repaired
from workers.toolcalls.json_strings import curly_quoted, single_quoted, string
from workers.toolcalls.reader import Ended, Malformed, Reader, Steps

_MARKS = re.compile(r'\\.|["{}\[\]]', re.DOTALL)
_MARKS_REPAIR = re.compile(r"\\.|[\"'{}\[\]]", re.DOTALL)
# How much of the text that is here is looked at in one go: at first, and at most.
_WINDOW_MIN = 64
_WINDOW_MAX = 65_536
_LAST_BACKSLASHES = re.compile(r"\\*\Z").search
# A literal closes with its own last character, whatever follows.
_SCALAR = re.compile(r'true|false|null|[^ \t\n\r,\]}{\[":]*').match
_LOOSE_SCALAR = re.compile(r"[^,\]}\n]*").match
_KEY_RUN = re.compile(r"[ \t\n\r:=,}\]{\[\"']")
# Each container whose end was hidden has the rest of the text looked at once more.
REREADS_MAX = 16
_LITERALS = frozenset({"true", "false", "null"})
_LONGEST_LITERAL = 5


def captured(reader: Reader, index: int | None, level: int) -> Steps:
    """A container, from its opening bracket, of which only the end is looked for; returns its value and compact
    text.
    """
    limits = reader.limits
    waiting = reader.waiting
    marks = _MARKS_REPAIR if reader.repair else _MARKS
    start = reader.position
    bound = reader.bound_from_here()
    closer = "}" if reader.buf[reader.pos] == "{" else "]"
    pieces: list[str] = []
    nested = 0
    quote = ""
    held = ""  # a backslash at the end of a chunk, whose escape is cut
    window = _WINDOW_MIN
    while True:
        buf, pos = reader.buf, reader.pos
        # What is here already is looked at in growing parts: the container may end long before it.
        end = min(pos + window, len(buf))
        window = min(2 * window, _WINDOW_MAX)
        segment = held + buf[pos:end]
        before, held = len(held), ""
        if segment.endswith("\\"):
            tail = _LAST_BACKSLASHES(segment)
            assert tail is not None
            if (len(segment) - tail.start()) % 2:
                segment, held = segment[:-1], "\\"
        count = 0
        for mark in marks.findall(segment):
            count += 1
            if quote:
                if mark == quote:
                    quote = ""
            elif mark == '"' or mark == "'":
                quote = mark
            elif mark in "{[":
                nested += 1
                if nested + level > limits.depth:
                    reader.pos = pos + _end_of(marks, segment, count) - before
                    raise Malformed(start, "too_deep", f"more than {limits.depth} containers deep")
            elif mark in "}]":
                nested -= 1
                if not nested:
                    break
        if not nested:
            closed = _end_of(marks, segment, count)
            pieces.append(segment[:closed])
            reader.pos = pos + closed - before
            break
        pieces.append(segment)
        reader.pos = end
        if end < len(buf):
            continue
        reader.base += end
        reader.buf, reader.pos = "", 0
        reader.hold_to(bound)
        try:
            reader.buf = yield from reader.chunk(closer)
        except Ended as ended:
            reader.quiet = None
            if waiting:
                # Text that was put aside is looked at now; the end is met again behind it.
                reader.buf = "".join(waiting)
                waiting.clear()
                continue
            pieces.append(held)
            if not reader.mends_end(ended, index, quietly=True):
                raise
            return _mended(reader, "".join(pieces), start, index, limits.depth - level, ended)
        reader.quiet = None
        if waiting:
            reader.buf = "".join((*waiting, reader.buf))
            waiting.clear()
    text = "".join(pieces)
    try:
        value = loads(text)
        return value, compact(text, value)
    except ValueError as error:
        if not reader.repair:
            at = start + getattr(error, "pos", 0)
            raise Malformed(at, "invalid_json", str(error).split(":")[0]) from None
    return _mended(reader, text, start, index, limits.depth - level, None)


def _end_of(marks: re.Pattern[str], segment: str, count: int) -> int:
    """Where the mark of this number (from 1) ends."""
    return next(islice(marks.finditer(segment), count - 1, None)).end()


def _mended(
    reader: Reader, text: str, start: int, index: int | None, depth: int, ended: Ended | None
) -> tuple[Any, str]:
    """The value and text of a container that is broken (repair mode). Where an odd quote in one of its strings hid its
    end, `text` goes on behind it, and that is still to be read. `ended`: no bracket closed it before the text's end.
    """
    value, used = repair.loads_first(text, start, index, reader.emit, depth)
    if used < len(text):
        if reader.rereads >= REREADS_MAX:
            raise Malformed(start + used, "invalid_json", "too many containers with odd quotes")
        reader.rereads += 1
        reader.buf = text[used:] + reader.buf[reader.pos :]
        reader.pos, reader.base = 0, start + used
    elif ended is not None:
        reader.mends_end(ended, index)
    return value, dumps(value)


def scalar(reader: Reader, index: int | None, *, alone: bool = False) -> Steps:
    """A number, literal or (repair mode) bare word; returns its value and JSON text.

    Where it stands `alone`, the end of the text closes it; inside something else only what follows it does.
    """
    start = reader.position
    parts: list[str] = []
    size = 0
    bound = reader.bound_from_here()
    pattern = _SCALAR
    while True:
        match = pattern(reader.buf, reader.pos)
        assert match is not None
        end = match.end()
        parts.append(reader.buf[reader.pos : end])
        size += end - reader.pos
        reader.pos = end
        ended = end < len(reader.buf) or parts[0] in _LITERALS
        if not ended:
            reader.hold_to(bound)
            try:
                if size < _LONGEST_LITERAL:
                    # It may still become a literal: it is looked at once more.
                    reader.pos -= size
                    yield from reader.more()
                    parts.clear()
                    size = 0
                    continue
                chunk = yield from reader.chunk(None)
                reader.base += end
                reader.buf, reader.pos = chunk, 0
                continue
            except Ended as end_of_text:
                reader.pos = len(reader.buf)
                if not end_of_text.natural or not (alone or reader.repair):
                    raise
        text = "".join(parts)
        try:
            return scalar_value(text), text
        except ValueError as error:
            if not reader.repair:
                code = "number_too_long" if text.lstrip("-").isdigit() else "invalid_value"
                raise Malformed(start, code, str(error)) from None
        if text in repair.WORDS:
            rule, value = repair.WORDS[text]
            reader.emit(Repaired(index, rule, start))
            return value, dumps(value)
        if ended and pattern is _SCALAR:
            pattern = _LOOSE_SCALAR
            continue
        text = text.strip()
        if not text:
            raise Malformed(start, "invalid_value", "a value is missing")
        reader.emit(Repaired(index, "unquoted_value", start))
        return text, dumps(text)


def word(reader: Reader, index: int | None, c: str) -> Steps:
    """A string in double quotes, or (repair mode) in single ones, from its opening quote `c`; returns its value."""
    if c == "'" and reader.repair:
        reader.emit(Repaired(index, "single_quotes", reader.position))
        reader.pos += 1
        return (yield from single_quoted(reader, index))
    if c == "“" and reader.repair:
        reader.emit(Repaired(index, "curly_quotes", reader.position))
        reader.pos += 1
        return (yield from curly_quoted(reader, index))
    if c != '"':
        raise Malformed(reader.position, "unexpected_text", f"{c!r} where a string is due")
    reader.pos += 1
    return string_value((yield from string(reader, index, None, [])))


def key(reader: Reader, index: int | None, c: str) -> Steps:
    """An object's key, from its first character `c`; in repair mode also a bare one. Returns its value."""
    if c in "\"'“" or not reader.repair:
        return (yield from word(reader, index, c))
    if c in ",:[]{}":
        raise Malformed(reader.position, "unexpected_text", f"{c!r} where a key is due")
    reader.emit(Repaired(index, "unquoted_key", reader.position))
    try:
        return (yield from reader.name(_KEY_RUN))
    except Ended as ended:
        if not reader.mends_end(ended, index):
            raise
        return ""


def skipped(reader: Reader, index: int | None) -> Steps:
    """Any value, which is read past; returns it."""
    c = yield from reader.space()
    if c in "\"'" or (c == "“" and reader.repair):
        return (yield from word(reader, index, c))
    if c in "{[":
        return (yield from captured(reader, index, 1))[0]
    if c in ",:}]":
        raise Malformed(reader.position, "unexpected_text", f"{c!r} where a value is due")
    return (yield from scalar(reader, index))[0]


def key_text(value: Any) -> str:
    """The JSON text of an object key and its colon."""
    return f'"{string_text(value)}":'
