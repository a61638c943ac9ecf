"""A plan as plain JSON, which structured outputs give: `[{"name": …, "arguments": {…}}, …]`.

A single call object and an object around the list (`{"calls": […]}`) are taken too. In repair mode words around the
plan are words, and a fenced block around it is opened.
"""

from __future__ import annotations

from workers.toolcalls.calls import guarded
from workers.toolcalls.dialects.base import Dialect, Session
from workers.toolcalls.envelope import read_call, read_list
from workers.toolcalls.facts import ParseError, Repaired, Text
from workers.toolcalls.prose import Prose, Stops
from workers.toolcalls.reader import Ended, Reader, Steps

_FENCE = "```"
_PLAN_STARTS = Stops("\n[", "\n{", _FENCE)
_NEVER = Stops("\x00")


def _plan(reader: Reader, session: Session) -> Steps:
    c = yield from reader.space()
    if c == "[":
        yield from read_list(reader, session.calls)
        return True
    yield from read_call(reader, session.calls)
    while reader.repair:
        # Calls without a list around them, one behind the other.
        try:
            c = yield from reader.space()
        except Ended:
            break
        if c not in ",{]":
            break
        reader.emit(Repaired(None, "missing_list", reader.position))
        if c != "{":
            reader.pos += 1
        if c == "]":
            break
        if (yield from reader.space()) != "{":
            break
        yield from read_call(reader, session.calls)
    return True


def _grammar(reader: Reader, session: Session) -> Steps:
    words = Prose(reader, Text, strip=True)
    if reader.repair and (yield from reader.literal("\ufeff")) is not None:
        reader.emit(Repaired(None, "byte_order_mark", 0))
    c = yield from reader.space()
    fenced = False
    if c not in "[{" and reader.repair:
        if c != "`" or (yield from reader.literal(_FENCE)) is None:
            words.put(c)
            reader.pos += 1
            fenced = (yield from words.until(_PLAN_STARTS)) == _FENCE
            if not fenced:
                reader.pos -= 1
        else:
            fenced = True
        if fenced:
            reader.emit(Repaired(None, "fenced_block", reader.position))
            yield from reader.literal("json", "JSON")
            c = yield from reader.space()
    done = yield from guarded(reader, session.calls, _plan(reader, session))
    if done is None:
        # What is left of a broken plan is neither words nor calls.
        while True:
            reader.pos = len(reader.buf)
            yield from reader.more()
    try:
        c = yield from reader.space()
        if fenced and c == "`" and (yield from reader.literal(_FENCE)) is not None:
            c = yield from reader.space()
    except Ended:
        return
    if not reader.repair:
        reader.emit(ParseError(reader.position, "unexpected_text", f"{c!r} behind the plan"))
    yield from words.until(_NEVER)


DIALECT = Dialect("json_list", _grammar)
