"""Values that a format writes as bare text, read by the types that the skill's schema allows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from workers.toolcalls.decode import loads
from workers.toolcalls.repair import WORDS

_TYPES: dict[str, Callable[[Any], bool]] = {
    "integer": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "number": lambda value: isinstance(value, int | float) and not isinstance(value, bool),
    "boolean": lambda value: isinstance(value, bool),
    "null": lambda value: value is None,
    "array": lambda value: isinstance(value, list),
    "object": lambda value: isinstance(value, dict),
    "string": lambda value: isinstance(value, str),
}
STRING = frozenset({"string"})
# Written with a schema's type where a format names types itself.
JSON = frozenset({"integer", "number", "boolean", "null", "array", "object"})


def types_of(schema: Any) -> frozenset[str] | None:
    """The JSON types that a schema allows; None where it does not say."""
    if not isinstance(schema, Mapping):
        return None
    found: set[str] = set()
    stated = schema.get("type")
    if isinstance(stated, str):
        found.add(stated)
    elif isinstance(stated, list):
        found.update(name for name in stated if isinstance(name, str))
    else:
        for word in ("anyOf", "oneOf"):
            for option in schema.get(word) or ():
                inner = types_of(option)
                if inner is None:
                    return None
                found |= inner
        values = schema.get("enum") or ([schema["const"]] if "const" in schema else [])
        for value in values:
            found.add(next(name for name, holds in _TYPES.items() if holds(value)))
        if not found and "properties" in schema:
            found.add("object")
        if not found and "items" in schema:
            found.add("array")
    if schema.get("nullable") is True:
        found.add("null")
    return frozenset(found & _TYPES.keys()) or None


def fits(value: Any, types: frozenset[str]) -> bool:
    """Whether a value is of one of these types."""
    return any(_TYPES[name](value) for name in types)


def coerce(text: str, types: frozenset[str] | None) -> tuple[Any, str | None]:
    """The value of a bare text, and the rule that was needed to read it (None: the text reads so as it stands).

    Without types a text that is JSON is that value. With them, a text that fits none is kept as a string; where a
    string is allowed, only `null` is read as anything else.
    """
    if types == STRING:
        return text, None
    plain = text.strip()
    if types is not None and "string" in types:
        return (None, None) if plain == "null" and "null" in types else (text, None)
    rule = None
    try:
        value = loads(plain)
    except ValueError:
        if plain not in WORDS:
            return text, None if types is None else "value_type"
        rule, value = WORDS[plain]
        if types is None:
            return value, rule
    if types is None:
        return value, rule
    if isinstance(value, float) and "integer" in types and "number" not in types and value.is_integer():
        return int(value), rule
    if fits(value, types):
        return value, rule
    return text, "value_type"
