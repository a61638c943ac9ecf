"""The three long things in JSON, read as they come: a string, a container that is only scanned, a number or literal.

Each is a grammar step (reader.py): it starts where the reader stands and leaves it right behind what it read. When the
text ends inside one, it is taken as closed in repair mode if the model stopped by itself, else `Ended` goes on.
"""

from __future__ import annotations

import re
from typing import Any

from workers.toolcalls import repair
from workers.toolcalls.decode import compact, dumps, loads, scalar_value, string_text, string_value
from workers.toolcalls.facts import ArgumentsDelta, Path, Repaired, StringPart
from workers.toolcalls.reader import Ended, Malformed, Reader, Steps

# A stretch of string content that is valid as it stands; an escaped high surrogate only together with its low one.
_PIECE = re.compile(
    r'[^"\\\x00-\x1f\ud800-\udfff]*(?:\\(?:["\\/bfnrt]|u(?:[0-9a-ce-fA-CE-F][0-9a-fA-F]{3}|[dD][0-7][0-9a-fA-F]{2}'
    r'|[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}))[^"\\\x00-\x1f\ud800-\udfff]*)*'
).match
# The beginning of an escape that further text may complete.
_HALF_ESCAPE = re.compile(
    r"\\(?:u(?:[0-9a-fA-F]{0,3}|[dD][89abAB][0-9a-fA-F]{2}(?:\\(?:u(?:[dD](?:[c-fC-F][0-9a-fA-F]?)?)?)?)?)?)?"
).fullmatch
_LONE_SURROGATE = re.compile(r"\\u[dD][89a-fA-F][0-9a-fA-F]{2}").match
_MARKS = re.compile(r'\\.|["{}\[\]]', re.DOTALL)
_MARKS_REPAIR = re.compile(r"\\.|[\"'{}\[\]]", re.DOTALL)
_LAST_BACKSLASHES = re.compile(r"\\*\Z").search
_SCALAR = re.compile(r'[^ \t\n\r,\]}{\[":]*').match
_LOOSE_SCALAR = re.compile(r"[^,\]}\n]*").match
_KEY_RUN = re.compile(r"[ \t\n\r:=,}\]{\[\"']")
_LITERALS = frozenset({"true", "false", "null"})
_LONGEST_LITERAL = 5


def string(reader: Reader, index: int | None, path: Path | None, raw: list[str]) -> Steps:
    """A string, from behind its opening double quote; returns its JSON text without quotes, in `raw` while it grows.

    With a path and partial facts wanted, what comes is told at once (the closing quote too).
    """
    emit = reader.emit
    waiting = reader.waiting
    told = path if reader.string_parts else None
    live = (index, told) if path is not None and index is not None and reader.partial else None
    bound = reader.bound_from_here()
    while True:
        buf, pos = reader.buf, reader.pos
        match = _PIECE(buf, pos)
        assert match is not None
        end = match.end()
        if end > pos:
            piece = buf[pos:end]
            raw.append(piece)
            reader.pos = end
            if live is not None:
                emit(ArgumentsDelta(live[0], piece))
                if told is not None:
                    emit(StringPart(live[0], told, string_value(piece)))
        if end < len(buf):
            if buf[end] == '"':
                reader.pos = end + 1
                return "".join(raw)
            mended = _mended(reader, index)
            if mended is not None:
                raw.append(mended)
                if live is not None:
                    emit(ArgumentsDelta(live[0], mended))
                    if told is not None:
                        emit(StringPart(live[0], told, string_value(mended)))
                continue
            # Half of an escape: it waits for the rest.
            try:
                yield from reader.more()
            except Ended as ended:
                if not reader.mends_end(ended, index):
                    raise
                reader.pos = len(reader.buf)
                return "".join(raw)
            continue
        reader.hold_to(bound)
        reader.base += end
        reader.buf, reader.pos = "", 0
        reader.live = live
        try:
            chunk = yield from reader.chunk('"')
        except Ended as ended:
            reader.quiet = None
            reader.buf = _unread(reader, live is not None, raw)
            if reader.buf:
                # Content that was put aside is read now; the end is met again behind it.
                continue
            if not reader.mends_end(ended, index):
                raise
            return "".join(raw)
        reader.quiet = None
        reader.buf = _unread(reader, live is not None, raw) + chunk if waiting else chunk


def _unread(reader: Reader, live: bool, raw: list[str]) -> str:
    """The chunks put aside. While `live` they were told already and are known to be plain, so that none is left to
    read.
    """
    held = "".join(reader.waiting)
    reader.waiting.clear()
    if not live:
        return held
    raw.append(held)
    reader.base += len(held)
    return ""


def _mended(reader: Reader, index: int | None) -> str | None:
    """What stands for the character at the reader that no valid piece begins with; None where more text is needed.

    The character, or the escape it begins, is consumed.
    """
    buf, pos = reader.buf, reader.pos
    if buf[pos] >= "\ud800":
        # Half a character that came as itself: kept as its escape, so that the text can be written anywhere.
        if reader.repair:
            reader.emit(Repaired(index, "lone_surrogate", reader.position))
        reader.pos += 1
        return "\N{REPLACEMENT CHARACTER}" if reader.repair else string_text(buf[pos])
    if buf[pos] != "\\":
        if not reader.repair:
            raise Malformed(reader.position, "control_character", f"{buf[pos]!r} must be escaped in a string")
        reader.emit(Repaired(index, "control_character", reader.position))
        reader.pos += 1
        return string_text(buf[pos])
    if _HALF_ESCAPE(buf, pos) is not None:
        return None
    lone = _LONE_SURROGATE(buf, pos)
    if lone is not None:
        at = reader.position
        reader.pos = lone.end()
        if not reader.repair:
            return lone.group()
        reader.emit(Repaired(index, "lone_surrogate", at))
        return "\N{REPLACEMENT CHARACTER}"
    if not reader.repair:
        raise Malformed(reader.position, "invalid_escape", f"{buf[pos : pos + 2]!r} is no escape")
    reader.emit(Repaired(index, "invalid_escape", reader.position))
    # An escaped quote or line end of another language means that character; any other backslash means itself.
    if buf[pos + 1] in "'`\n":
        reader.pos += 2
        return string_text(buf[pos + 1])
    reader.pos += 1
    return "\\\\"


