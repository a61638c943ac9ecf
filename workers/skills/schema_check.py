"""A JSON Schema, compiled once into a function that judges a value while the model still writes.

An argument is judged at the moment it closes, between that close and the request on the wire, so the schemas that
parameters usually have (a type with an enum, lengths or bounds) become plain Python comparisons: under a microsecond
where a general validator takes tens. Whatever else a schema says is left to `jsonschema` (draft 2020-12); both say
yes and no to the same values, which the tests hold them to.

A verdict names where and what was expected and never repeats the value: it is text a user or a model wrote.
Pure.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final

import jsonschema
import msgspec

from workers.skills.parameters import Schema


class Verdict(msgspec.Struct, frozen=True):
    """Why a value is refused. path: below the value, as `.items[0].id`, "" for the value itself. expected: the rule."""

    path: str
    expected: str


Check = Callable[[Any], Verdict | None]

ANNOTATIONS: Final = frozenset({"title", "description", "default", "examples", "deprecated", "$comment", "format"})
"""Keywords that never refuse a value: `format` is an annotation in draft 2020-12 unless a vocabulary says otherwise."""
_STRING: Final = frozenset({"minLength", "maxLength", "pattern"})
_NUMBER: Final = frozenset({"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"})
_ARRAY: Final = frozenset({"items", "minItems", "maxItems"})


def compile_check(schema: Schema, definitions: dict[str, Any] | None = None) -> Check:
    """A function that gives None for a valid value and the first Verdict otherwise.

    definitions: the `$defs` that `#/$defs/...` references in `schema` mean. The schema itself must be valid.
    """
    return _fast(schema) or _general(schema, definitions)


def _fast(schema: Schema) -> Check | None:
    """The compiled form of a schema made of common keywords only, None when it has others."""
    if isinstance(schema, bool):
        return _accept if schema else lambda value: Verdict("", "nothing is accepted here")
    keywords = schema.keys() - ANNOTATIONS
    kind = schema.get("type")
    keywords -= {"type"}
    if "enum" in keywords:
        options = schema["enum"]
        if keywords != {"enum"} or not all(isinstance(option, str) for option in options):
            return None
        if kind not in (None, "string"):
            return None
        return _one_of(frozenset(options), ", ".join(options))
    if kind == "string" and keywords <= _STRING:
        return _string(schema)
    if kind in ("integer", "number") and keywords <= _NUMBER:
        return _number(schema, integral=kind == "integer")
    if kind == "boolean" and not keywords:
        return lambda value: None if isinstance(value, bool) else Verdict("", "a boolean")
    if kind == "array" and keywords <= _ARRAY:
        return _array(schema)
    return None


def _accept(value: Any) -> Verdict | None:
    return None


def _one_of(options: frozenset[str], names: str) -> Check:
    refused = Verdict("", f"one of {names}")

    def check(value: Any) -> Verdict | None:
        return None if isinstance(value, str) and value in options else refused

    return check


def _string(schema: dict[str, Any]) -> Check:
    least, most = schema.get("minLength", 0), schema.get("maxLength")
    pattern = re.compile(schema["pattern"]) if "pattern" in schema else None
    wrong_type = Verdict("", "a string")
    too_short = Verdict("", f"at least {least} characters")
    too_long = Verdict("", f"at most {most} characters")
    unmatched = Verdict("", f"text that matches {schema.get('pattern')}")

    def check(value: Any) -> Verdict | None:
        if not isinstance(value, str):
            return wrong_type
        if len(value) < least:
            return too_short
        if most is not None and len(value) > most:
            return too_long
        if pattern is not None and pattern.search(value) is None:
            return unmatched
        return None

    return check


def _number(schema: dict[str, Any], integral: bool) -> Check:
    low, high = schema.get("minimum"), schema.get("maximum")
    above, below = schema.get("exclusiveMinimum"), schema.get("exclusiveMaximum")
    wrong_type = Verdict("", "an integer" if integral else "a number")

    def check(value: Any) -> Verdict | None:
        if isinstance(value, bool) or not isinstance(value, int | float):
            return wrong_type
        if integral and isinstance(value, float) and not value.is_integer():
            return wrong_type
        if low is not None and value < low:
            return Verdict("", f"at least {low}")
        if high is not None and value > high:
            return Verdict("", f"at most {high}")
        if above is not None and value <= above:
            return Verdict("", f"more than {above}")
        if below is not None and value >= below:
            return Verdict("", f"less than {below}")
        return None

    return check


def _array(schema: dict[str, Any]) -> Check | None:
    item = _fast(schema.get("items", True))
    if item is None:
        return None
    least, most = schema.get("minItems", 0), schema.get("maxItems")

    def check(value: Any) -> Verdict | None:
        if not isinstance(value, list):
            return Verdict("", "an array")
        if len(value) < least:
            return Verdict("", f"at least {least} items")
        if most is not None and len(value) > most:
            return Verdict("", f"at most {most} items")
        for index, element in enumerate(value):
            refused = item(element)
            if refused is not None:
                return Verdict(f"[{index}]{refused.path}", refused.expected)
        return None

    return check


def _general(schema: Schema, definitions: dict[str, Any] | None) -> Check:
    whole = {**schema, "$defs": definitions} if isinstance(schema, dict) and definitions else schema
    validator = jsonschema.Draft202012Validator(whole)

    def check(value: Any) -> Verdict | None:
        error = next(validator.iter_errors(value), None)
        return None if error is None else Verdict(path_text(error.absolute_path), _expected(error))

    return check


def path_text(path: Any) -> str:
    """A path of names and indexes as `.items[0].id`."""
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)


def _expected(error: Any) -> str:
    """What the broken keyword asked for, from the schema alone."""
    keyword, rule = error.validator, error.validator_value
    if keyword == "type":
        return f"type {' or '.join(rule) if isinstance(rule, list) else rule}"
    if keyword == "required":
        return f"all of {', '.join(rule)}"
    if keyword in ("anyOf", "oneOf", "allOf", "not", "if"):
        return f"a value that passes {keyword}"
    if keyword == "additionalProperties":
        return "no other properties than the declared ones"
    return f"{keyword} {rule}"[:200]
