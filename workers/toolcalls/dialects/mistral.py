"""Mistral: `[TOOL_CALLS]` and a JSON list (up to v7), or `[TOOL_CALLS]NAME[ARGS]{…}` for each call (v11 on)."""

from __future__ import annotations

import re

from workers.toolcalls.dialects.base import Dialect, Markers, Session, conversation
from workers.toolcalls.envelope import read_arguments, read_call, read_list
from workers.toolcalls.reader import Reader, Steps

_CALL, _ARGUMENTS, _CALL_ID = "[TOOL_CALLS]", "[ARGS]", "[CALL_ID]"
_MARKERS = Markers(
    openers=(_CALL,), closer=None, think=(("[THINK]", "[/THINK]"), ("<think>", "</think>")), silent=("</s>",)
)
_NAME_END = re.compile(r"[\[{]")


def _body(reader: Reader, session: Session, marker: str) -> Steps:
    start = reader.position - len(marker)
    c = yield from reader.space()
    if c == "[":
        yield from read_list(reader, session.calls)
        return True
    if c == "{":
        yield from read_call(reader, session.calls)
        return True
    name = yield from reader.name(_NAME_END)
    call = session.calls.open(name.strip(), start)
    if (yield from reader.literal(_CALL_ID)) is not None:
        yield from reader.name(_NAME_END)
    # Where special tokens are hidden the arguments follow the name at once.
    yield from reader.literal(_ARGUMENTS)
    yield from read_arguments(reader, call)
    session.calls.close(call)
    return True


def _grammar(reader: Reader, session: Session) -> Steps:
    yield from conversation(reader, session, _MARKERS, _body)


DIALECT = Dialect(
    "mistral",
    _grammar,
    models=(r"mistral", r"mixtral", r"magistral", r"ministral", r"devstral", r"pixtral", r"voxtral"),
    special_tokens=(_CALL, _ARGUMENTS, _CALL_ID, "[THINK]", "[/THINK]"),
)
