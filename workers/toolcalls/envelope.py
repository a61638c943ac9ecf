"""A call as a JSON object, `{"name": …, "arguments": {…}}`, in any order of its keys; lists of such objects."""

from __future__ import annotations

import re
from typing import Any

from workers.toolcalls.calls import Calls, OpenCall
from workers.toolcalls.decode import string_value
from workers.toolcalls.facts import Repaired
from workers.toolcalls.json_parts import key as read_key
from workers.toolcalls.json_parts import scalar, skipped, word
from workers.toolcalls.json_strings import string
from workers.toolcalls.json_values import read_value
from workers.toolcalls.reader import Ended, Malformed, Reader, Steps

NAME_KEYS = frozenset({"name"})
ARGUMENT_KEYS = frozenset({"arguments", "parameters"})
# Accepted beside them in repair mode.
OTHER_NAME_KEYS = frozenset({"tool", "tool_name", "skill", "function", "function_name"})
OTHER_ARGUMENT_KEYS = frozenset({"args", "params", "kwargs", "input", "tool_input"})
# Arguments in quotes that are not escaped.
_OBJECT_IN_STRING = re.compile(r'"[ \t\r\n]{0,64}\{[ \t\r\n]{0,64}"').match
_HALF_OBJECT = re.compile(r'"[ \t\r\n]{0,64}(?:\{[ \t\r\n]{0,64})?\Z').match
LIST_KEYS = frozenset({"calls", "tool_calls"})


def read_arguments(reader: Reader, call: OpenCall) -> Steps:
    """The arguments of a call, from before their first character."""
    c = yield from reader.space()
    if c == "{":
        # Handed over instead of delegated to: what runs for every token is then one generator deep.
        yield read_value(reader, call, 1)
        return
    if not reader.repair or c not in '"n':
        raise Malformed(reader.position, "arguments_not_an_object", f"{c!r} where the arguments' object is due")
    at = reader.position
    if c == '"' and (yield from _holds_object(reader)):
        # A string that holds the arguments with their quotes unescaped.
        reader.emit(Repaired(call.index, "arguments_as_string", at))
        reader.pos += 1
        yield from reader.space()
        yield read_value(reader, call, 1)
        yield from reader.space()
        yield from reader.literal('"')
        return
    if c == "n":
        value, _ = yield from scalar(reader, call.index)
        if value is not None:
            raise Malformed(at, "arguments_not_an_object", "the arguments are no object")
        inner = ""
    else:
        reader.pos += 1
        inner = string_value((yield from string(reader, call.index, None, [])))
    reader.emit(Repaired(call.index, "arguments_as_string" if inner else "no_arguments", at))
    read_closed_arguments(reader, call, inner, at)


def _holds_object(reader: Reader) -> Steps:
    """Whether an object with a quoted key stands right behind the quote here; nothing is read."""
    while _OBJECT_IN_STRING(reader.buf, reader.pos) is None:
        if _HALF_OBJECT(reader.buf, reader.pos) is None:
            return False
        try:
            yield from reader.more()
        except Ended:
            return False
    return True


def read_closed_arguments(reader: Reader, call: OpenCall, text: str, at: int) -> None:
    """The arguments of a call from their whole text, which stood at `at`."""
    inner = Reader(
        reader.emit,
        limits=reader.limits,
        repair=reader.repair,
        partial=reader.partial,
        string_parts=reader.string_parts,
    )
    inner.buf, inner.base = text if text.strip() else "{}", at
    steps = _only_value(inner, call)
    try:
        next(steps)
        while True:
            steps.throw(Ended("stop"))
    except StopIteration:
        pass
    except Ended:
        if isinstance(call.root, dict):
            raise Malformed(at, "invalid_json", "the arguments' text ends early") from None
    if not isinstance(call.root, dict):
        raise Malformed(at, "arguments_not_an_object", "the arguments are no object")


def _only_value(reader: Reader, call: OpenCall) -> Steps:
    yield from reader.space()
    yield from read_value(reader, call, 1)
    try:
        extra = yield from reader.space()
    except Ended:
        return
    raise Malformed(reader.position, "unexpected_text", f"{extra!r} behind the arguments")


