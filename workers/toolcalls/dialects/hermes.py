"""Hermes and Qwen: `<tool_call>{"name": …, "arguments": {…}}</tool_call>`, reasoning in `<think>`."""

from __future__ import annotations

from workers.toolcalls.dialects.base import Dialect, Markers, Session, conversation
from workers.toolcalls.envelope import read_call, read_list
from workers.toolcalls.facts import Repaired
from workers.toolcalls.reader import Malformed, Reader, Steps

_END = "</tool_call>"
_MARKERS = Markers(openers=("<tool_call>",), closer=_END, think=(("<think>", "</think>"),), strip=True)


def _body(reader: Reader, session: Session, marker: str) -> Steps:
    c = yield from reader.space()
    if c == "[" and reader.repair:
        reader.emit(Repaired(None, "list_in_call", reader.position))
        yield from read_list(reader, session.calls)
    elif c == "{":
        yield from read_call(reader, session.calls)
    else:
        raise Malformed(reader.position, "unexpected_text", f"{c!r} where a call's object is due")
    c = yield from reader.space()
    if (yield from reader.literal(_END)) is None and reader.repair:
        reader.emit(Repaired(None, "missing_end_marker", reader.position))
    return True


def _grammar(reader: Reader, session: Session) -> Steps:
    yield from conversation(reader, session, _MARKERS, _body)


DIALECT = Dialect(
    "hermes",
    _grammar,
    models=(r"hermes", r"qwen-?2", r"qwen3(?!.*coder)(?!\.[5-9])", r"qwq", r"smollm"),
    special_tokens=("<tool_call>", _END, "<think>", "</think>"),
)
