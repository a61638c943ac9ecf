"""YAML read as it comes: the block and flow style that models write plans in.

Mappings, lists, plain and quoted scalars, `|` and `>`, flow containers, comments and document marks are read; anchors,
aliases, tags, directives and complex keys are not. Keys are strings as written. yaml_scalars.py says what scalars mean.

Each value closes by what follows it: a plain scalar with the head of the next line, a quoted one and a flow container
with the end of their line, a block with the first line that is indented less. The lines that make up a value are read
once.

Repair mode mends, each time with a `Repaired` fact: indentation, tab_indentation, missing_space, equals_sign,
plain_colon, reserved_character, apostrophe, inner_quotes, text_after_quote, missing_quote, unindented_text,
duplicate_key, not_a_number, invalid_escape, lone_surrogate, value_type, list_marker, line_comma, curly_quotes and, when
the model stopped by itself, missing_close; a broken flow container is read by the JSON repairs.
"""

from __future__ import annotations

import re
from typing import Any, Literal

from workers.toolcalls.calls import OpenCall
from workers.toolcalls.facts import ArgumentClosed, Limits, ParseError
from workers.toolcalls.reader import Ended, Malformed, Reader, Steps
from workers.toolcalls.stream import Stream
from workers.toolcalls.yaml_doubt import Doubt
from workers.toolcalls.yaml_lines import Lines
from workers.toolcalls.yaml_scalars import unescape
from workers.toolcalls.yaml_values import inline

_LOOSE_KEY = re.compile(r"""["']?([A-Za-z_][\w.-]*)["']?[ \t]*(:|=)[ \t]*""").match


def node(lines: Lines, parent: int, depth: int) -> Steps:
    """The value whose first line stands at the head; `parent` is the column it must be indented beyond."""
    if (yield from lines.dashed()):
        return (yield from sequence(lines, lines.column, parent, depth))
    if (yield from lines.key()) is not None:
        return (yield from mapping(lines, lines.column, parent, depth))
    lines.fresh = False
    return (yield from inline(lines, parent, depth, lines.c))


def deeper(lines: Lines, depth: int) -> int:
    """One container further down. Raises Malformed where that is too deep."""
    if depth <= 0:
        raise Malformed(lines.reader.position, "too_deep", "too many containers deep")
    return depth - 1


def mapping(lines: Lines, column: int, parent: int, depth: int) -> Steps:
    """A block mapping whose keys stand at `column`."""
    depth = deeper(lines, depth)
    found: dict[str, Any] = {}
    while (key := (yield from next_key(lines, column, parent))) is not None:
        if key in found and lines.mending:
            lines.mend("duplicate_key", "a key twice")
        found[key] = yield from behind(lines, column, depth)
    return found


def sequence(lines: Lines, column: int, parent: int, depth: int) -> Steps:
    """A block list whose dashes stand at `column`."""
    depth = deeper(lines, depth)
    found: list[Any] = []
    while (c := (yield from next_item(lines, column, parent))) is not None:
        found.append((yield from node(lines, column, depth)) if c else None)
    return found


def next_item(lines: Lines, column: int, parent: int, *, numbered: bool = False) -> Steps:
    """The first character of the list's next item, whose dash is read and whose first line is at the head; empty for
    an item without a value, None where the list ends. If the list may be `numbered`, a number stands for a dash.
    """
    c = yield from lines.head()
    if not c or (lines.column <= parent and lines.column != column):
        return None
    size = 1 if (yield from lines.dashed()) else 0
    if not size and numbered:
        size = yield from lines.number()
    if not size:
        return None
    if lines.column != column:
        lines.mend("indentation", "a list item that is not below the first one")
    if c == "*":
        lines.mend("list_marker", "a star for a dash")
    elif c != "-":
        lines.mend("numbered_list", "a number for a dash")
    lines.reader.pos += size
    lines.column += size
    c = yield from lines.gap()
    if c:
        lines.c, lines.fresh = c, True
        return c
    c = yield from lines.head()
    return c if lines.column > column else ""


