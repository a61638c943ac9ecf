"""YAML's values that hold no block: plain and quoted scalars, literal and folded text, flow containers.

Each step begins where the value's first character stands and leaves the reader at the start or the head of a line that
is not the value's any more. `parent` is the column that further lines of the value must be indented beyond.
"""

from __future__ import annotations

import re

from workers.toolcalls import yaml_flow
from workers.toolcalls.calls import OpenCall
from workers.toolcalls.reader import Malformed, Steps
from workers.toolcalls.yaml_lines import Lines
from workers.toolcalls.yaml_scalars import block_text, folded_quote, plain_value, unescape, without_comment

_LOOSE_LINE = re.compile(r"""["']?[A-Za-z_][\w-]*["']?[ \t]*:(?:[ \t\r\n]|\Z)|-[ \t]""").match
_HEADER = re.compile(r"[|>](?:([-+]?)([1-9]?)|([1-9])([-+]))[ \t]*(?:[ \t]#.*)?").fullmatch
_DOUBLE = re.compile(r'((?:[^"\\]|\\.)*)("?)', re.DOTALL).match
_SINGLE = re.compile(r"((?:[^']|'')*)('?)").match
_AFTER_QUOTE = re.compile(r"[ \t]*(?:[ \t]#.*)?").fullmatch
_COMMA = re.compile(r"[ \t]*,[ \t]*(?:[ \t]#.*)?").fullmatch
_RESERVED = "&*!%@`"


def inline(lines: Lines, parent: int, depth: int, c: str, call: OpenCall | None = None, key: str = "") -> Steps:
    """A scalar or flow container that begins with `c`, here. With a call, literal text is told as it comes."""
    lines.plain, lines.comma = None, False
    if c in "|>":
        return (yield from block(lines, parent, call, key))
    if c in "\"'":
        return (yield from quoted(lines, parent, c))
    if c in "{[":
        return (yield from flow(lines, parent, depth))
    if c in _RESERVED:
        lines.mend("reserved_character", f"{c!r} begins no plain text")
    start = lines.reader.position
    first = yield from lines.line()
    return (yield from plain(lines, parent, first, start))


def plain(lines: Lines, parent: int, first: str, start: int) -> Steps:
    """A plain scalar, from behind its first line."""
    reader = lines.reader
    text, commented = without_comment(first)
    if ": " in text or text.endswith(":") or text[:2] in ("- ", "? "):
        lines.mend("plain_colon", "a colon in plain text", start)
    parts = [text]
    breaks = 0
    while True:
        c = yield from lines.raw_head()
        if c == "\n":
            breaks += 1
            reader.pos += 1
            lines.fresh = False
            continue
        if not c or c == "#" or lines.column <= parent:
            break
        # A line further in that is an entry of its own is one with a wrong indentation.
        if (yield from lines.key()) is not None:
            break
        if commented:
            lines.mend("comment", "text behind a comment")
        text, commented = without_comment((yield from lines.line()))
        parts.append("\n" * breaks if breaks else " ")
        parts.append(text)
        breaks = 0
    lines.plain = text = "".join(parts)
    try:
        return plain_value(text)
    except ValueError as error:
        if "JSON" not in str(error):
            raise Malformed(start, "number_too_long", str(error)) from None
        lines.mend("not_a_number", str(error), start)
        return None


def quoted(lines: Lines, parent: int, quote: str) -> Steps:
    """A string from its opening quote, over as many lines as it takes, and the rest of its last line."""
    reader = lines.reader
    reader.pos += 1
    double = quote == '"'
    body = _DOUBLE if double else _SINGLE
    written: list[str] = []
    start = reader.position
    while True:
        line = yield from lines.line()
        match = body(line)
        assert match is not None
        if match.group(2):
            rest = line[match.end() :]
            if lines.mending and _COMMA(rest) is not None:
                _comma(lines)
            elif _AFTER_QUOTE(rest) is None:
                line = _mended_quote(lines, line, match, quote, start, first=not written)
                if not line.endswith(quote) and not written:
                    lines.plain = None
                    return quote + line
                written.append(line[:-1])
                break
            written.append(match.group(1))
            break
        written.append(line)
        if lines.cut is not None:
            if not reader.mends_end(lines.cut, lines.index):
                raise lines.cut
            break
        while (c := (yield from lines.raw_head())) == "\n":
            reader.pos += 1
            lines.fresh = False
            written.append("")
        if not c or (lines.column <= parent and (yield from _begins_entry(lines))):
            lines.mend("missing_quote", "a quote is missing", start)
            while len(written) > 1 and not written[-1]:
                written.pop()
            break
    text = folded_quote(written, double=double)
    if not double:
        return text.replace("''", "'")
    value, rules = unescape(text)
    for rule in rules:
        lines.mend(rule, "a broken escape", start)
    return value


