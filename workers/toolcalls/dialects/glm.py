"""GLM 4.5 to 5: `<tool_call>NAME<arg_key>KEY</arg_key><arg_value>value</arg_value></tool_call>`.

4.5 and 4.6 put line ends between the parts, later ones do not; both are read. Space inside a value belongs to it. A
value without its closing marker ends with its call.
"""

from __future__ import annotations

import re

from workers.toolcalls.calls import OpenCall
from workers.toolcalls.dialects.base import Dialect, Markers, Session, conversation
from workers.toolcalls.facts import Repaired
from workers.toolcalls.markup import RawValue
from workers.toolcalls.prose import Stops
from workers.toolcalls.reader import Ahead, Ended, Reader, Steps

_CALL, _END = "<tool_call>", "</tool_call>"
_KEY, _KEY_END = "<arg_key>", "</arg_key>"
_VALUE, _VALUE_END = "<arg_value>", "</arg_value>"
_MARKERS = Markers(openers=(_CALL,), closer=_END, think=(("<think>", "</think>"),), strip=True)
_ENDS = Stops(_VALUE_END, _END)
_CALL_NEXT = Ahead(_CALL)
_NAME_END = re.compile("[<\n]")
_KEY_NAME_END = re.compile("<")


def _value(reader: Reader, call: OpenCall, key: str) -> Steps:
    """One value; True if it was ended by the call's own end."""
    value = RawValue(reader, call, key)
    while True:
        marker = yield from value.until(_ENDS)
        if marker == _VALUE_END:
            value.close()
            return False
        at = reader.position - len(_END)
        try:
            ends = (yield from reader.ahead(_CALL_NEXT)) is not None
        except Ended as ended:
            if not ended.natural:
                raise
            ends = True
        if ends:
            reader.emit(Repaired(call.index, "missing_end_marker", at))
            value.close()
            return True
        value.put(marker)


def _body(reader: Reader, session: Session, marker: str) -> Steps:
    start = reader.position - len(marker)
    yield from reader.space()
    name = yield from reader.name(_NAME_END)
    call = session.calls.open(name.strip(), start)
    call.begin()
    while True:
        yield from reader.space()
        if (yield from reader.expect(_KEY, _END)) == _END:
            break
        key = yield from reader.name(_KEY_NAME_END)
        yield from reader.expect(_KEY_END)
        yield from reader.space()
        yield from reader.expect(_VALUE)
        if (yield from _value(reader, call, key.strip())):
            break
    call.end()
    session.calls.close(call)
    return True


def _grammar(reader: Reader, session: Session) -> Steps:
    yield from conversation(reader, session, _MARKERS, _body)


DIALECT = Dialect(
    "glm",
    _grammar,
    models=(r"glm-?[45]", r"chatglm"),
    special_tokens=(_CALL, _END, _KEY, _KEY_END, _VALUE, _VALUE_END, "<think>", "</think>"),
)
