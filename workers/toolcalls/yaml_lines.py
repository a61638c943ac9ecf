"""The lines of a YAML text as they come: how far the next one is indented, what it begins with, and its rest.

A YAML value closes by what follows it: a plain scalar by the indentation of the next line that holds something. So the
two things a reader waits for are the head of a line (its indentation and first character) and the end of a line.
Chunks that hold no line end are put aside unread while the rest of a line is awaited.
"""

from __future__ import annotations

import re

from workers.toolcalls.facts import Repaired
from workers.toolcalls.reader import Ended, Malformed, Reader, Steps

_SPACES = re.compile(" *").match
_GAP = re.compile("[ \t\r]*").match
# A key and its colon; a plain key begins with nothing that means something else and holds no comment.
_KEY = re.compile(
    r"""(?:"(?P<double>(?:[^"\\\n]|\\.)*)"|'(?P<single>(?:[^'\n]|'')*)'"""
    r"""|(?P<plain>(?:[^ \t\r\n"'#&*!|>%@`{}\[\],?:-]|[-?:](?=[^ \t\r\n]))"""
    r"""(?:[^\n:#]|:(?=[^ \t\r\n])|(?<=[^ \t])\#)*?))[ \t]*:(?=[ \t\r\n])"""
).match
# A key implied by its colon ends within this many characters, as YAML says.
_KEY_SIZE = 1024
_NUMBER = re.compile(r"[0-9]{1,3}[.)](?=[ \t\r\n])").match
_HALF_NUMBER = re.compile(r"[0-9]{1,3}[.)]?\Z").match
# What one tab in the indentation counts for; models that write tabs write one where others write two spaces.
TAB_COLUMNS = 2
FENCE = "```"


