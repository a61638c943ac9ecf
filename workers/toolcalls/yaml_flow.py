"""YAML's flow style, `{a: b, c: [d, "e"]}`: where it ends while it streams, and its value once it is closed."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from workers.toolcalls import repair as json_repair
from workers.toolcalls.decode import loads as json_loads
from workers.toolcalls.facts import Fact
from workers.toolcalls.reader import Malformed
from workers.toolcalls.yaml_scalars import folded_quote, plain_value, unescape

# A bracket, a quote that may open a string (behind a bracket, comma, colon or at the start), or a comment.
_MARK = re.compile(r"""(?:^|[\[{,:])[ \t]*["']|[\[\]{}]|(?:^|(?<=[ \t]))\#""")
_DOUBLE_END = re.compile(r'(?:[^"\\]|\\.)*?"', re.DOTALL)
_SINGLE_END = re.compile(r"(?:[^']|'')*?'(?!')")
_SPACE = re.compile(r"(?:[ \t\r\n]|(?:(?<=[ \t\r\n])|\A)#[^\n]*)*")
_PLAIN = re.compile(r"(?:[^,\[\]{}:#\n]|:(?![ \t\r\n,\[\]{}]|\Z)|(?<![ \t\r\n])#|\n)+")
_DOUBLE = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL)
_SINGLE = re.compile(r"'((?:[^']|'')*)'")
_KEY_END = re.compile(r"[ \t\r\n]*:(?=[ \t\r\n,\[\]{}]|\Z)")
_COLON = re.compile(r"[ \t\r\n]*:")


class Balance:
    """Finds where a flow container ends, line by line."""

    def __init__(self) -> None:
        self.depth = 0
        self.deepest = 0
        self._quote = ""

    def end(self, line: str) -> int | None:
        """Where in this line, the next one, the container is closed; None if it goes on."""
        pos = 0
        while True:
            if self._quote:
                match = (_DOUBLE_END if self._quote == '"' else _SINGLE_END).match(line, pos)
                if match is None:
                    return None
                self._quote = ""
                pos = match.end()
                continue
            match = _MARK.search(line, pos)
            if match is None:
                return None
            mark = match.group()
            pos = match.end()
            if mark == "#":
                return None
            if mark[0] in "[{":
                self.depth += 1
                self.deepest = max(self.depth, self.deepest)
            if mark in "]}":
                self.depth -= 1
                if not self.depth:
                    return pos
            if mark[-1] in "\"'":
                self._quote = mark[-1]


def loads(text: str, start: int, call: int | None, emit: Callable[[Fact], None], *, repair: bool, depth: int) -> Any:
    """The value of a whole flow container that began at `start`; JSON is read as JSON. Raises Malformed."""
    try:
        return json_loads(text)
    except ValueError:
        pass
    flow = _Flow(text, start)
    try:
        value = flow.value(depth)
        flow.space()
        if flow.pos < len(text):
            raise flow.malformed("text behind the end of the value")
    except Malformed:
        if not repair:
            raise
    else:
        return value
    return json_repair.loads(text, start, call, emit, depth)


def _folded(text: str) -> str:
    """Plain text, which may stand on several lines."""
    return folded_quote(text.replace("\r", "").split("\n"), double=False).strip(" \t")


class _Flow:
    """Reads flow style from text that is all there; depth is bounded by the caller."""

    def __init__(self, text: str, start: int) -> None:
        self.text = text
        self.pos = 0
        self.start = start

    def malformed(self, message: str) -> Malformed:
        return Malformed(self.start + self.pos, "invalid_yaml", message)

    def space(self) -> str:
        match = _SPACE.match(self.text, self.pos)
        assert match is not None
        self.pos = match.end()
        return self.text[self.pos : self.pos + 1]

    def value(self, depth: int) -> Any:
        c = self.space()
        if c == "{" or c == "[":
            if not depth:
                raise Malformed(self.start + self.pos, "too_deep", "too many containers deep")
            self.pos += 1
            return self._mapping(depth - 1) if c == "{" else self._list(depth - 1)
        if c == '"' or c == "'":
            return self._quoted(c)
        return self._plain()

    def _quoted(self, quote: str) -> str:
        match = (_DOUBLE if quote == '"' else _SINGLE).match(self.text, self.pos)
        if match is None:
            raise self.malformed("a quote is missing")
        text = folded_quote(match.group(1).split("\n"), double=quote == '"')
        if quote == "'":
            text = text.replace("''", "'")
        else:
            text, rules = unescape(text)
            if rules:
                raise self.malformed("a broken escape")
        self.pos = match.end()
        return text

    def _plain(self) -> Any:
        match = _PLAIN.match(self.text, self.pos)
        if match is None:
            return None
        text = _folded(match.group())
        if text[:1] in "&*!|>%@`":
            raise self.malformed(f"{text[:1]!r} begins no plain text")
        self.pos = match.end()
        try:
            return plain_value(text)
        except ValueError as error:
            raise self.malformed(str(error)) from None

    def _key(self) -> str:
        c = self.text[self.pos]
        if c in "\"'":
            return self._quoted(c)
        match = _PLAIN.match(self.text, self.pos)
        if match is None:
            raise self.malformed("a key is due")
        self.pos = match.end()
        return _folded(match.group())

    def _mapping(self, depth: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        while True:
            c = self.space()
            if c == "}":
                self.pos += 1
                return found
            if not c:
                raise self.malformed("a bracket is missing")
            quoted = c in "\"'"
            key = self._key()
            match = (_COLON if quoted else _KEY_END).match(self.text, self.pos)
            if match is None:
                found[key] = None
            else:
                self.pos = match.end()
                found[key] = None if self.space() in (",", "}") else self.value(depth)
            self._comma("}")

    def _list(self, depth: int) -> list[Any]:
        found: list[Any] = []
        while True:
            c = self.space()
            if c == "]":
                self.pos += 1
                return found
            if c in ("", ",", "}"):
                raise self.malformed("a value is due")
            before = self.pos
            item = self.value(depth)
            match = (_COLON if c in "\"'" else _KEY_END).match(self.text, self.pos)
            if match is not None and c not in "[{":
                # A single pair without braces.
                self.pos = before
                key = self._key()
                match = (_COLON if c in "\"'" else _KEY_END).match(self.text, self.pos)
                assert match is not None
                self.pos = match.end()
                item = {key: None if self.space() in (",", "]") else self.value(depth)}
            found.append(item)
            self._comma("]")

    def _comma(self, closer: str) -> None:
        c = self.space()
        if c == ",":
            self.pos += 1
        elif c != closer:
            raise self.malformed("a comma is due")
