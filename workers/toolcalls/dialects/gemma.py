"""Gemma 4: `<|tool_call>call:NAME{key:<|"|>text<|"|>,other:3}<tool_call|>`, reasoning in `<|channel>thought …
<channel|>`.

Strings stand raw between `<|"|>`; keys are bare and may hold spaces; numbers and literals are as in JSON.
"""

from __future__ import annotations

import re
from typing import Any

from workers.toolcalls.calls import OpenCall, guarded
from workers.toolcalls.coerce import STRING
from workers.toolcalls.decode import dumps, loads, scalar_value
from workers.toolcalls.dialects.base import Dialect, Session, skip_past
from workers.toolcalls.facts import Reasoning, Repaired, Text
from workers.toolcalls.markup import RawValue
from workers.toolcalls.notation import Notation, read_container, read_scalar
from workers.toolcalls.prose import Prose, Stops
from workers.toolcalls.reader import Ended, Malformed, Reader, Steps
from workers.toolcalls.repair import WORDS
from workers.toolcalls.repair import loads as mend

_CALL, _CALL_END = "<|tool_call>", "<tool_call|>"
_CHANNEL, _CHANNEL_END = "<|channel>", "<channel|>"
_QUOTE = '<|"|>'
_OPENERS = Stops(_CALL, _CHANNEL)
_NAME_END = re.compile(r"[{<\n]")
_KEY_END = re.compile(r"[:{}\[\]]")
_STRING_END = Stops(_QUOTE)
_BARE_KEY = re.compile(r"([{,]\s*)([^\s{}\[\],:\"][^{}\[\],:\"]*?)\s*:")


def _as_json(text: str) -> str:
    """The notation's text as JSON: every other part between quotes is a string, in the others keys are bare."""
    parts = text.split(_QUOTE)
    return "".join(
        dumps(part) if number % 2 else _BARE_KEY.sub(lambda m: m.group(1) + dumps(m.group(2)) + ":", part)
        for number, part in enumerate(parts)
    )


def _container(text: str, start: int, index: int, reader: Reader) -> Any:
    written = _as_json(text)
    try:
        return loads(written)
    except ValueError:
        if not reader.repair:
            raise
    return mend(written, start, index, reader.emit, reader.limits.depth)


def _scalar(text: str, start: int, index: int, reader: Reader) -> Any:
    try:
        return scalar_value(text)
    except ValueError:
        if not reader.repair or not text:
            raise
    rule, value = WORDS.get(text, ("unquoted_value", text.strip('"')))
    reader.emit(Repaired(index, rule, start))
    return value


NOTATION = Notation(
    marks=re.compile(r'<\|"\|>|[{}\[\]]'),
    quotes=(_QUOTE,),
    value=_container,
    scalar=_scalar,
    half=lambda text: _STRING_END.held(text, 0),
)


def _arguments(reader: Reader, call: OpenCall) -> Steps:
    """The arguments' object, from its opening brace."""
    yield from reader.expect("{")
    call.begin()
    while True:
        try:
            c = yield from reader.space()
        except Ended as ended:
            if not reader.mends_end(ended, call.index):
                raise
            break
        if c == "}":
            reader.pos += 1
            break
        if c == "," and call.root:
            reader.pos += 1
            yield from reader.space()
        if (yield from reader.literal(_QUOTE)) is not None:
            key = yield from reader.name(re.compile("<"))
            yield from reader.expect(_QUOTE)
            yield from reader.space()
        else:
            key = (yield from reader.name(_KEY_END)).strip().strip('"')
        yield from reader.expect(":")
        yield from _value(reader, call, key)
    call.end()


def _value(reader: Reader, call: OpenCall, key: str) -> Steps:
    c = yield from reader.space()
    if (yield from reader.literal(_QUOTE)) is not None:
        value = RawValue(reader, call, key, STRING)
        try:
            yield from value.until(_STRING_END)
        except Ended as ended:
            if not reader.mends_end(ended, call.index):
                raise
            value.put(reader.buf[reader.pos :])
            reader.pos = len(reader.buf)
        value.close()
        return
    key = call.parameter(key, reader.position)
    if c in "{[":
        call.argument(key, (yield from read_container(reader, call.index, NOTATION)))
    else:
        call.argument(key, (yield from read_scalar(reader, call.index, NOTATION)))


def _call(reader: Reader, session: Session, start: int) -> Steps:
    yield from reader.space()
    yield from reader.expect("call:")
    name = yield from reader.name(_NAME_END)
    if reader.buf[reader.pos] != "{":
        raise Malformed(reader.position, "unexpected_text", "a call without arguments")
    call = session.calls.open(name.strip(), start)
    yield from _arguments(reader, call)
    session.calls.close(call)
    return True


def _grammar(reader: Reader, session: Session) -> Steps:
    words = Prose(reader, Text, strip=False)
    thinking = session.opened(_CHANNEL, _CHANNEL_END)
    while True:
        if not thinking:
            marker = yield from words.until(_OPENERS)
            if marker == _CALL:
                start = reader.position - len(_CALL)
                yield from guarded(reader, session.calls, _call(reader, session, start))
                yield from skip_past(reader, Stops(_CALL_END))
                continue
            yield from reader.literal("thought")
        thinking = False
        yield from Prose(reader, Reasoning, strip=True).until(Stops(_CHANNEL_END))


DIALECT = Dialect(
    "gemma",
    _grammar,
    models=(r"gemma",),
    special_tokens=(_CALL, _CALL_END, _QUOTE, _CHANNEL, _CHANNEL_END),
)