def next_key(lines: Lines, column: int, parent: int) -> Steps:
    """The next key of a block mapping, read with its colon; None where the mapping ends."""
    c = yield from lines.head()
    if not c or lines.column <= parent:
        return None
    if (yield from lines.dashed()):
        return None
    if lines.column != column:
        lines.mend("indentation", "a key that is not below the first one")
    return (yield from read_key(lines))


def read_key(lines: Lines) -> Steps:
    """The key at the head, with its colon."""
    reader = lines.reader
    match = yield from lines.key()
    lines.fresh = False
    if match is None:
        while reader.buf.find("\n", reader.pos) < 0 and len(reader.buf) - reader.pos < reader.limits.name_size:
            yield from lines.more()
        match = _LOOSE_KEY(reader.buf, reader.pos)
        if match is None:
            raise Malformed(reader.position, "unexpected_text", "text where a key is due")
        lines.mend("missing_space" if match.group(2) == ":" else "equals_sign", "a key without its colon")
        reader.pos = match.end()
        return match.group(1)
    reader.pos = match.end()
    if match["plain"] is not None:
        return match["plain"]
    if match["single"] is not None:
        return match["single"].replace("''", "'")
    text, rules = unescape(match["double"])
    for rule in rules:
        lines.mend(rule, "a broken escape in a key")
    return text


def behind(lines: Lines, column: int, depth: int, call: OpenCall | None = None, key: str = "") -> Steps:
    """The value behind a key of a mapping at `column`: on its line, or on the lines below it."""
    lines.plain, lines.comma = None, False
    c = yield from lines.gap()
    if c:
        return (yield from inline(lines, column, depth, c, call, key))
    c = yield from lines.head()
    if lines.column > column or (lines.column == column and (yield from lines.dashed())):
        return (yield from node(lines, min(column, lines.column - 1), depth))
    return None


def read_arguments(lines: Lines, call: OpenCall, column: int, parent: int) -> Steps:
    """A call's arguments as a block mapping whose first key is at the head; each is told when it closes."""
    reader = lines.reader
    depth = reader.limits.depth - 1
    reader.bound = reader.position + reader.limits.arguments_size
    call.begin()
    doubt = Doubt(lines, call)
    while (key := (yield from next_key(lines, column, parent))) is not None:
        yield from read_argument(lines, doubt, key, column, depth)
    doubt.settle()
    call.end()
    reader.bound = None


def read_argument(lines: Lines, doubt: Doubt, key: str, column: int, depth: int) -> Steps:
    """One argument, from behind its key's colon."""
    reader, call = lines.reader, doubt.call
    at = reader.position
    key = call.parameter(key, at)
    if key in call.root and lines.mending:
        lines.mend("duplicate_key", "a key twice")
    before = len(call.json)
    value = yield from behind(lines, column, depth, call, key)
    if reader.bound is not None:
        reader.hold_to(reader.bound)
    if len(call.json) == before:
        doubt.take(key, value, at)


class PushYaml(Stream):
    """One YAML document, pushed in chunks of any cut; facts come back with `call` 0.

    The members of a mapping are reported when they close, the document itself last, with the empty path. After a
    `ParseError` the rest of the text is ignored.
    """

    def __init__(
        self, *, mode: Literal["strict", "repair"] = "strict", limits: Limits | None = None, partial: bool = True
    ) -> None:
        super().__init__(limits=limits or Limits(), repair=mode == "repair", partial=partial)
        self._start(self._grammar)

    def _grammar(self, reader: Reader) -> Steps:
        lines = Lines(reader)
        lines.index = 0
        try:
            value = yield from self._document(lines)
            if (yield from lines.head()):
                raise Malformed(reader.position, "unexpected_text", f"{lines.c!r} behind the end")
            reader.emit(ArgumentClosed(0, (), value))
        except Malformed as error:
            reader.emit(ParseError(error.position, error.code, error.message))
        except Ended as ended:
            reader.emit(ParseError(reader.position, "cut_off", f"the text ends early ({ended.reason})"))

    def _document(self, lines: Lines) -> Steps:
        depth = lines.reader.limits.depth
        if not (yield from lines.head()):
            return None
        if (yield from lines.dashed()) or (yield from lines.key()) is None:
            return (yield from node(lines, -1, depth))
        document = OpenCall(0, "", lines.reader, None)
        yield from read_arguments(lines, document, lines.column, -1)
        return document.root