def read_call(reader: Reader, calls: Calls, *, sniff: bool = False) -> Steps:
    """One call object, from its opening brace; the call is closed by its closing brace.

    With `sniff` the object may be something else: then False is returned as soon as that is certain, with the reader
    anywhere inside it. True otherwise.
    """
    start = reader.position
    mending = reader.repair
    name: str | None = None
    call: OpenCall | None = None
    early: tuple[int, Any] | None = None  # arguments that came before the name
    several = False
    loose = False  # arguments stand beside the name
    yield from reader.expect("{")
    try:
        while True:
            c = yield from reader.space()
            if c == "}":
                reader.pos += 1
                break
            if c == "," and mending:
                reader.pos += 1
                continue
            index = None if call is None else call.index
            if sniff and call is None and c != '"':
                return False
            key = yield from read_key(reader, index, c)
            c = yield from reader.space()
            if c == "=" and mending and not sniff:
                reader.emit(Repaired(index, "equals_sign", reader.position))
                reader.pos += 1
            else:
                yield from reader.expect(":")
            c = yield from reader.space()
            if key in LIST_KEYS and c == "[" and call is None and not sniff:
                yield from read_list(reader, calls)
                several = True
            elif key == "function" and c == "{" and call is None and not sniff:
                yield from read_call(reader, calls)
                several = True
            elif name is None and (key in NAME_KEYS or (mending and key in OTHER_NAME_KEYS)) and c in "\"'“":
                name = yield from word(reader, index, c)
                if early is not None:
                    call = calls.open(name, start)
                    reader.forget()
                    _take_early(reader, call, early)
                elif not sniff:
                    call = calls.open(name, start)
            elif not loose and (key in ARGUMENT_KEYS or (mending and key in OTHER_ARGUMENT_KEYS)):
                if call is not None and call.root is not None:
                    raise Malformed(reader.position, "unexpected_text", "arguments twice")
                if sniff and c != "{":
                    return False
                if name is None:
                    early = (reader.position, (yield from skipped(reader, index)))
                else:
                    if call is None:
                        call = calls.open(name, start)
                        reader.forget()
                    yield from read_arguments(reader, call)
            elif sniff and call is None and key not in ("type", "id"):
                return False
            elif mending and call is not None and _beside(call, key, loose):
                if not loose:
                    reader.emit(Repaired(index, "arguments_beside_name", reader.position))
                    call.begin()
                    loose = True
                call.argument(key, (yield from skipped(reader, index)))
            elif mending and c == "{" and name is None and not sniff and calls.knows(key):
                reader.emit(Repaired(None, "name_as_key", reader.position))
                name = key
                call = calls.open(name, start)
                yield from read_arguments(reader, call)
            else:
                yield from skipped(reader, index)
            c = yield from reader.space()
            if c == ",":
                reader.pos += 1
            elif c != "}" and not (mending and c in "\"'“"):
                raise Malformed(reader.position, "unexpected_text", f"{c!r} where a comma or the call's end is due")
    except Ended as ended:
        if call is None or not isinstance(call.root, dict) or not reader.mends_end(ended, call.index):
            raise
    if several:
        return True
    if call is None:
        if sniff:
            return False
        raise Malformed(start, "no_name", "a call without a name")
    if loose:
        call.end()
    elif call.root is None:
        if not mending:
            raise Malformed(start, "no_arguments", "a call without arguments")
        reader.emit(Repaired(call.index, "no_arguments", reader.position))
        read_closed_arguments(reader, call, "", reader.position)
    calls.close(call)
    return True


def _beside(call: OpenCall, key: str, loose: bool) -> bool:
    """Whether an entry beside the name is one of the call's arguments."""
    return call.known is not None and key in call.known and (loose or call.root is None)


def _take_early(reader: Reader, call: OpenCall, early: tuple[int, Any]) -> None:
    at, value = early
    if isinstance(value, str) and reader.repair:
        reader.emit(Repaired(call.index, "arguments_as_string", at))
        read_closed_arguments(reader, call, value, at)
    elif isinstance(value, dict):
        call.begin()
        for key, argument in value.items():
            call.argument(call.parameter(key, at), argument)
        call.end()
    elif value is not None or not reader.repair:
        raise Malformed(at, "arguments_not_an_object", "the arguments are no object")


def read_list(reader: Reader, calls: Calls) -> Steps:
    """A list of call objects, from its opening bracket."""
    yield from reader.expect("[")
    comma = False
    while True:
        c = yield from reader.space()
        if c == "]" and (not comma or reader.repair):
            if comma:
                reader.emit(Repaired(None, "trailing_comma", reader.position))
            reader.pos += 1
            return
        if reader.repair and (c == "," and comma):
            reader.emit(Repaired(None, "extra_comma", reader.position))
            reader.pos += 1
            continue
        if reader.repair and c == "/" and (yield from reader.literal("//")) is not None:
            reader.emit(Repaired(None, "comment", reader.position))
            yield from reader.past("\n")
            continue
        if c != "{":
            raise Malformed(reader.position, "unexpected_text", f"{c!r} where a call is due")
        yield from read_call(reader, calls)
        c = yield from reader.space()
        comma = c == ","
        if comma:
            reader.pos += 1
        elif c != "]" and not (c == "{" and reader.repair):
            raise Malformed(reader.position, "unexpected_text", f"{c!r} where a comma or the list's end is due")
