"""Marks of another notation in a YAML plan: commas at the ends of lines, typographic quotes around text (repair mode).

Both are text to YAML, so a plan that is well formed may mean them. They are taken for marks only where the call itself
shows it:

- `line_comma`: an argument that is not text by its schema (`limit: 12,`), or a quoted or bracketed one, has a comma
  behind it, and no earlier argument of the call lacks one.
- `curly_quotes`: an argument that is not text by its schema stands in such quotes, or every text of the call does and
  there are two or more of them.

Until that is known an argument with such a mark is not told: at the latest when its call ends, then as it stands.
"""

from __future__ import annotations

import re
from typing import Any

from workers.toolcalls.calls import OpenCall
from workers.toolcalls.coerce import STRING, fits, types_of
from workers.toolcalls.yaml_lines import Lines
from workers.toolcalls.yaml_scalars import SWITCHES, plain_value

_CURLY = re.compile("“([^“”]*)”").fullmatch
# Fewer texts in typographic quotes may mean them.
_TEXTS_MIN = 2


class Doubt:
    """The arguments of one call, each told once its reading is certain."""

    def __init__(self, lines: Lines, call: OpenCall) -> None:
        self.call = call
        self._lines = lines
        self._held: list[tuple[str, str, int]] = []
        self._commas: bool | None = None
        self._quotes: bool | None = None
        self._bare = False  # the argument before has no comma behind it
        self._texts = self._quoted = 0

    def take(self, key: str, value: Any, at: int) -> None:
        """An argument closed: `value` as it stands, its text in `lines.plain` if it is a plain scalar."""
        lines = self._lines
        text = None if isinstance(value, list | dict) else lines.plain
        if not lines.mending:
            self.call.argument(key, value)
            return
        comma = lines.comma or (text is not None and text.endswith(","))
        if self._bare and self._commas is None:
            self._commas = False
        self._bare = not comma
        if lines.comma and self._commas is None:
            self._commas = True
        if text is None:
            if isinstance(value, str) and self._quotes is None:
                self._quotes = False
            self._release()
            self.call.argument(key, value)
            return
        types = types_of(self.call.properties.get(key))
        if types is not None and "string" not in types:
            self._not_text(key, value, text, at, types)
            return
        self._texts += 1
        if _CURLY(_core(text)) is not None:
            self._quoted += 1
        elif self._quotes is None:
            self._quotes = False
        self._held.append((key, text, at))
        self._release()

    def settle(self) -> None:
        """There are no more arguments: what is still held is told."""
        if self._commas is None:
            self._commas = False
        if self._quotes is None:
            self._quotes = self._texts >= _TEXTS_MIN and self._quoted == self._texts
        self._release()

    def _not_text(self, key: str, value: Any, text: str, at: int, types: frozenset[str]) -> None:
        """An argument whose schema allows no text, so that a mark on it can only be one."""
        meant = _core(text)
        curly = _CURLY(meant)
        if curly is not None:
            meant = curly.group(1)
        read = value if meant == text else fitted(self._lines, self.call, key, _value(meant), at, meant)
        if meant != text and fits(read, types):
            if text.endswith(","):
                self._lines.mend("line_comma", "a comma at a line's end", at)
                self._commas = self._commas is not False
            if curly is not None:
                self._lines.mend("curly_quotes", "typographic quotes around a value", at)
                self._quotes = self._quotes is not False
            value = read
        else:
            value = fitted(self._lines, self.call, key, value, at, text)
        self._release()
        self.call.argument(key, value)

    def _release(self) -> None:
        """Tells what is certain by now."""
        held, self._held = self._held, []
        for key, written, at in held:
            text = written
            comma = text.endswith(",")
            curly = _CURLY(_core(text)) is not None
            if (comma and self._commas is None) or (curly and self._quotes is None):
                self._held.append((key, written, at))
                continue
            if comma and self._commas:
                self._lines.mend("line_comma", "a comma at a line's end", at)
                text = _core(text)
            match = _CURLY(text) if self._quotes else None
            if match is not None:
                self._lines.mend("curly_quotes", "typographic quotes around a text", at)
                self.call.argument(key, match.group(1))
            else:
                self.call.argument(key, fitted(self._lines, self.call, key, _value(text), at, text))


def _core(text: str) -> str:
    """The text without a comma at its end."""
    return text[:-1].rstrip(" \t") if text.endswith(",") else text


def _value(text: str) -> Any:
    try:
        return plain_value(text)
    except ValueError:
        return None


def fitted(lines: Lines, call: OpenCall, key: str, value: Any, at: int, text: str) -> Any:
    """The value of a plain scalar as its schema's type wants it (repair mode): text stays text, `yes` may be a
    boolean.
    """
    types = types_of(call.properties.get(key))
    if types is None:
        return value
    if types == STRING and value is not None and not isinstance(value, str):
        lines.mend("value_type", "a plain scalar that is not text", at)
        return text
    if isinstance(value, str) and "string" not in types:
        if "boolean" in types and text.lower() in SWITCHES:
            lines.mend("yaml_boolean", "a word for a boolean", at)
            return SWITCHES[text.lower()]
        if text == "None":
            lines.mend("python_literal", "a literal of another language", at)
            return None
    return value