def single_quoted(reader: Reader, index: int | None) -> Steps:
    """A string in single quotes, from behind the opening one (repair mode only); returns its value.

    A quote ends it unless a letter or digit follows, so that an apostrophe inside a word is text.
    """
    parts: list[str] = []
    while True:
        buf, pos = reader.buf, reader.pos
        end = pos
        while end < len(buf) and buf[end] not in "'\\":
            end += 1
        parts.append(buf[pos:end])
        reader.pos = end
        following = buf[end + 1 : end + 2]
        if following:
            if buf[end] == "'":
                reader.pos = end + 1
                if not following.isalnum():
                    return "".join(parts)
                parts.append("'")
                continue
            if following != "u" or len(buf) - end >= 6:
                used, text = repair.escape(buf, end)
                parts.append(text)
                reader.pos = end + used
                continue
        try:
            yield from reader.more()
        except Ended as ended:
            if not reader.mends_end(ended, index, quietly=buf[end : end + 1] == "'"):
                raise
            reader.pos = len(reader.buf)
            return "".join(parts)


def curly_quoted(reader: Reader, index: int | None) -> Steps:
    """A string in typographic quotes, from behind the opening one (repair mode only); returns its value."""
    parts: list[str] = []
    while True:
        buf, pos = reader.buf, reader.pos
        end = buf.find("”", pos)
        if end >= 0:
            parts.append(buf[pos:end])
            reader.pos = end + 1
            break
        parts.append(buf[pos:])
        reader.pos = len(buf)
        try:
            yield from reader.more()
        except Ended as ended:
            if not reader.mends_end(ended, index):
                raise
            break
    text = "".join(parts)
    mended: list[str] = []
    at = 0
    while (found := text.find("\\", at)) >= 0:
        mended.append(text[at:found])
        used, piece = repair.escape(text, found)
        mended.append(piece)
        at = found + used
    return "".join((*mended, text[at:]))


def captured(reader: Reader, index: int | None, level: int) -> Steps:
    """A container, from its opening bracket, of which only the end is looked for; returns its value and compact
    text.
    """
    limits = reader.limits
    waiting = reader.waiting
    findall = (_MARKS_REPAIR if reader.repair else _MARKS).findall
    start = reader.position
    bound = reader.bound_from_here()
    closer = "}" if reader.buf[reader.pos] == "{" else "]"
    pieces: list[str] = []
    nested = 0
    quote = ""
    segment = reader.buf[reader.pos :]
    reader.base += reader.pos
    reader.buf, reader.pos = "", 0
    complete = True
    while True:
        held = ""
        if segment.endswith("\\"):
            tail = _LAST_BACKSLASHES(segment)
            assert tail is not None
            if (len(segment) - tail.start()) % 2:
                segment, held = segment[:-1], "\\"
        count = 0
        for mark in findall(segment):
            count += 1
            if quote:
                if mark == quote:
                    quote = ""
            elif mark == '"' or mark == "'":
                quote = mark
            elif mark in "{[":
                nested += 1
                if nested + level > limits.depth:
                    raise Malformed(start, "too_deep", f"more than {limits.depth} containers deep")
            elif mark in "}]":
                nested -= 1
                if not nested:
                    break
        if not nested:
            marks = (_MARKS_REPAIR if reader.repair else _MARKS).finditer(segment)
            for _ in range(count - 1):
                next(marks)
            end = next(marks).end()
            pieces.append(segment[:end])
            reader.base += end
            reader.buf, reader.pos = segment[end:] + held, 0
            break
        pieces.append(segment)
        reader.base += len(segment)
        reader.hold_to(bound)
        reader.live = None
        try:
            chunk = yield from reader.chunk(closer)
        except Ended as ended:
            reader.quiet = None
            pieces.extend((held, *waiting))
            reader.base += len(held) + sum(map(len, waiting))
            waiting.clear()
            if not reader.mends_end(ended, index):
                raise
            complete = False
            break
        reader.quiet = None
        if waiting:
            segment = held + "".join(waiting) + chunk
            waiting.clear()
        else:
            segment = held + chunk if held else chunk
    text = "".join(pieces)
    try:
        if complete:
            value = loads(text)
            return value, compact(text, value)
    except ValueError as error:
        if not reader.repair:
            at = start + getattr(error, "pos", 0)
            raise Malformed(at, "invalid_json", str(error).split(":")[0]) from None
    value = repair.loads(text, start, index, reader.emit, limits.depth - level)
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
        ended = end < len(reader.buf) or (size <= _LONGEST_LITERAL and "".join(parts) in _LITERALS)
        if not ended:
            reader.hold_to(bound)
            try:
                chunk = yield from reader.chunk(None)
                reader.base += end
                reader.buf, reader.pos = chunk, 0
                continue
            except Ended as end_of_text:
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
