"""Mending what models break, by named rules on text that is already closed.

`loads` reads a whole container more freely than JSON allows and tells each rule it used. `near_name` finds the name a
model meant. Nothing here guesses at values: a rule either has one reading or does not apply.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from difflib import SequenceMatcher
from typing import Any

from workers.toolcalls.decode import scalar_value
from workers.toolcalls.facts import Fact, Repaired
from workers.toolcalls.json_quotes import Quotes, quote_ends
from workers.toolcalls.reader import Malformed

# Words of other languages in place of a value: the rule's name and the value that is meant.
WORDS: dict[str, tuple[str, Any]] = {
    "True": ("python_literal", True),
    "False": ("python_literal", False),
    "None": ("python_literal", None),
    "TRUE": ("python_literal", True),
    "FALSE": ("python_literal", False),
    "NULL": ("python_literal", None),
    "Null": ("python_literal", None),
    "undefined": ("python_literal", None),
    "NaN": ("not_a_number", None),
    "nan": ("not_a_number", None),
    "Infinity": ("not_a_number", None),
    "-Infinity": ("not_a_number", None),
    "inf": ("not_a_number", None),
    "-inf": ("not_a_number", None),
}

_ESCAPES = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "0": "\0", "a": "\a", "v": "\v"}
_ITSELF = "\"'\\/`\n"
_BARE = re.compile(r"[^,\]}\n]*")
_BARE_KEY = re.compile(r"[^ \t\n\r:=,}\]{\[\"']+")
_WORD = re.compile(r"[^ \t\n\r,\]}{\[\":']*")
_PLAIN = re.compile(r"[^\\\"'”\x00-\x1f]*")
_SKIP = re.compile(r"(?:[ \t\n\r]|//[^\n]*(?:\n|\Z)|/\*.*?(?:\*/|\Z)|#[^\n]*(?:\n|\Z))*", re.DOTALL)


def escape(text: str, pos: int) -> tuple[int, str]:
    """The escape at `pos` (a backslash): characters used and what it stands for. An unknown one stands for itself."""
    following = text[pos + 1 : pos + 2]
    if following in _ESCAPES and following:
        return 2, _ESCAPES[following]
    if following and following in _ITSELF:
        return 2, following
    if following == "u":
        digits = text[pos + 2 : pos + 6]
        if re.fullmatch("[0-9a-fA-F]{4}", digits):
            code = int(digits, 16)
            if 0xD800 <= code < 0xDC00 and re.fullmatch(r"\\u[dD][c-fC-F][0-9a-fA-F]{2}", text[pos + 6 : pos + 12]):
                low = int(text[pos + 8 : pos + 12], 16)
                return 12, chr(0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00))
            return 6, "\N{REPLACEMENT CHARACTER}" if 0xD800 <= code < 0xE000 else chr(code)
    return 1, "\\"


def loads(text: str, start: int, call: int | None, emit: Callable[[Fact], None], depth: int) -> Any:
    """The value of a container's whole text, read freely; what is open at the end is taken as closed.

    `start` is the text's position, `depth` the containers allowed. Each rule used is told once per place. Raises
    Malformed where no rule applies.
    """
    value, used = loads_first(text, start, call, emit, depth)
    if used < len(text):
        raise Malformed(start + used, "invalid_json", "text behind the end of the value")
    return value


def loads_first(text: str, start: int, call: int | None, emit: Callable[[Fact], None], depth: int) -> tuple[Any, int]:
    """As `loads`, but other text may stand behind the container: also returns where that begins."""
    reader = _Loose(text, start, call, emit)
    value = reader.value(depth)
    reader.skip()
    return value, reader.pos


class _Loose:
    """A recursive reader over text that is all there. Depth is bounded by the caller."""

    def __init__(self, text: str, start: int, call: int | None, emit: Callable[[Fact], None]) -> None:
        self.text = text
        self.pos = 0
        self.start = start
        self.call = call
        self.emit = emit

    def malformed(self, message: str) -> Malformed:
        return Malformed(self.start + self.pos, "invalid_json", message)

    def told(self, rule: str) -> None:
        self.emit(Repaired(self.call, rule, self.start + self.pos))

    def skip(self) -> str:
        """Past space and comments; the character there, or nothing at the end."""
        match = _SKIP.match(self.text, self.pos)
        assert match is not None
        if match.group().strip():
            self.told("comment")
        self.pos = match.end()
        return self.text[self.pos : self.pos + 1]

    def value(self, depth: int, *, of_object: bool | None = None) -> Any:
        c = self.skip()
        if c == "{" or c == "[":
            if not depth:
                raise Malformed(self.start + self.pos, "too_deep", "too many containers deep")
            self.pos += 1
            return self._object(depth - 1) if c == "{" else self._array(depth - 1)
        if c and c in "\"'“":
            return self._string(c, of_object)
        if c in ("", ",", ":", "]", "}"):
            raise self.malformed("a value is missing")
        return self._scalar()

    def _object(self, depth: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        comma = False
        while True:
            c = self.skip()
            if c == "}" or c == "]" or not c:
                self._close(c, "}", comma)
                return found
            if c == ",":
                self.told("extra_comma")
                self.pos += 1
                continue
            if c in "\"'“":
                key = self._string(c)
            else:
                match = _BARE_KEY.match(self.text, self.pos)
                if match is None:
                    raise self.malformed("a key is due")
                self.told("unquoted_key")
                key = match.group()
                self.pos = match.end()
            c = self.skip()
            if c not in (":", "="):
                if c:
                    raise self.malformed("a colon is due")
                return found
            self.pos += 1
            if not self.skip():
                return found
            if key in found:
                self.told("duplicate_key")
            found[key] = self.value(depth, of_object=True)
            comma = self._comma("}")

    def _array(self, depth: int) -> list[Any]:
        found: list[Any] = []
        comma = False
        while True:
            c = self.skip()
            if c == "]" or c == "}" or not c:
                self._close(c, "]", comma)
                return found
            if c == ",":
                self.told("extra_comma")
                self.pos += 1
                continue
            found.append(self.value(depth, of_object=False))
            comma = self._comma("]")

    def _close(self, c: str, closer: str, comma: bool) -> None:
        if c and comma:
            self.told("trailing_comma")
        if c and c != closer:
            self.told("wrong_bracket")
        self.pos += len(c)

    def _comma(self, closer: str) -> bool:
        c = self.skip()
        if c == ",":
            self.pos += 1
            return True
        if c and c not in "}]":
            self.told("missing_comma")
        return False

    def _string(self, quote: str, of_object: bool | None = None) -> str:
        """A string, or a key: only in a string (`of_object` says of what) may an unescaped quote be text."""
        quotes = Quotes()
        if quote == "'":
            self.told("single_quotes")
        elif quote == "“":
            self.told("curly_quotes")
            quote = "”"
        self.pos += 1
        parts: list[str] = []
        text = self.text
        while True:
            match = _PLAIN.match(text, self.pos)
            assert match is not None
            parts.append(match.group())
            self.pos = match.end()
            c = text[self.pos : self.pos + 1]
            if not c:
                if quotes.any:
                    raise self.malformed("a string with quotes in it that never ends")
                return "".join(parts)
            if c == '"' == quote and of_object is not None:
                ends = quote_ends(text, self.pos + 1, of_object=of_object, known=None, quotes=quotes, whole=True)
                if not ends:
                    self.told("inner_quotes")
                    quotes.add("".join(parts[-2:])[-1:], text[self.pos + 1 : self.pos + 2])
                    parts.append(c)
                    self.pos += 1
                    continue
            if c == quote and not (quote == "'" and text[self.pos + 1 : self.pos + 2].isalnum()):
                self.pos += 1
                return "".join(parts)
            if c == "\\":
                used, piece = escape(text, self.pos)
                if piece == "\N{REPLACEMENT CHARACTER}" and used == 6:
                    self.told("lone_surrogate")
                elif used == 1 or (piece in "'`\n" and quote == '"'):
                    self.told("invalid_escape")
                parts.append(piece)
                self.pos += used
                continue
            if c not in "\"'”":
                self.told("control_character")
            parts.append(c)
            self.pos += 1

    def _scalar(self) -> Any:
        match = _WORD.match(self.text, self.pos)
        assert match is not None
        word = match.group()
        try:
            value = scalar_value(word)
        except ValueError:
            if word not in WORDS:
                match = _BARE.match(self.text, self.pos)
                assert match is not None
                word = match.group().strip()
                if not word:
                    raise self.malformed("a value is missing") from None
                self.told("unquoted_value")
                self.pos = match.end()
                return word
            rule, value = WORDS[word]
            self.told(rule)
        self.pos = match.end()
        return value


def near_name(name: str, known: Iterable[str]) -> str | None:
    """The one known name that `name` is a slip of, or None. Spelling apart from letters and digits, or a few
    letters.
    """
    known = list(known)
    plain = _plain(name)
    same = [candidate for candidate in known if _plain(candidate) == plain]
    if same:
        return same[0] if len(same) == 1 else None
    scored = sorted(
        ((SequenceMatcher(None, plain, _plain(candidate)).ratio(), candidate) for candidate in known), reverse=True
    )
    if not scored or scored[0][0] < NEAR_RATIO or (len(scored) > 1 and scored[0][0] - scored[1][0] < NEAR_LEAD):
        return None
    return scored[0][1]


# How alike two names must be, and how much less alike the next one, for a slip to have one reading.
NEAR_RATIO = 0.84
NEAR_LEAD = 0.05


def _plain(name: str) -> str:
    return "".join(c for c in name.casefold() if c.isalnum())
