"""One JSON value read as it comes, at the speed of the text.

`read_value` walks containers down to `depth` member by member, so that each is reported the moment it closes; deeper
ones are only scanned for their end and then read at once from the closed slice (json_parts.py). Nothing is looked at
twice:

- In a string only its quote, in a scanned container only its own kind of closing bracket can end anything. Until a
  chunk holds that character, chunks are put aside unread.
- A number closes by what follows it; a literal, string or container by its own last character.

In repair mode a string whose quote proves to be text closes a second time, with its whole value (json_quotes.py).
"""

from __future__ import annotations

import re
from typing import Any, Protocol

import orjson

from workers.toolcalls.decode import string_value
from workers.toolcalls.facts import (
    ArgumentClosed,
    ArgumentsDelta,
    Path,
    Repaired,
    StringPart,
)
from workers.toolcalls.json_parts import captured, key_text, scalar, word
from workers.toolcalls.json_parts import key as read_key
from workers.toolcalls.json_quotes import Quotes
from workers.toolcalls.json_strings import reopened, stands, string
from workers.toolcalls.reader import Ended, Reader, Steps

# A literal closes with its own last character, whatever follows.
_SCALAR = re.compile(r'true|false|null|[^ \t\n\r,\]}{\[":]*').match
_LITERALS = frozenset({"true", "false", "null"})
# Integers from this length on may not fit 64 bits.
_LONG_INTEGER = 19
_SCALAR_STARTS = "-0123456789tfn"

# A key without escapes, and its colon.
_PLAIN_KEY = re.compile(r'"([^"\\\x00-\x1f\ud800-\udfff]*)"[ \t\n\r]*:').match
# A key or number up to this many characters waits in the buffer until it is whole.
_SHORT = 256

_VALUE, _KEY, _COLON, _NEXT = range(4)


class Sink(Protocol):
    """What a value is read for: a call's arguments, or a document of its own."""

    index: int
    json: list[str]
    root: Any
    open_string: tuple[Any, list[str]] | None
    # Keys of the outermost object that are taken as written; None where all are.
    known: frozenset[str] | None

    def parameter(self, key: str, position: int) -> str:
        """The key to take for a key of the outermost object as written."""
        ...


