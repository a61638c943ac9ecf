"""Llama 3 and 4: a call object in plain JSON, the same behind `<|python_tag|>`, or a list of calls as Python writes
them.

Without a marker only the shape tells a call from an answer, so text that may be one is held until that is certain: a
JSON object is a call once it has a name and its arguments begin, a list once a name and a parenthesis follow its
bracket. A list of calls is one expression: its calls close together, with its bracket.
"""

from __future__ import annotations

import ast
import re
from typing import Any

from workers.toolcalls.calls import OpenCall, guarded
from workers.toolcalls.dialects.base import Dialect, Session, skip_to
from workers.toolcalls.envelope import read_call, read_list
from workers.toolcalls.facts import ParseError, Repaired, Text
from workers.toolcalls.notation import Notation, read_container, read_scalar
from workers.toolcalls.prose import Prose, Stops
from workers.toolcalls.reader import Ended, Malformed, Reader, Steps
from workers.toolcalls.repair import WORDS
from workers.toolcalls.repair import loads as mend

_TAGS = ("<|python_tag|>", "<|python_start|>")
_SILENT = ("<|python_end|>", "<|eom_id|>", "<|eot_id|>", "<|eom|>", "<|eot|>")
_STOPS = Stops(*_TAGS, *_SILENT)
_TAG_STOPS = Stops(*_TAGS)
_PYTHONIC = re.compile(r"\[[ \t\r\n]{0,64}[A-Za-z_][\w.-]{0,255}\(").match
_MAYBE_PYTHONIC = re.compile(r"\[[ \t\r\n]{0,64}(?:[A-Za-z_][\w.-]{0,255})?\Z").match
_JSON_LIST = re.compile(r'\[[ \t\r\n]{0,64}\{[ \t\r\n]{0,64}"name"').match
_MAYBE_JSON_LIST = re.compile(r'\[[ \t\r\n]{0,64}(?:\{[ \t\r\n]{0,64}(?:"(?:n(?:a(?:me?)?)?)?)?)?\Z').match
_NAME_END = re.compile(r"[(]")
_KEY_END = re.compile(r"[=,()\[\]{}'\"]")


def _plain(value: Any) -> Any:
    """A Python literal as JSON knows it. Raises ValueError for what it does not know."""
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {key if isinstance(key, str) else str(key): _plain(item) for key, item in value.items()}
    if value is None or isinstance(value, str | bool | int | float):
        return value
    raise ValueError(f"{type(value).__name__} is no JSON value")


def _container(text: str, start: int, index: int, reader: Reader) -> Any:
    try:
        return _plain(ast.literal_eval(text))
    except (ValueError, SyntaxError):
        if not reader.repair:
            raise ValueError("no Python literal") from None
    return mend(text, start, index, reader.emit, reader.limits.depth)


def _scalar(text: str, start: int, index: int, reader: Reader) -> Any:
    if reader.repair and text in ("true", "false", "null"):
        reader.emit(Repaired(index, "json_literal", start))
        return {"true": True, "false": False, "null": None}[text]
    try:
        return _plain(ast.literal_eval(text))
    except (ValueError, SyntaxError):
        if not reader.repair or not text:
            raise ValueError("no Python literal") from None
    rule, value = WORDS.get(text, ("unquoted_value", text))
    reader.emit(Repaired(index, rule, start))
    return value


def _half(text: str) -> int:
    backslashes = len(text) - len(text.rstrip("\\"))
    return len(text) - backslashes % 2


NOTATION = Notation(
    marks=re.compile(r"\\.|[\"'{}\[\]()]", re.DOTALL), quotes=('"', "'"), value=_container, scalar=_scalar, half=_half
)


def _string(reader: Reader, index: int) -> Steps:
    """A quoted string, from its quote; returns its value."""
    start = reader.position
    quote = reader.buf[reader.pos]
    pieces = [quote]
    reader.pos += 1
    end = re.compile(r"\\.|" + quote, re.DOTALL)
    while True:
        buf, pos = reader.buf, reader.pos
        hold = max(_half(buf), pos)
        for match in end.finditer(buf, pos, hold):
            if match.group() == quote:
                pieces.append(buf[pos : match.end()])
                reader.pos = match.end()
                return _string_value("".join(pieces), start)
        pieces.append(buf[pos:hold])
        reader.pos = hold
        if reader.position - start > reader.limits.arguments_size:
            raise Malformed(start, "too_large", f"more than {reader.limits.arguments_size} characters in a string")
        try:
            yield from reader.more()
        except Ended as ended:
            if not reader.mends_end(ended, index):
                raise
            reader.pos = len(reader.buf)
            return _string_value("".join(pieces) + quote, start)


