"""Text of one closed JSON value to its value and back, with the house's decisions on what JSON leaves open.

- Integers are exact at any length up to Python's own limit (4,300 digits); numbers beyond a double's range are
infinite, as
  in Python's `json`.
- A lone surrogate escape is accepted where the standard accepts it; the text written back keeps it as an escape.
- `NaN` and `Infinity` are no JSON and are refused.
- Of a key written twice, the later value counts.
"""

from __future__ import annotations

import json
import re
from typing import Any, NoReturn

import orjson

# orjson turns integers beyond 64 bits into floats without a word; 19 digits are where that can begin.
_LONG_INTEGER = re.compile(r"[0-9]{19}").search
_WHITESPACE = re.compile(r"[ \t\n\r]").search
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?").fullmatch
# Reads back as infinite, and is JSON.
_INFINITE = "1e999"
_LITERALS = {"true": True, "false": False, "null": None}


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def loads(text: str) -> Any:
    """The value of a whole JSON text. Raises ValueError (with `pos` where known) for anything RFC 8259 does not
    allow.
    """
    if _LONG_INTEGER(text) is None:
        try:
            return orjson.loads(text)
        except orjson.JSONDecodeError:
            pass  # the slower reader decides: it also knows lone surrogates and numbers beyond a double
    return json.loads(text, parse_constant=_refuse)


def dumps(value: Any) -> str:
    """Compact JSON of a value. A lone surrogate is written as its escape, an infinite number as one beyond a double."""
    try:
        text = orjson.dumps(value).decode()
    except (TypeError, UnicodeEncodeError):
        text = json.dumps(value, separators=(",", ":"))
    if ("null" in text or "Infinity" in text) and _has_infinity(value):
        return _with_infinity(value)
    return text


def _with_infinity(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ",".join(f"{dumps(key)}:{_with_infinity(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(_with_infinity, value)) + "]"
    if isinstance(value, float) and _has_infinity(value):
        return _INFINITE if value > 0 else "-" + _INFINITE
    return dumps(value)


def _has_infinity(value: Any) -> bool:
    if isinstance(value, float):
        return value - value != 0.0
    if isinstance(value, dict):
        return any(map(_has_infinity, value.values()))
    return isinstance(value, list) and any(map(_has_infinity, value))


def compact(text: str, value: Any) -> str:
    """The closed JSON text without the space between its parts; the text itself where it holds none.

    Numbers may change their spelling (`1.50` to `1.5`), never their value.
    """
    return text if _WHITESPACE(text) is None else dumps(value)


def string_value(raw: str) -> str:
    """The string whose JSON text between the quotes is `raw`; `raw` must already be valid."""
    if "\\" not in raw:
        return raw
    quoted = '"' + raw + '"'
    try:
        value = orjson.loads(quoted)
    except orjson.JSONDecodeError:
        value = json.loads(quoted)
    assert isinstance(value, str)
    return value


def string_text(value: str) -> str:
    """The JSON text of a string, without its quotes."""
    return dumps(value)[1:-1]


def scalar_value(text: str) -> Any:
    """The value of a number or literal. Raises ValueError where `text` is neither."""
    match = _NUMBER(text)
    if match is not None:
        return int(text) if match.lastindex is None else float(text)
    if text in _LITERALS:
        return _LITERALS[text]
    raise ValueError(f"{text[:40]!r} is not a JSON value")