def read_value(reader: Reader, sink: Sink, depth: int) -> Steps:
    """Reads one value from where the reader stands; the reader then stands right behind it. Returns the value.

    `sink.json` receives the value's compact text, `sink.root` the outermost container while it grows. Raises
    Malformed, and Ended when the text ends first and that may not be mended.

    This runs for every few characters, so the common ways through it are flat: keys, strings and numbers that hold
    nothing special are read right here, all else in json_parts.py.
    """
    emit = reader.emit
    mending = reader.repair
    partial = reader.partial
    string_parts = reader.string_parts
    index = sink.index
    told = sink.json.append
    known = sink.known
    waiting = reader.waiting
    depth_limit = reader.limits.depth

    buf, pos, base = reader.buf, reader.pos, reader.base
    bound = reader.bound = base + pos + reader.limits.arguments_size
    # JSON text that was not told yet: the quote of the string before (which may still turn out to be text), and what
    # stands before the next value.
    pending = ""
    stack: list[tuple[Any, Any, bool, Path]] = []
    container: Any = None
    key: Any = None
    is_object = False
    path: Path = ()
    state = _VALUE
    comma = False  # the last thing read in this container was a comma
    value: Any
    text = ""

    while True:
        try:
            while pos >= len(buf) or buf[pos] in " \t\n\r":
                if pos < len(buf):
                    pos += 1
                    continue
                base += pos
                buf, pos = "", 0
                if base > bound:
                    reader.buf, reader.pos, reader.base = "", 0, base
                    reader.hold_to(bound)
                buf = yield
        except Ended as ended:
            reader.buf, reader.pos, reader.base = "", 0, base
            if container is None or not reader.mends_end(ended, index):
                raise
            # A key without a value is dropped; what is open is closed by the brackets that are missing.
            if state != _NEXT:
                if comma or state == _COLON or (state == _VALUE and is_object):
                    pending = pending[:1] if not container or pending[:1] == '"' else ""
                state, comma = _NEXT, False
            kinds = [is_object, *reversed([entry[2] for entry in stack[1:]])]
            buf = "".join("}" if kind else "]" for kind in kinds)
        c = buf[pos]

        if state == _NEXT:
            if c == ",":
                pos += 1
                pending += ","
                comma = True
                state = _KEY if is_object else _VALUE
                continue
            if c != ("}" if is_object else "]"):
                if not mending or c == ":":
                    raise reader.malformed(buf, pos, base, "unexpected_text", f"{c!r} where a comma or an end is due")
                if c not in "}]":
                    emit(Repaired(index, "missing_comma", base + pos))
                    pending += ","
                    comma = True
                    state = _KEY if is_object else _VALUE
                    continue
                emit(Repaired(index, "wrong_bracket", base + pos))
            pos += 1
            pending += "}" if is_object else "]"
            told(pending)
            if partial:
                emit(ArgumentsDelta(index, pending))
            pending = ""
            value = container
            container, key, is_object, path = stack.pop()
        elif state == _KEY:
            if c == "}" and (not comma or mending):
                if comma:
                    emit(Repaired(index, "trailing_comma", base + pos))
                    pending, comma = pending[:-1], False
                state = _NEXT
                continue
            if c == "," and comma and mending:
                emit(Repaired(index, "extra_comma", base + pos))
                pos += 1
                continue
            # A plain key waits in the buffer until its colon has come: before that nothing can close.
            while c == '"' and ":" not in buf and len(buf) - pos < _SHORT:
                if reader.tape is None:
                    reader.quiet = ":"
                try:
                    chunk = yield
                except Ended:
                    reader.quiet = None
                    buf += "".join(waiting)
                    waiting.clear()
                    break
                reader.quiet = None
                base += pos
                buf = buf[pos:] + "".join(waiting) + chunk
                waiting.clear()
                pos = 0
            match = _PLAIN_KEY(buf, pos)
            if match is not None:
                key = match.group(1)
                pending += f'"{key}":'
                pos = match.end()
                if not mending or (key not in container and (known is None or len(stack) > 1 or key in known)):
                    comma = False
                    state = _VALUE
                    continue
                pos -= 1
                state = _COLON
                continue
            state = _COLON
            reader.buf, reader.pos, reader.base = buf, pos, base
            key = yield from read_key(reader, index, c)
            buf, pos, base = reader.buf, reader.pos, reader.base
            pending += key_text(key)
            continue
        elif state == _COLON:
            if c != ":" and not (mending and c == "="):
                raise reader.malformed(buf, pos, base, "unexpected_text", f"{c!r} where a colon is due")
            if c == "=":
                emit(Repaired(index, "equals_sign", base + pos))
            pos += 1
            if mending:
                if len(stack) == 1:
                    named = sink.parameter(key, base + pos)
                    if named is not key:
                        pending = pending.removesuffix(key_text(key)) + key_text(named)
                        key = named
                if key in container:
                    emit(Repaired(index, "duplicate_key", base + pos))
            comma = False
            state = _VALUE
            continue
        elif c == '"':
            pos += 1
            end = buf.find('"', pos)
            text = buf[pos:end]
            if end >= 0 and "\\" not in text and text.isprintable():
                pos = end + 1
                value = text
                pending += f'"{text}'
                told(pending)
                if partial:
                    emit(ArgumentsDelta(index, pending))
                    if text and string_parts:
                        emit(StringPart(index, (*path, key) if container is not None else path, text))
                pending = '"'
            else:
                here = (*path, key) if path or container is not None else ()
                raw: list[str] = []
                pending += '"'
                told(pending)
                if partial:
                    emit(ArgumentsDelta(index, pending))
                pending = '"'
                sink.open_string = (key, raw)
                reader.buf, reader.pos, reader.base = buf, pos, base
                text = yield from string(reader, index, here, raw)
                buf, pos, base = reader.buf, reader.pos, reader.base
                sink.open_string = None
                told(text)
                value = string_value(text)
        elif (c == "{" or c == "[") and len(stack) < depth:
            if len(stack) >= depth_limit:
                raise reader.malformed(buf, pos, base, "too_deep", f"more than {depth_limit} containers deep")
            stack.append((container, key, is_object, path))
            if container is not None and len(stack) > 1:
                path = (*path, key)
            is_object = c == "{"
            container = {} if is_object else []
            if len(stack) == 1:
                sink.root = container
            key = None if is_object else 0
            pos += 1
            pending += c
            comma = False
            state = _KEY if is_object else _VALUE
            continue
        elif c == "]" and stack and not is_object and not (container and not comma) and (not comma or mending):
            if comma:
                emit(Repaired(index, "trailing_comma", base + pos))
                pending, comma = pending[:-1], False
            state = _NEXT
            continue
        elif c == "," and comma and mending:
            emit(Repaired(index, "extra_comma", base + pos))
            pos += 1
            continue
        elif c in ",:]}" or not (mending or c in "{[" or c in _SCALAR_STARTS):
            raise reader.malformed(buf, pos, base, "unexpected_text", f"{c!r} where a value is due")
        else:
            text = ""
            if c in _SCALAR_STARTS:
                # A plain number or literal is short: it waits in the buffer until something follows it.
                while True:
                    match = _SCALAR(buf, pos)
                    assert match is not None
                    end = match.end()
                    text = buf[pos:end]
                    if end < len(buf) or text in _LITERALS or end - pos >= _SHORT:
                        break
                    try:
                        chunk = yield
                    except Ended:
                        text = ""
                        break
                    base += pos
                    buf, pos = text + chunk, 0
            plain = False
            if 0 < len(text) < _LONG_INTEGER:
                try:
                    value = orjson.loads(text)
                    plain = True
                    pos += len(text)
                except orjson.JSONDecodeError:
                    pass  # read again where it can be mended or refused
            if not plain:
                reader.buf, reader.pos, reader.base = buf, pos, base
                if c == "{" or c == "[":
                    value, text = yield from captured(reader, index, len(stack))
                elif c == "'" or c == "“":
                    value = yield from word(reader, index, c)
                    text = key_text(value)[:-1]
                else:
                    value, text = yield from scalar(reader, index, alone=container is None)
                buf, pos, base = reader.buf, reader.pos, reader.base
            pending += text
            told(pending)
            if partial:
                emit(ArgumentsDelta(index, pending))
            pending = ""

        # A value is complete.
        if base + pos > bound:
            reader.buf, reader.pos, reader.base = buf, pos, base
            reader.hold_to(bound)
        if container is None:
            if pending:
                told(pending)
                if partial:
                    emit(ArgumentsDelta(index, pending))
            reader.bound = None
            reader.buf, reader.pos, reader.base = buf, pos, base
            return value
        emit(ArgumentClosed(index, (*path, key) if path else (key,), value))
        if is_object:
            container[key] = value
        else:
            container.append(value)
        if mending and pending and (pos >= len(buf) or buf[pos] not in ",}]"):
            # The quote of this string may be text, as what follows it will show; if so the value closes once more.
            reader.buf, reader.pos, reader.base = buf, pos, base
            members = known if len(stack) == 1 else None
            quotes = Quotes()
            if not (yield from stands(reader, quotes, of_object=is_object, known=members)):
                sink.open_string = (key, raw := [text])
                before = len(text)
                text = yield from reopened(reader, index, (*path, key), raw, quotes, of_object=is_object, known=members)
                sink.open_string = None
                told(text[before:])
                value = container[key] = string_value(text)
                emit(ArgumentClosed(index, (*path, key), value))
            buf, pos, base = reader.buf, reader.pos, reader.base
        if not is_object:
            key += 1
        if is_object and pos < len(buf) and buf[pos] == ",":
            pos += 1
            pending += ","
            comma = True
            state = _KEY
        else:
            comma = False
            state = _NEXT
