"""A plan as YAML: a list of `- name: …` items with their `arguments:` below, at the start of the output or in a
```yaml block; words around such a block are words.

A wrapper (`calls:`) and a single call without a list are taken too, and so is a plan in JSON. In repair mode also a
block that does not say its language, arguments that are not indented below their key, that are a list of pairs or
stand beside the name, a skill's name as the key, and calls that are told apart only by their names.
"""

from __future__ import annotations

import re
from typing import Any

from workers.toolcalls.calls import OpenCall, guarded
from workers.toolcalls.dialects.base import Dialect, Session, skip_past
from workers.toolcalls.envelope import (
    ARGUMENT_KEYS,
    LIST_KEYS,
    NAME_KEYS,
    OTHER_ARGUMENT_KEYS,
    OTHER_NAME_KEYS,
    read_call,
    read_closed_arguments,
    read_list,
)
from workers.toolcalls.envelope import read_arguments as read_json_arguments
from workers.toolcalls.facts import Repaired, Text
from workers.toolcalls.prose import Prose, Stops
from workers.toolcalls.push_yaml import behind, next_item, next_key, node, read_argument, read_arguments
from workers.toolcalls.reader import Ended, Malformed, Reader, Steps
from workers.toolcalls.repair import near_name
from workers.toolcalls.yaml_doubt import Doubt
from workers.toolcalls.yaml_lines import FENCE, Lines

_TAGGED = ("```yaml\n", "```yml\n", "```YAML\n", "```yaml\r\n")
_BARE_FENCES = ("```\n",)
_NAMES = NAME_KEYS | OTHER_NAME_KEYS
_ARGUMENTS = ARGUMENT_KEYS | OTHER_ARGUMENT_KEYS
_OTHER_LISTS = frozenset({"plan", "steps", "actions", "tools", "functions"})
_ENTRIES = _NAMES | _ARGUMENTS | LIST_KEYS | _OTHER_LISTS
_KEYS = "|".join(sorted(_ENTRIES | {"type", "id"}, key=len, reverse=True))
# Where a plan may begin behind words without a block around it (repair mode).
_LOOSE_STARTS = ("\n- name:", "\n1. name:", "\n- tool:", "\n- function:", "\ncalls:", "\ntool_calls:")
# What a plan begins with, behind comments, a document mark and a dash.
_OPENING = (
    r"""(?:[ \t]*(?:#[^\n]*|---[ \t]*)?\r?\n)*[ \t]*(?:%s[ \t\r\n]+|---[ \t]*\n)*["']?(?:%s)["']?[ \t]*:|\s*[\[{]"""
)
_STRICT_OPENING = re.compile(_OPENING % ("[-*]", _KEYS))
_OPENING_SIZE = 512
# A line that may still be followed by what a plan begins with.
_MARKS_ONLY = re.compile(r"(?:[ \t\r*-]|[0-9]{1,3}[.)])*").fullmatch


def _opening(session: Session, *, mending: bool) -> re.Pattern[str]:
    """What a plan begins with; where slips are mended, also in other letters and with a skill's name as its key."""
    if not mending:
        return _STRICT_OPENING
    keys = "|".join((_KEYS, *map(re.escape, session.skills or ())))
    return re.compile(_OPENING % (r"(?:[-*]|[0-9]{1,3}[.)])", keys), re.IGNORECASE)


def _is_plan(reader: Reader, opening: re.Pattern[str]) -> Steps:
    """Whether a plan begins here; nothing is read."""
    while True:
        if opening.match(reader.buf, reader.pos, reader.pos + _OPENING_SIZE) is not None:
            return True
        rest = reader.buf[reader.pos : reader.pos + _OPENING_SIZE]
        lines = [line for line in rest.split("\n")[:-1] if not _MARKS_ONLY(line) and not line.lstrip().startswith("#")]
        if lines or len(rest) >= _OPENING_SIZE:
            return False
        try:
            yield from reader.more()
        except Ended:
            return False


def _plan(reader: Reader, session: Session, lines: Lines) -> Steps:
    c = yield from lines.head()
    if not c:
        raise Malformed(reader.position, "no_name", "an empty plan")
    if c in "[{":
        yield from (read_list(reader, session.calls) if c == "[" else read_call(reader, session.calls))
        lines.fresh = False
        yield from lines.gap()
    elif (yield from lines.dashed()) or (yield from lines.number()):
        yield from _list(lines, session, lines.column, -1)
    else:
        yield from _calls(lines, session, lines.column, -1)
    if (yield from lines.head()):
        raise Malformed(reader.position, "unexpected_text", f"{lines.c!r} behind the plan")
    return True


