"""Strings in JSON, read as they come: in double quotes, and (repair mode) in single or typographic ones.

Each is a grammar step (reader.py) that begins behind the opening quote and leaves the reader right behind the closing
one. When the text ends inside a string, it is taken as closed in repair mode if the model stopped by itself, else
`Ended` goes on.
"""

from __future__ import annotations

import re

from workers.toolcalls import repair
from workers.toolcalls.decode import string_text, string_value
from workers.toolcalls.facts import ArgumentsDelta, Path, Repaired, StringPart
from workers.toolcalls.json_quotes import Quotes, quote_ends
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
# What may stand right behind the quote that ends a string which holds quotes.
_BEHIND_END = frozenset(("", *' \t\r\n,}]"'))
_LONE_SURROGATE = re.compile(r"\\u[dD][89a-fA-F][0-9a-fA-F]{2}").match


def string(reader: Reader, index: int | None, path: Path | None, raw: list[str], *, to_end: bool = True) -> Steps:
    """A string, from behind its opening double quote; returns its JSON text without quotes, in `raw` while it grows.

    With a path and partial facts wanted, what comes is told at once (the closing quote is left to the caller). Unless
    `to_end`, the end of the text does not stand for a missing quote.
    """
    emit = reader.emit
    waiting = reader.waiting
    shown = path if reader.string_parts else None
    live = (index, shown) if path is not None and index is not None and reader.partial else None
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
                if shown is not None:
                    emit(StringPart(live[0], shown, string_value(piece)))
        if end < len(buf):
            if buf[end] == '"':
                reader.pos = end + 1
                return "".join(raw)
            mended = _mended(reader, index)
            if mended is not None:
                raw.append(mended)
                if live is not None:
                    emit(ArgumentsDelta(live[0], mended))
                    if shown is not None:
                        emit(StringPart(live[0], shown, string_value(mended)))
                continue
            # Half of an escape: it waits for the rest.
            try:
                yield from reader.more()
            except Ended as ended:
                _end(reader, ended, index, to_end=to_end)
                reader.pos = len(reader.buf)
                return "".join(raw)
            continue
        reader.hold_to(bound)
        reader.base += end
        reader.buf, reader.pos = "", 0
        try:
            if live is None or reader.tape is not None or reader.hides_tokens:
                chunk = yield from reader.chunk('"' if live is None else None)
            else:
                reader.live = live
                chunk = yield
        except Ended as ended:
            told = reader.live is not None
            reader.quiet = reader.live = None
            reader.buf = _unread(reader, told, raw)
            if reader.buf:
                # Content that was put aside is read now; the end is met again behind it.
                continue
            _end(reader, ended, index, to_end=to_end)
            return "".join(raw)
        told = reader.live is not None
        reader.quiet = reader.live = None
        reader.buf = _unread(reader, told, raw) + chunk if waiting else chunk


def _end(reader: Reader, ended: Ended, index: int | None, *, to_end: bool) -> None:
    """The text ended inside a string: that may stand for its quote, else it is raised."""
    if ended.natural and not to_end:
        raise Malformed(reader.position, "unexpected_text", "a string with quotes in it that never ends")
    if not reader.mends_end(ended, index):
        raise ended


def _unread(reader: Reader, told: bool, raw: list[str]) -> str:
    """The chunks put aside. If they were `told` already they are known to be plain, and none is left to read."""
    held = "".join(reader.waiting)
    reader.waiting.clear()
    if not told:
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


def stands(reader: Reader, quotes: Quotes, *, of_object: bool, known: frozenset[str] | None) -> Steps:
    """Whether the double quote just read ends its string, as json_quotes.py decides; nothing more is read."""
    reader.pos -= 1
    whole = False
    while (
        found := quote_ends(reader.buf, reader.pos + 1, of_object=of_object, known=known, quotes=quotes, whole=whole)
    ) is None:
        try:
            yield from reader.more()
        except Ended as ended:
            if not ended.natural:
                raise
            whole = True
    reader.pos += 1
    return found


def reopened(
    reader: Reader,
    index: int,
    path: Path,
    raw: list[str],
    quotes: Quotes,
    *,
    of_object: bool,
    known: frozenset[str] | None,
) -> Steps:
    """The rest of a string whose closing quote, just read, is text; returns the JSON text of all of it, in `raw` while
    it grows. It ends with a quote that is seen to end it, never with the text.
    """
    ends = False
    text = "".join(raw)
    while not ends:
        quotes.add(text[-1:], reader.buf[reader.pos : reader.pos + 1])
        reader.emit(Repaired(index, "inner_quotes", reader.position - 1))
        raw.append('\\"')
        if reader.partial:
            reader.emit(ArgumentsDelta(index, '\\"'))
            if reader.string_parts:
                reader.emit(StringPart(index, path, '"'))
        text = yield from string(reader, index, path, raw, to_end=False)
        ends = yield from stands(reader, quotes, of_object=of_object, known=known)
    if reader.buf[reader.pos : reader.pos + 1] not in _BEHIND_END:
        raise Malformed(reader.position, "unexpected_text", "a quote that ends a string or begins a key")
    return text


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