def _string_value(text: str, start: int) -> str:
    # Line ends may stand in a model's string; Python wants three quotes for that, or an escape.
    written = text.replace("\n", "\\n").replace("\r", "\\r") if "\n" in text or "\r" in text else text
    try:
        value = ast.literal_eval(written)
    except (ValueError, SyntaxError) as error:
        raise Malformed(start, "invalid_value", f"{text[:60]!r}: {error}") from None
    assert isinstance(value, str)
    return value


def _arguments(reader: Reader, call: OpenCall) -> Steps:
    """Keyword arguments, from behind the opening parenthesis."""
    call.begin()
    while True:
        c = yield from reader.space()
        if c == ")":
            reader.pos += 1
            break
        if c == ",":
            reader.pos += 1
            continue
        key = (yield from reader.name(_KEY_END)).strip()
        yield from reader.expect("=")
        key = call.parameter(key, reader.position)
        c = yield from reader.space()
        if c in "\"'":
            value = yield from _string(reader, call.index)
        elif c in "[{(":
            value = yield from read_container(reader, call.index, NOTATION)
        else:
            value = yield from read_scalar(reader, call.index, NOTATION)
        call.argument(key, value)
    call.end()


def _pythonic(reader: Reader, session: Session) -> Steps:
    """A list of calls, from its bracket."""
    yield from reader.expect("[")
    written: list[OpenCall] = []
    try:
        while True:
            c = yield from reader.space()
            if c == "]":
                reader.pos += 1
                break
            if c == ",":
                reader.pos += 1
                continue
            start = reader.position
            name = (yield from reader.name(_NAME_END)).strip()
            yield from reader.expect("(")
            call = session.calls.open(name, start)
            written.append(call)
            try:
                yield from _arguments(reader, call)
            except Ended as ended:
                if not reader.mends_end(ended, call.index):
                    raise
                call.end()
    except Ended as ended:
        if not written or not reader.mends_end(ended, None):
            raise
    for call in written:
        session.calls.close(call)
    return True


def _list_kind(reader: Reader) -> Steps:
    """Which list of calls begins at the reader's bracket: its steps, or None for words."""
    while True:
        buf, pos = reader.buf, reader.pos
        if _PYTHONIC(buf, pos) is not None:
            return _pythonic
        if _JSON_LIST(buf, pos) is not None:
            return _json_list
        if _MAYBE_PYTHONIC(buf, pos) is None and _MAYBE_JSON_LIST(buf, pos) is None:
            return None
        yield from reader.more()


def _json_list(reader: Reader, session: Session) -> Steps:
    yield from read_list(reader, session.calls)
    return True


def _object(reader: Reader, session: Session) -> Steps:
    """A JSON object that may be a call. True if it was one; what is none is left unread, back to what is recorded."""
    calls = session.calls
    try:
        called = yield from read_call(reader, calls, sniff=True)
    except Malformed as error:
        if reader.tape is not None:
            reader.rewind()
            return False
        reader.reset()
        reader.emit(ParseError(error.position, error.code, error.message))
        calls.void_open(error.code)
        yield from skip_to(reader, _TAG_STOPS)
        return True
    except Ended:
        if reader.tape is not None:
            reader.rewind()
            return False
        calls.void_open("cut_off")
        raise
    if not called:
        reader.rewind()
    return called


def _call_here(reader: Reader, session: Session, *, after_call: bool) -> Steps:
    """Whether a call stands here, which is then read. What is none is left unread.

    Behind a call, what only separates it from the next is dropped.
    """
    reader.record()
    steps = None
    try:
        c = yield from reader.space()
        while after_call and c in ";,":
            reader.pos += 1
            c = yield from reader.space()
        if c == "[":
            steps = yield from _list_kind(reader)
    except Ended:
        if not after_call or reader.buf[reader.pos :]:
            reader.rewind()
        return False
    if c == "{":
        if after_call:
            reader.record()
        return (yield from _object(reader, session))
    if steps is None:
        reader.rewind()
        return False
    reader.forget()
    if (yield from guarded(reader, session.calls, steps(reader, session))) is None:
        yield from skip_to(reader, _TAG_STOPS)
    return True


def _grammar(reader: Reader, session: Session) -> Steps:
    words = Prose(reader, Text, strip=False)
    after_call = False
    while True:
        # A call may begin at the start, behind a tag, and behind another call.
        if (yield from _call_here(reader, session, after_call=after_call)):
            after_call = True
            continue
        after_call = False
        while (yield from words.until(_STOPS)) not in _TAGS:
            pass


DIALECT = Dialect(
    "llama",
    _grammar,
    models=(r"llama",),
    special_tokens=(*_TAGS, *_SILENT),
)