def _list(lines: Lines, session: Session, column: int, parent: int) -> Steps:
    """A list of calls whose dashes stand at `column`."""
    while True:
        lines.index = None
        start = lines.reader.position
        c = yield from next_item(lines, column, parent, numbered=True)
        if c is None:
            return
        if c == "{":
            lines.fresh = False
            yield from read_call(lines.reader, session.calls)
            yield from lines.gap()
        elif c:
            yield from _calls(lines, session, lines.column, column, start)


def _calls(lines: Lines, session: Session, column: int, parent: int, start: int | None = None) -> Steps:
    """A call as a mapping whose keys stand at `column`, or several that only their names tell apart."""
    call = _Call(lines, session, column, lines.reader.position if start is None else start)
    while True:
        at = lines.reader.position
        key = yield from next_key(lines, column, parent)
        if key is None:
            break
        if key in NAME_KEYS and call.named:
            lines.mend("missing_dash", "a second name in a call")
            call.close()
            call = _Call(lines, session, column, at)
        yield from call.entry(key, at)
    call.close()


class _Call:
    """One item of the plan: its name, then its arguments; other entries are read past."""

    def __init__(self, lines: Lines, session: Session, column: int, start: int) -> None:
        self._lines = lines
        self._reader = lines.reader
        self._session = session
        self._column = column
        self._start = start
        self._call: OpenCall | None = None
        self._early: tuple[int, Any] | None = None
        self._opened = False  # arguments may still come at the column of the keys
        self._wrapped = False  # calls stood in one of the entries
        self._loose: Doubt | None = None  # of arguments that came at the column of the keys
        self.named = False

    def entry(self, key: str, at: int) -> Steps:
        """One entry, from behind its key's colon."""
        lines, mending = self._lines, self._lines.mending
        if mending and key.lower() != key and key.lower() in _ENTRIES and not self._belongs(key):
            lines.mend("key_spelling", "a key in other letters", at)
            key = key.lower()
        if (key in LIST_KEYS or (mending and key in _OTHER_LISTS)) and not self.named:
            yield from self._list_below()
        elif key == "function" and (yield from self._below()):
            yield from _calls(lines, self._session, lines.column, self._column, self._start)
            self._wrapped = True
        elif (key in NAME_KEYS or (mending and key in _NAMES)) and not self.named:
            name = yield from behind(lines, self._column, self._reader.limits.depth)
            if lines.plain is not None:
                name = lines.plain
            if not isinstance(name, str):
                raise Malformed(at, "no_name", "a name that is no text")
            self._open(name.strip())
        elif key in ARGUMENT_KEYS or (mending and key in _ARGUMENTS and not self._opened):
            yield from self._arguments(at)
        elif mending and self._belongs(key):
            yield from self._loose_argument(key, at)
        elif mending and not self.named and self._skill(key) is not None:
            lines.mend("name_as_key", "a skill's name as the key", at)
            self._open(key)
            yield from self._arguments(at)
        else:
            yield from behind(lines, self._column, self._reader.limits.depth)

    def _skill(self, key: str) -> str | None:
        skills = self._session.skills or {}
        return key if key in skills else near_name(key, skills)

    def _open(self, name: str) -> None:
        self.named = True
        self._call = self._session.calls.open(name, self._start)
        self._lines.index = self._call.index
        if self._early is not None:
            at, value = self._early
            self._take(value, at)

    def _below(self) -> Steps:
        """Whether a block stands below this key; its first line is then at the head."""
        lines = self._lines
        if (yield from lines.gap()):
            lines.fresh = False
            return False
        yield from lines.head()
        return lines.column > self._column

    def _list_below(self) -> Steps:
        lines = self._lines
        c = yield from lines.gap()
        if c == "[":
            yield from read_list(self._reader, self._session.calls)
            yield from lines.gap()
        elif c:
            raise Malformed(self._reader.position, "unexpected_text", f"{c!r} where a list of calls is due")
        else:
            c = yield from lines.head()
            if c and lines.column >= self._column and ((yield from lines.dashed()) or (yield from lines.number())):
                yield from _list(lines, self._session, lines.column, min(self._column, lines.column - 1))
            elif lines.column > self._column:
                raise Malformed(self._reader.position, "unexpected_text", f"{c!r} where a list of calls is due")
        self._wrapped = True

    def _arguments(self, at: int) -> Steps:
        lines, reader, call = self._lines, self._reader, self._call
        if call is None:
            self._early = (at, (yield from behind(lines, self._column, reader.limits.depth)))
            return
        if call.root is not None:
            raise Malformed(at, "unexpected_text", "arguments twice")
        lines.plain = None
        c = yield from lines.gap()
        if not c:
            c = yield from lines.head()
            if lines.column <= self._column and not (lines.column == self._column and (yield from lines.dashed())):
                # Nothing below: arguments that are not indented may follow.
                self._opened = True
                return
            if (yield from lines.dashed()):
                value = yield from node(lines, min(self._column, lines.column - 1), reader.limits.depth)
                self._take(value, at)
                return
            if c not in "{\"'":
                yield from read_arguments(lines, call, lines.column, self._column)
                return
            lines.fresh = False
        if c == "{" and (yield from self._is_json()):
            yield from read_json_arguments(reader, call)
            if (yield from lines.gap()):
                lines.mend("text_behind", "text behind the arguments")
                yield from lines.line()
            return
        value = yield from behind(lines, self._column, reader.limits.depth)
        self._take(value, at)

    def _is_json(self) -> Steps:
        """Whether the object that begins here has a quoted key first, so that it is read as JSON."""
        reader = self._reader
        while True:
            rest = reader.buf[reader.pos + 1 :].lstrip()
            if rest:
                return rest[0] == '"'
            yield from self._lines.more()

    def _take(self, value: Any, at: int) -> None:
        """Arguments that came as one closed value."""
        call, lines = self._call, self._lines
        assert call is not None
        if isinstance(value, str) and lines.mending:
            lines.mend("arguments_as_string", "arguments as a string", at)
            read_closed_arguments(self._reader, call, value, at)
            return
        if isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
            lines.mend("arguments_as_list", "arguments as a list of pairs", at)
            value = {key: argument for item in value for key, argument in item.items()}
        if value is None:
            self._opened = True
            return
        if not isinstance(value, dict):
            raise Malformed(at, "arguments_not_an_object", "the arguments are no object")
        call.begin()
        for key, argument in value.items():
            call.argument(call.parameter(key, at), argument)
        call.end()

    def _belongs(self, key: str) -> bool:
        """Whether an entry beside the name is an argument: below an empty `arguments:`, or a known parameter."""
        call = self._call
        if call is None:
            return False
        if self._loose is not None:
            return True
        return call.root is None and (self._opened or (call.known is not None and key in call.known))

    def _loose_argument(self, key: str, at: int) -> Steps:
        lines, call = self._lines, self._call
        assert call is not None
        if self._loose is None:
            lines.mend("arguments_not_indented", "arguments beside their key", at)
            self._loose = Doubt(lines, call)
            call.begin()
        yield from read_argument(lines, self._loose, key, self._column, self._reader.limits.depth - 1)

    def close(self) -> None:
        """The item is complete."""
        call, lines = self._call, self._lines
        if call is None:
            if self._wrapped:
                return
            raise Malformed(self._start, "no_name", "a call without a name")
        if self._loose is not None:
            self._loose.settle()
            call.end()
        elif call.root is None:
            lines.mend("no_arguments", "a call without arguments")
            read_closed_arguments(self._reader, call, "", self._reader.position)
        self._session.calls.close(call)
        lines.index = None


def _grammar(reader: Reader, session: Session) -> Steps:
    words = Prose(reader, Text, strip=True)
    stops = Stops(*_TAGGED, *((*_BARE_FENCES, *_LOOSE_STARTS) if reader.repair else ()))
    opening = _opening(session, mending=reader.repair)
    if reader.repair and (yield from reader.literal("\ufeff")) is not None:
        reader.emit(Repaired(None, "byte_order_mark", 0))
    bare = yield from _is_plan(reader, opening)
    while not bare:
        marker = yield from words.until(stops)
        if marker in _LOOSE_STARTS:
            reader.pos -= len(marker) - 1
            bare = True
            break
        if not (yield from _is_plan(reader, opening)):
            words.put(marker)
            continue
        lines = Lines(reader, fenced=True)
        if marker in _BARE_FENCES:
            lines.mend("fenced_block", "a block without its language")
        if (yield from guarded(reader, session.calls, _plan(reader, session, lines))) is None:
            yield from skip_past(reader, Stops(FENCE))
    if (yield from guarded(reader, session.calls, _plan(reader, session, Lines(reader)))) is None:
        yield from skip_past(reader, Stops("\0"))


DIALECT = Dialect("yaml_plan", _grammar)
