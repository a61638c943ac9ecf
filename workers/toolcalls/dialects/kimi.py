"""Kimi K2 (sections of calls whose id holds the name, JSON arguments) and K3 (XTML elements with typed, raw
arguments).
"""

from __future__ import annotations

import re

from workers.toolcalls.calls import guarded
from workers.toolcalls.coerce import JSON, STRING
from workers.toolcalls.dialects.base import Dialect, Markers, Session, conversation, skip_past
from workers.toolcalls.envelope import read_arguments
from workers.toolcalls.facts import Reasoning, Text
from workers.toolcalls.markup import RawValue, attribute
from workers.toolcalls.prose import Prose, Stops
from workers.toolcalls.reader import Ahead, Malformed, Reader, Steps

_SECTION, _SECTION_END = "<|tool_calls_section_begin|>", "<|tool_calls_section_end|>"
_CALL, _CALL_END = "<|tool_call_begin|>", "<|tool_call_end|>"
_ARGUMENTS = "<|tool_call_argument_begin|>"
_IN_SECTION = Stops(_CALL, _SECTION_END)
_AFTER_ARGUMENTS = Stops(_CALL_END, _SECTION_END)
_ID_END = re.compile("<")
_ID = re.compile(r"(?:functions\.)?(.*?)(?::\d+)?", re.DOTALL).fullmatch
_K2_MARKERS = Markers(openers=(_SECTION,), closer=None, think=(("<think>", "</think>"),))


def _k2_call(reader: Reader, session: Session) -> Steps:
    start = reader.position - len(_CALL)
    yield from reader.space()
    match = _ID((yield from reader.name(_ID_END)).strip())
    yield from reader.expect(_ARGUMENTS)
    call = session.calls.open("" if match is None else match.group(1), start)
    yield from read_arguments(reader, call)
    session.calls.close(call)
    return True


def _k2_section(reader: Reader, session: Session, marker: str) -> Steps:
    while (yield from skip_past(reader, _IN_SECTION)) == _CALL:
        yield from guarded(reader, session.calls, _k2_call(reader, session))
        if (yield from skip_past(reader, _AFTER_ARGUMENTS)) == _SECTION_END:
            return True
    return True


def _k2(reader: Reader, session: Session) -> Steps:
    yield from conversation(reader, session, _K2_MARKERS, _k2_section)


_OPEN, _CLOSE, _SEP = "<|open|>", "<|close|>", "<|sep|>"
_ANY = Stops(_OPEN, _CLOSE)
_ARGUMENT_END = Stops(f"{_CLOSE}argument{_SEP}")
# What can follow an argument; its closing marker followed by anything else is text in it.
_AFTER_ARGUMENT = Ahead(f"{_OPEN}argument ", f"{_CLOSE}call{_SEP}")
_TAG_END = Stops(_SEP)
_RESUME = Stops(f"{_CLOSE}call{_SEP}", f"{_CLOSE}tools{_SEP}")
_ATTRIBUTE = re.compile(r'([A-Za-z_]+)="([^"]*)"')
# The longest tag that is still a tag.
_TAG_MAX = 4096


def _tag(reader: Reader) -> Steps:
    """A tag's name and attributes, from behind its `<|open|>` or `<|close|>`."""
    start = reader.position
    parts: list[str] = []
    while True:
        match = _TAG_END.find(reader.buf, reader.pos)
        if match is not None:
            parts.append(reader.buf[reader.pos : match.start()])
            reader.pos = match.end()
            break
        hold = _TAG_END.held(reader.buf, reader.pos)
        parts.append(reader.buf[reader.pos : hold])
        reader.pos = hold
        if reader.position - start > _TAG_MAX:
            raise Malformed(start, "name_too_long", "a tag without an end")
        yield from reader.more()
    text = "".join(parts)
    return text.split(" ")[0], {name: attribute(value) for name, value in _ATTRIBUTE.findall(text)}


def _k3_call(reader: Reader, session: Session, start: int, attributes: dict[str, str]) -> Steps:
    call = session.calls.open(attributes.get("tool", ""), start)
    call.begin()
    while True:
        marker = yield from reader.expect(_OPEN, _CLOSE)
        name, attributes = yield from _tag(reader)
        if marker == _CLOSE and name == "call":
            break
        if marker == _CLOSE or name != "argument" or "key" not in attributes:
            raise Malformed(reader.position, "unexpected_text", f"{name!r} inside a call")
        kind = attributes.get("type")
        value = RawValue(reader, call, attributes["key"], STRING if kind == "string" else JSON if kind else None)
        while True:
            marker = yield from value.until(_ARGUMENT_END)
            if (yield from reader.ahead(_AFTER_ARGUMENT)) is not None:
                break
            value.put(marker)
        value.close()
    call.end()
    session.calls.close(call)
    return True


def _k3_tools(reader: Reader, session: Session) -> Steps:
    while True:
        marker = yield from skip_past(reader, _ANY)
        start = reader.position - len(marker)
        name, attributes = yield from _tag(reader)
        if marker == _CLOSE:
            if name == "tools":
                return True
        elif name == "call":
            done = yield from guarded(reader, session.calls, _k3_call(reader, session, start, attributes))
            if done is None and (yield from skip_past(reader, _RESUME)) == f"{_CLOSE}tools{_SEP}":
                return True


def _k3(reader: Reader, session: Session) -> Steps:
    kinds: dict[str, type[Text] | type[Reasoning]] = {"think": Reasoning, "response": Text}
    opened = session.prompt.rstrip().rpartition(_OPEN)[2]
    words: Prose | None = None
    for name, kind in kinds.items():
        if opened == f"{name}{_SEP}":
            words = Prose(reader, kind, strip=False)
    while True:
        marker = (yield from words.until(_ANY)) if words is not None else (yield from skip_past(reader, _ANY))
        try:
            name, _ = yield from _tag(reader)
        except Malformed:
            continue
        if marker == _CLOSE:
            words = None
        elif name in kinds:
            words = Prose(reader, kinds[name], strip=False)
        elif name == "tools":
            words = None
            yield from guarded(reader, session.calls, _k3_tools(reader, session))


K2 = Dialect(
    "kimi",
    _k2,
    models=(r"kimi(?!.*k3)", r"moonlight"),
    special_tokens=(_SECTION, _SECTION_END, _CALL, _CALL_END, _ARGUMENTS, "<think>", "</think>"),
)
K3 = Dialect("kimi_k3", _k3, models=(r"kimi.*k3",), special_tokens=(_OPEN, _CLOSE, _SEP))