class Lines:
    """`c` is the first character of the line at hand and `column` its indentation; at the end of the text (or of the
    block around it) `c` is empty and `column` -1. `fresh` says that nothing of the line was read yet.
    """

    __slots__ = (
        "c",
        "column",
        "comma",
        "cut",
        "fenced",
        "fresh",
        "index",
        "mending",
        "over",
        "plain",
        "reader",
        "started",
    )

    def __init__(self, reader: Reader, *, fenced: bool = False) -> None:
        self.reader = reader
        self.mending = reader.repair
        self.fenced = fenced
        self.index: int | None = None
        self.c = ""
        self.column = 0
        self.fresh = False
        self.started = False
        self.over = False  # the block's end was read
        self.cut: Ended | None = None  # the text ended, in the middle of a line
        self.plain: str | None = None  # the text of the last scalar, if that was a plain one
        self.comma = False  # a comma stood behind the last value, which was quoted or in brackets

    def mend(self, rule: str, message: str, at: int | None = None) -> None:
        """Tells a repair; in strict mode raises Malformed."""
        position = self.reader.position if at is None else at
        if not self.mending:
            raise Malformed(position, "invalid_yaml", message)
        self.reader.emit(Repaired(self.index, rule, position))

    def more(self) -> Steps:
        """Waits for more of the line; a text that ends here has a line end."""
        try:
            yield from self.reader.more()
        except Ended as ended:
            if self.cut is not None or not ended.natural:
                raise
            self.cut = ended
            self.reader.buf += "\n"

    def raw_head(self, *, literal: bool = False) -> Steps:
        """To the first character behind the next line's indentation, which is returned unread; it may be a line end.
        In `literal` text a tab is text.
        """
        if self.fresh:
            return self.c
        reader = self.reader
        column = 0
        tabs = False
        while not self.over:
            match = _SPACES(reader.buf, reader.pos)
            assert match is not None
            column += match.end() - reader.pos
            reader.pos = match.end()
            if reader.pos < len(reader.buf):
                c = reader.buf[reader.pos]
                if c == "\r":
                    reader.pos += 1
                    continue
                if c == "\t" and not literal:
                    tabs = True
                    column += TAB_COLUMNS
                    reader.pos += 1
                    continue
                if tabs and c not in "\n#":
                    self.mend("tab_indentation", "a tab in the indentation")
                if c == "`" and self.fenced and not column and (yield from reader.literal(FENCE)) is not None:
                    self.over = True
                    break
                if not column and c in "-." and (yield from self._marks_document(c)):
                    yield from self.line()
                    self.over = c == "." or self.started
                    continue
                self.c, self.column, self.fresh = c, column, True
                return c
            if reader.bound is not None:
                reader.hold_to(reader.bound)
            try:
                yield from reader.more()
            except Ended as ended:
                if not ended.natural:
                    raise
                break
        self.over = True
        self.c, self.column, self.fresh = "", -1, True
        return ""

    def head(self) -> Steps:
        """As `raw_head`, to the next line that holds more than space and comments."""
        reader = self.reader
        while True:
            c = yield from self.raw_head()
            if c == "\n":
                reader.pos += 1
                self.fresh = False
            elif c == "#":
                yield from self.line()
            else:
                self.started = True
                return c

    def _marks_document(self, c: str) -> Steps:
        """Whether the line is `---` or `...`."""
        reader = self.reader
        while True:
            line = reader.buf[reader.pos : reader.pos + 4]
            if len(line) == 4 or "\n" in line or line != c * len(line):
                return line[:3] == c * 3 and line[3:] in ("", " ", "\t", "\r", "\n")
            yield from self.more()

    def line(self) -> Steps:
        """The rest of the line, without its line end, which is read."""
        self.fresh = False
        reader = self.reader
        waiting = reader.waiting
        bound = reader.bound_from_here()
        parts: list[str] = []
        while True:
            buf, pos = reader.buf, reader.pos
            end = buf.find("\n", pos)
            if end >= 0:
                parts.append(buf[pos:end])
                reader.pos = end + 1
                return "".join(parts).rstrip("\r")
            parts.append(buf[pos:])
            reader.base += len(buf)
            reader.buf, reader.pos = "", 0
            reader.hold_to(bound)
            ended = None
            chunk = ""
            try:
                chunk = yield from reader.chunk("\n")
            except Ended as through:
                ended = through
            reader.quiet = None
            if waiting:
                held = "".join(waiting)
                waiting.clear()
                parts.append(held)
                reader.base += len(held)
            if ended is not None:
                if not ended.natural:
                    raise ended
                self.cut = ended
                return "".join(parts).rstrip("\r")
            reader.buf = chunk

    def gap(self) -> Steps:
        """Past the space before a value; returns the value's first character, or nothing where the line holds none
        (the line is read then). `column` moves with it.
        """
        self.fresh = False
        reader = self.reader
        spaced = False
        while True:
            match = _GAP(reader.buf, reader.pos)
            assert match is not None
            size = match.end() - reader.pos
            spaced = spaced or size > 0
            self.column += size
            reader.pos = match.end()
            if reader.pos < len(reader.buf):
                c = reader.buf[reader.pos]
                if c == "\n" or (c == "#" and spaced):
                    yield from self.line()
                    return ""
                return c
            yield from self.more()

    def dashed(self) -> Steps:
        """Whether a list item begins at the head."""
        if self.c != "-" and not (self.c == "*" and self.mending):
            return False
        reader = self.reader
        while reader.pos + 1 >= len(reader.buf):
            yield from self.more()
        return reader.buf[reader.pos + 1] in " \t\r\n"

    def number(self) -> Steps:
        """How long the number is that stands at the head for a dash (repair mode), as in `1. name: x`; 0 for none."""
        reader = self.reader
        while self.mending and self.c.isdigit():
            match = _NUMBER(reader.buf, reader.pos)
            if match is not None:
                return len(match.group())
            if _HALF_NUMBER(reader.buf, reader.pos) is None:
                break
            yield from self.more()
        return 0

    def key(self) -> Steps:
        """The key that stands here with its colon, as a match that is not read yet; None where no key stands here."""
        reader = self.reader
        while True:
            match = _KEY(reader.buf, reader.pos)
            if match is not None:
                return match
            if reader.buf.find("\n", reader.pos) >= 0 or len(reader.buf) - reader.pos > _KEY_SIZE:
                return None
            yield from self.more()
