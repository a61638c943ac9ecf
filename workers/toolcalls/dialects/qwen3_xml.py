"""Qwen3-Coder and Qwen3.5+: `<tool_call><function=NAME><parameter=KEY>value</parameter></function></tool_call>`.

Values are raw text; one line end on each side of a value is markup. Where a value stands on lines of its own, its
closing marker counts at the start of a line, or where the next marker of the call follows it; elsewhere in a value it
is text. Models leave out `<tool_call>` before `<function=` and `</parameter>` before the next marker; both are taken
as written.
"""

from __future__ import annotations

import re

from workers.toolcalls.calls import OpenCall, guarded
from workers.toolcalls.dialects.base import Dialect, Session, skip_past
from workers.toolcalls.facts import ParseError, Reasoning, Repaired, Text
from workers.toolcalls.markup import RawValue
from workers.toolcalls.prose import Prose, Stops
from workers.toolcalls.reader import Ahead, Ended, Malformed, Reader, Steps

_CALL, _CALL_END = "<tool_call>", "</tool_call>"
_FUNCTION, _FUNCTION_END = "<function=", "</function>"
_PARAMETER, _PARAMETER_END = "<parameter=", "</parameter>"
_THINK, _THINK_END = "<think>", "</think>"
_NAME_END = re.compile(r"[>\n]")
_OPENERS = Stops(_CALL, _FUNCTION, _THINK)
_IN_THINK = Stops(_CALL, _THINK_END)
_LINES = Stops("\n" + _PARAMETER_END, "\n" + _PARAMETER, "\n" + _FUNCTION_END, _PARAMETER_END)
_INLINE = Stops(_PARAMETER_END)
_NEXT = Ahead(_PARAMETER, _FUNCTION_END)
_END_NEXT = Ahead(_CALL_END)
_FUNCTION_NEXT = Ahead(_FUNCTION)


def _value(reader: Reader, call: OpenCall, key: str) -> Steps:
    """One value; returns the marker that ended it beyond its own: nothing, `<parameter=` or `</function>`."""
    if not reader.buf[reader.pos :]:
        yield from reader.more()
    value = RawValue(reader, call, key)
    lines = reader.buf[reader.pos] == "\n"
    stops = _LINES if lines else _INLINE
    first = True
    while True:
        # The line end before the value is not told: it is held as a part of the first marker it may begin.
        if first and lines:
            marker = yield from reader.literal("\n" + _PARAMETER_END, "\n" + _PARAMETER, "\n" + _FUNCTION_END)
            if marker is None:
                reader.pos += 1
                marker = yield from value.until(stops)
        else:
            marker = yield from value.until(stops)
        first = False
        if marker == "\n" + _PARAMETER_END:
            value.close()
            return None
        if marker == "\n" + _PARAMETER:
            reader.emit(Repaired(call.index, "missing_end_marker", reader.position - len(_PARAMETER)))
            value.close()
            return _PARAMETER
        try:
            found = yield from reader.ahead(_END_NEXT if marker == "\n" + _FUNCTION_END else _NEXT)
        except Ended as ended:
            if not ended.natural:
                raise
            found = ""
        if found is None:
            value.put(marker)
            continue
        if marker == "\n" + _FUNCTION_END:
            reader.emit(Repaired(call.index, "missing_end_marker", reader.position - len(_FUNCTION_END)))
        value.close()
        return _FUNCTION_END if marker == "\n" + _FUNCTION_END else None


def _function(reader: Reader, session: Session, start: int) -> Steps:
    """A call, from behind `<function=`."""
    name = yield from reader.name(_NAME_END)
    call = session.calls.open(name.strip().strip('"'), start)
    yield from reader.expect(">")
    call.begin()
    marker = None
    while True:
        if marker is None:
            yield from reader.space()
            try:
                marker = yield from reader.literal(_PARAMETER, _FUNCTION_END, _CALL_END)
            except Ended as ended:
                if not reader.mends_end(ended, call.index):
                    raise
                marker = _FUNCTION_END
        if marker == _PARAMETER:
            key = yield from reader.name(_NAME_END)
            yield from reader.expect(">")
            marker = yield from _value(reader, call, key.strip().strip('"'))
            continue
        if marker is None:
            raise Malformed(reader.position, "unexpected_text", "text between a call's parameters")
        if marker == _CALL_END:
            reader.emit(Repaired(call.index, "missing_end_marker", reader.position - len(_CALL_END)))
            reader.pos -= len(_CALL_END)
        break
    call.end()
    session.calls.close(call)
    yield from reader.space()
    yield from reader.literal(_CALL_END)
    return True


def _grammar(reader: Reader, session: Session) -> Steps:
    words = Prose(reader, Text, strip=True)
    thinking = session.opened(_THINK, _THINK_END)
    while True:
        start = None
        if thinking:
            thoughts = Prose(reader, Reasoning, strip=True)
            while True:
                marker = yield from thoughts.until(_IN_THINK)
                if marker == _THINK_END:
                    break
                # A call ends reasoning that was left open, if it is one.
                start = reader.position - len(marker)
                if (yield from reader.ahead(_FUNCTION_NEXT)) is not None:
                    break
                thoughts.put(marker)
            thinking = False
            if marker == _THINK_END:
                continue
        else:
            marker = yield from words.until(_OPENERS)
            start = reader.position - len(marker)
        if marker == _THINK:
            thinking = True
            continue
        if marker == _CALL:
            if (yield from reader.ahead(_FUNCTION_NEXT)) is None:
                reader.emit(ParseError(reader.position, "unexpected_text", "no function behind a call's marker"))
                continue
            yield from reader.space()
            yield from reader.expect(_FUNCTION)
        done = yield from guarded(reader, session.calls, _function(reader, session, start or 0))
        if done is None:
            yield from skip_past(reader, Stops(_CALL_END))


DIALECT = Dialect(
    "qwen3_xml",
    _grammar,
    models=(r"qwen-?3.*coder", r"qwen-?3\.[5-9]", r"nemotron-3"),
    special_tokens=(_CALL, _CALL_END, _THINK, _THINK_END),
)
