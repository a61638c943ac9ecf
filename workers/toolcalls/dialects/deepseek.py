"""DeepSeek. V3 and R1: a JSON block behind `function<｜tool▁sep｜>NAME`; V3.1: JSON behind `NAME<｜tool▁sep｜>`; V3.2
to V4.1: DSML elements whose parameters say whether they are strings (`string="true"`, raw text) or JSON."""

from __future__ import annotations

import re

from workers.toolcalls.calls import guarded
from workers.toolcalls.coerce import JSON, STRING
from workers.toolcalls.dialects.base import Dialect, Markers, Session, conversation, skip_past
from workers.toolcalls.envelope import read_arguments
from workers.toolcalls.markup import RawValue, attribute
from workers.toolcalls.prose import Stops
from workers.toolcalls.reader import Malformed, Reader, Steps

_CALLS, _CALLS_END = "<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>"
_CALL, _CALL_END = "<｜tool▁call▁begin｜>", "<｜tool▁call▁end｜>"
_SEPARATOR = "<｜tool▁sep｜>"
_IN_CALLS = Stops(_CALL, _CALLS_END)
_AFTER_ARGUMENTS = Stops(_CALL_END, _CALLS_END)
_LINE_END = re.compile("[\n`{]")
_SEPARATOR_START = re.compile("<")

# DSML tags as V3.2, V4 and V4.1 write them.
_OUTER = ("function_calls", "tool_calls", " calls", "calls")
_DSML_OPENERS = tuple(f"<｜DSML｜{tag}>" for tag in _OUTER)
_DSML_ENDS = tuple(f"</｜DSML｜{tag}>" for tag in _OUTER)
_INVOKE = ("<｜DSML｜invoke", "<｜DSML｜ invoke")
_INVOKE_END = ("</｜DSML｜invoke>", "</｜DSML｜ invoke>")
_PARAMETER = ("<｜DSML｜parameter", "<｜DSML｜ parameter")
_PARAMETER_END = Stops("</｜DSML｜parameter>", "</｜DSML｜ parameter>")
_IN_DSML = Stops(*_INVOKE, *_DSML_ENDS)
_DSML_RESUME = Stops(*_INVOKE_END, *_DSML_ENDS)
_ATTRIBUTE_END = re.compile('"')

_MARKERS = Markers(openers=(_CALLS, *_DSML_OPENERS), closer=None, think=(("<think>", "</think>"),), strip=True)


def _json_call(reader: Reader, session: Session) -> Steps:
    start = reader.position - len(_CALL)
    yield from reader.space()
    name = yield from reader.name(_SEPARATOR_START)
    yield from reader.expect(_SEPARATOR)
    c = yield from reader.space()
    if c != "{" and name.strip() == "function":
        name = yield from reader.name(_LINE_END)
        yield from reader.space()
        yield from reader.literal("```json", "```")
    call = session.calls.open(name.strip(), start)
    yield from read_arguments(reader, call)
    session.calls.close(call)
    return True


def _json_calls(reader: Reader, session: Session) -> Steps:
    while (yield from skip_past(reader, _IN_CALLS)) == _CALL:
        yield from guarded(reader, session.calls, _json_call(reader, session))
        if (yield from skip_past(reader, _AFTER_ARGUMENTS)) == _CALLS_END:
            return True
    return True


def _attributes(reader: Reader) -> Steps:
    """The attributes of a tag up to its end, and whether it closes itself."""
    found: dict[str, str] = {}
    while True:
        c = yield from reader.space()
        if c == ">":
            reader.pos += 1
            return found, False
        if c == "/":
            yield from reader.expect("/>")
            return found, True
        name = yield from reader.name(re.compile("="))
        yield from reader.expect('="')
        found[name] = attribute((yield from reader.name(_ATTRIBUTE_END)))
        yield from reader.expect('"')


def _invoke(reader: Reader, session: Session, start: int) -> Steps:
    attributes, empty = yield from _attributes(reader)
    call = session.calls.open(attributes.get("name", ""), start)
    call.begin()
    while not empty:
        yield from reader.space()
        tag = yield from reader.expect(*_PARAMETER, *_INVOKE_END)
        if tag in _INVOKE_END:
            break
        attributes, closed = yield from _attributes(reader)
        if "name" not in attributes:
            raise Malformed(reader.position, "no_name", "a parameter without a name")
        types = {"true": STRING, "false": JSON}.get(attributes.get("string", ""))
        value = RawValue(reader, call, attributes["name"], types)
        if not closed:
            yield from value.until(_PARAMETER_END)
        value.close()
    call.end()
    session.calls.close(call)
    return True


def _dsml(reader: Reader, session: Session) -> Steps:
    while True:
        marker = yield from skip_past(reader, _IN_DSML)
        if marker not in _INVOKE:
            return True
        start = reader.position - len(marker)
        if (yield from guarded(reader, session.calls, _invoke(reader, session, start))) is None and (
            yield from skip_past(reader, _DSML_RESUME)
        ) in _DSML_ENDS:
            return True


def _body(reader: Reader, session: Session, marker: str) -> Steps:
    if marker == _CALLS:
        return (yield from _json_calls(reader, session))
    return (yield from _dsml(reader, session))


def _grammar(reader: Reader, session: Session) -> Steps:
    yield from conversation(reader, session, _MARKERS, _body)


DIALECT = Dialect(
    "deepseek",
    _grammar,
    models=(r"deepseek",),
    special_tokens=(_CALLS, _CALLS_END, _CALL, _CALL_END, _SEPARATOR, "<think>", "</think>"),
)