def _comma(lines: Lines) -> None:
    """A comma ends the line of a closed value."""
    lines.mend("line_comma", "a comma at a line's end")
    lines.comma = True


def _begins_entry(lines: Lines) -> Steps:
    """Whether the line at the head looks like a key or an item."""
    return (yield from lines.dashed()) or (yield from lines.key()) is not None


def _mended_quote(lines: Lines, line: str, match: re.Match[str], quote: str, start: int, *, first: bool) -> str:
    """The line with its last quote as the closing one, where quotes stand in its text; its whole text (which does not
    end with the quote) where none closes it."""
    last = line.rfind(quote)
    if _AFTER_QUOTE(line[last + 1 :]) is None or last < match.start(2):
        lines.mend("text_after_quote", "text behind a closing quote", start)
        return without_comment(line)[0]
    lines.mend("apostrophe" if quote == "'" else "inner_quotes", "text behind a closing quote", start)
    inner = line[:last]
    if quote == "'":
        inner = inner.replace("\\'", "'").replace("''", "'").replace("'", "''")
    else:
        inner = re.sub(r'(\\.)|"', lambda m: m.group(1) or '\\"', inner)
    return inner + quote


def flow(lines: Lines, parent: int, depth: int) -> Steps:
    """A flow container, from its opening bracket, and the rest of its last line. In repair mode a list also ends before
    a line that is no further in than `parent` and begins an entry.
    """
    reader = lines.reader
    is_list = lines.mending and reader.buf[reader.pos] == "["
    start = reader.position
    balance = yaml_flow.Balance()
    written: list[str] = []
    while True:
        line = yield from lines.line()
        end = balance.end(line)
        if balance.deepest > depth:
            raise Malformed(start, "too_deep", "too many containers deep")
        if end is not None:
            written.append(line[:end])
            if lines.mending and _COMMA(line[end:]) is not None:
                _comma(lines)
            elif _AFTER_QUOTE(line[end:]) is None:
                lines.mend("text_behind", "text behind a closed container")
            break
        written.append(line)
        c = "" if lines.cut is not None else (yield from lines.raw_head())
        ends = not c or (
            is_list and balance.depth == 1 and lines.column <= parent and (yield from _begins_entry(lines))
        )
        if ends:
            if lines.cut is not None and not reader.mends_end(lines.cut, lines.index):
                raise lines.cut
            if lines.cut is None:
                lines.mend("wrong_bracket", "a bracket is missing", start)
            break
        written[-1] += "\n" + " " * max(lines.column, 0)
        lines.fresh = False
    text = "".join(written)
    return yaml_flow.loads(text, start, lines.index, reader.emit, repair=lines.mending, depth=depth)


def block(lines: Lines, parent: int, call: OpenCall | None, key: str) -> Steps:
    """A literal or folded scalar, from its indicator. With a call its text is told line by line if it is literal."""
    reader = lines.reader
    start = reader.position
    header = yield from lines.line()
    match = _HEADER(header)
    if match is None:
        lines.mend("reserved_character", f"{header[:1]!r} begins no plain text", start)
        return (yield from plain(lines, parent, header, start))
    chomp = match[1] or match[4] or ""
    digit = match[2] or match[3]
    indent = max(parent, 0) + int(digit) if digit else None
    fold = header[0] == ">"
    tells = call if not fold else None
    if tells is not None:
        tells.open_text(key)
    written: list[str] = []
    lines_told = size_told = 0
    unindented = False
    while True:
        c = yield from lines.raw_head(literal=True)
        if not c:
            break
        if c == "\n":
            reader.pos += 1
            lines.fresh = False
            written.append(" " * (lines.column - indent) if indent is not None and lines.column > indent else "")
            continue
        if lines.column <= parent:
            # Text that was not indented at all goes on up to a line that looks like an entry.
            if indent is not None and not unindented:
                break
            while reader.buf.find("\n", reader.pos) < 0 and len(reader.buf) - reader.pos < reader.limits.name_size:
                yield from lines.more()
            if not lines.mending or c == "#" or _LOOSE_LINE(reader.buf, reader.pos) is not None:
                break
            if not unindented:
                lines.mend("unindented_text", "text that is not indented")
            unindented, indent = True, 0
        elif indent is None:
            indent = lines.column
        if lines.column < indent:
            if c == "#":
                break
            lines.mend("indentation", "text that is not below its first line")
        written.append(" " * (lines.column - indent) + (yield from lines.line()))
        if tells is not None:
            piece = ("\n" if lines_told else "") + "\n".join(written[lines_told:])
            tells.text(piece)
            lines_told = len(written)
            size_told += len(piece)
    value = block_text(written, fold=fold, chomp=chomp, closed=lines.cut is None)
    if tells is not None:
        if len(value) > size_told:
            tells.text(value[size_told:])
        tells.close_text(value)
    return value
