"""The JSON Schema of a plan: what a model forced by structured outputs can write, and nothing else.

A plan is an array of `{"name": "<skill>", "arguments": {...}}`, one alternative per discovered skill. The schema is
for a grammar, not for judging: it uses only what grammar compilers (xgrammar in vLLM, OpenAI's structured outputs)
take, and leaves out what they refuse. What it leaves out is still enforced when each argument closes (manifest.py).

Two choices serve early firing: `name` comes before `arguments`, and the parameters that suffice to fire come first,
since a grammar makes the model write members in the schema's order.
Pure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from streams.events.intake import ClientTool
from streams.events.registering import SkillManifest
from workers.skills.parameters import Schema, fire_on, properties
from workers.skills.references import GRAMMAR_PATTERN

DEFAULT_MAX_CALLS: Final = 8
REFERENCE: Final[dict[str, Any]] = {"type": "string", "pattern": GRAMMAR_PATTERN}

_KEPT: Final = frozenset({
    "type", "enum", "const", "pattern", "minLength", "maxLength", "minimum", "maximum", "exclusiveMinimum",
    "exclusiveMaximum", "minItems", "maxItems", "required",
})  # fmt: skip


def plan_schema(
    manifests: Sequence[SkillManifest],
    client_tools: Sequence[ClientTool] = (),
    max_calls: int = DEFAULT_MAX_CALLS,
    min_calls: int = 0,
    references: bool = True,
) -> dict[str, Any]:
    """The schema of a plan of `min_calls` to `max_calls` calls of these skills and the client's own functions.

    references: where a parameter would not take a string anyhow, `$1.path` is allowed beside its own type (never
    with max_calls 1: there is no earlier call). Where a client's function has a skill's name, the skill is meant.
    With neither skills nor functions only `[]` is a plan. The result is a new value that shares nothing mutable.
    """
    references = references and max_calls > 1
    alternatives: list[dict[str, Any]] = []
    definitions: dict[str, Any] = {}
    names: set[str] = set()
    for manifest in manifests:
        if manifest.name not in names:
            names.add(manifest.name)
            arguments = argument_schema(manifest, references, definitions)
            alternatives.append(_call(manifest.name, arguments))
    for tool in client_tools:
        if tool.name not in names:
            names.add(tool.name)
            arguments = _object(tool.parameters, (), references, tool.name, definitions)
            alternatives.append(_call(tool.name, arguments))
    if not alternatives:
        return {"type": "array", "items": {"type": "string"}, "maxItems": 0}
    items = alternatives[0] if len(alternatives) == 1 else {"anyOf": alternatives}
    schema: dict[str, Any] = {"type": "array", "items": items, "minItems": min_calls, "maxItems": max_calls}
    if definitions:
        schema["$defs"] = definitions
    return schema


def argument_schema(
    manifest: SkillManifest, references: bool = False, definitions: dict[str, Any] | None = None
) -> dict[str, Any]:
    """The grammar's schema of one skill's arguments object, parameters that suffice to fire first.

    definitions: takes the schema's `$defs` under `<skill>.<name>`; None keeps them in the result.
    """
    collected: dict[str, Any] = {} if definitions is None else definitions
    schema = _object(manifest.parameters, fire_on(manifest), references, manifest.name, collected)
    if definitions is None and collected:
        schema["$defs"] = collected
    return schema


def written_order(manifest: SkillManifest) -> tuple[str, ...]:
    """The parameters in the order the plan's schema asks for them."""
    first = fire_on(manifest)
    return (*first, *(name for name in properties(manifest) if name not in first))


def _call(name: str, arguments: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {"name": {"const": name}, "arguments": arguments},
        "required": ["name", "arguments"],
        "additionalProperties": False,
    }


def _object(
    parameters: Mapping[str, Any], first: tuple[str, ...], references: bool, owner: str, definitions: dict[str, Any]
) -> dict[str, Any]:
    """A closed arguments object; `$defs` move to `definitions` under names of their own."""
    for name, definition in parameters.get("$defs", {}).items():
        definitions[f"{owner}.{name}"] = _grammar(definition, owner)
    declared: dict[str, Schema] = parameters.get("properties", {})
    required = list(parameters.get("required", ()))
    order = [*first, *(name for name in required if name not in first)]
    order += [name for name in declared if name not in order]
    members = {
        name: _or_reference(_grammar(declared[name], owner), references) for name in order if name in declared
    }  # fmt: skip
    return {
        "type": "object",
        "properties": members,
        "required": [name for name in order if name in required],
        "additionalProperties": False,
    }


def _or_reference(schema: dict[str, Any], references: bool) -> dict[str, Any]:
    """A reference is a string, so a parameter that takes any string needs nothing more."""
    plain_string = schema.get("type") == "string" and not schema.keys() & {"pattern", "enum", "maxLength"}
    if not references or plain_string or not schema:
        return schema
    return {"anyOf": [schema, dict(REFERENCE)]}


def _grammar(schema: Schema, owner: str) -> dict[str, Any]:
    """`schema` in keywords that grammar compilers take: never narrower, but for members it does not name."""
    if isinstance(schema, bool):
        return {}
    if "$ref" in schema:
        return {"$ref": f"#/$defs/{owner}.{str(schema['$ref']).removeprefix('#/$defs/')}"}
    for keyword in ("anyOf", "oneOf"):
        if keyword in schema:
            return {"anyOf": [_grammar(option, owner) for option in schema[keyword]]}
    if "allOf" in schema:
        return _grammar(schema["allOf"][0], owner) if len(schema["allOf"]) == 1 else {}
    kept: dict[str, Any] = {keyword: schema[keyword] for keyword in schema if keyword in _KEPT}
    if "pattern" in kept:  # a grammar compiler takes a pattern or lengths, not both
        kept.pop("minLength", None)
        kept.pop("maxLength", None)
    if "properties" in schema:
        kept["properties"] = {name: _grammar(member, owner) for name, member in schema["properties"].items()}
        kept["additionalProperties"] = False
    elif isinstance(schema.get("additionalProperties"), dict):
        kept["additionalProperties"] = _grammar(schema["additionalProperties"], owner)
    if "items" in schema:
        kept["items"] = _grammar(schema["items"], owner)
    return kept
