"""YAML scalars: what a plain one means, and the text of quoted, literal and folded ones.

Plain scalars follow YAML 1.2's core schema with one narrowing: a number is what JSON calls a number. So `yes`, `on`,
`012`, `+47`, `0x1f`, `1_000`, `12:30` and dates are strings, and what a plan says does not depend on the notation it is
written in.
"""

from __future__ import annotations

import re
from typing import Any

from workers.toolcalls.decode import scalar_value

_WORDS: dict[str, Any] = {"": None, "~": None}
for _word, _value in (("null", None), ("true", True), ("false", False)):
    _WORDS.update({_word: _value, _word.capitalize(): _value, _word.upper(): _value})
# Read as booleans by YAML 1.1, and so written by models where a skill wants one.
SWITCHES = {"yes": True, "on": True, "y": True, "no": False, "off": False, "n": False}
_NO_NUMBER = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)").fullmatch
_COMMENT = re.compile(r"(?:^|[ \t])#").search
_ESCAPE = re.compile(
    r"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}"
    r"|[ \t]*\n[ \t]*|.)",
    re.DOTALL,
)
_ESCAPES = {
    "0": "\0",
    "a": "\a",
    "b": "\b",
    "t": "\t",
    "\t": "\t",
    "n": "\n",
    "v": "\v",
    "f": "\f",
    "r": "\r",
    "e": "\x1b",
    " ": " ",
    '"': '"',
    "/": "/",
    "\\": "\\",
    "N": "\x85",
    "_": "\xa0",
    "L": "\u2028",
    "P": "\u2029",
}


def plain_value(text: str) -> Any:
    """The value of a plain scalar. Raises ValueError for infinities, NaN and integers that are too long."""
    if text in _WORDS:
        return _WORDS[text]
    if _NO_NUMBER(text) is not None:
        raise ValueError(f"{text} has no JSON")
    if text[0] in "-0123456789":
        try:
            return scalar_value(text)
        except ValueError:
            if text.lstrip("-").isdigit() and len(text) > 4000:
                raise
    return text


def without_comment(text: str) -> tuple[str, bool]:
    """A plain line without its comment and the space around it, and whether there was a comment."""
    match = _COMMENT(text)
    return (text if match is None else text[: match.start()]).strip(" \t"), match is not None


def unescape(text: str) -> tuple[str, list[str]]:
    """The text between double quotes (already folded) as its value, and the rules that had to mend it
    (`invalid_escape`, `lone_surrogate`), in order. A pair of surrogate escapes is one character, as in JSON.
    """
    rules: list[str] = []

    def meant(match: re.Match[str]) -> str:
        escape = match.group()
        kind = escape[1]
        if len(escape) == 12:
            high, low = int(escape[3 - 1 : 6], 16), int(escape[8:], 16)
            return chr(0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00))
        if len(escape) > 2 and kind in "xuU":
            code = int(escape[2:], 16)
            if 0xD800 <= code < 0xE000 or code > 0x10FFFF:
                rules.append("lone_surrogate")
                return "\N{REPLACEMENT CHARACTER}"
            return chr(code)
        if kind in _ESCAPES:
            return _ESCAPES[kind]
        if escape.endswith("\n") or escape.strip(" \t\\") == "":
            return ""
        rules.append("invalid_escape")
        return kind if kind in "'`$" else escape

    return _ESCAPE.sub(meant, text), rules


def folded_quote(lines: list[str], *, double: bool) -> str:
    """The lines of a quoted scalar, without quotes, as one text: a line end is a space, an empty line a line end. In
    double quotes a backslash at a line's end joins the lines."""
    if len(lines) == 1:
        return lines[0]
    text = lines[0].rstrip(" \t") if not _joined(lines[0], double) else lines[0]
    breaks = 0
    for number, line in enumerate(lines[1:], 1):
        last = number == len(lines) - 1
        stripped = line.lstrip(" \t")
        if not last and not _joined(stripped, double):
            stripped = stripped.rstrip(" \t")
        if not stripped and not last:
            breaks += 1
            continue
        if _joined(text, double):
            text = text[:-1] + "\n" * breaks
        else:
            text += "\n" * breaks if breaks else " "
        text += stripped
        breaks = 0
    return text


def _joined(line: str, double: bool) -> bool:
    return double and (len(line) - len(line.rstrip("\\"))) % 2 == 1


def block_text(lines: list[str], *, fold: bool, chomp: str, closed: bool) -> str:
    """The lines of a literal or folded scalar, without their indentation, as its text.

    `chomp` is `-` (no line end at the end), `+` (all of them) or empty (one); `closed` says whether the last line had
    its line end at all.
    """
    last = len(lines)
    while last and not lines[last - 1]:
        last -= 1
    tail = len(lines) - last
    text = _folded(lines[:last]) if fold else "\n".join(lines[:last])
    if chomp == "-":
        return text
    if chomp == "+":
        return text + "\n" * (tail + (1 if last and closed else 0))
    return text + ("\n" if last and (closed or tail) else "")


def _folded(lines: list[str]) -> str:
    parts: list[str] = []
    breaks = 0
    before = ""
    for number, line in enumerate(lines):
        if not line:
            breaks += 1
            continue
        if number == breaks:  # only empty lines so far
            parts.append("\n" * breaks)
        elif before[:1] in " \t" or line[:1] in " \t":
            parts.append("\n" * (breaks + 1))
        else:
            parts.append("\n" * breaks if breaks else " ")
        parts.append(line)
        before = line
        breaks = 0
    return "".join(parts)
