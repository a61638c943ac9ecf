"""Schemas of a contract to the JSON Schema (draft 2020-12) of a manifest, whose references stay inside it.

A contract refers to anywhere in itself by JSON pointers (RFC 6901), in circles too; a manifest has `$defs`. OpenAPI 3.0
writes `nullable: true` and `exclusiveMinimum: true`, and ignores what stands beside a `$ref`; 3.1 is JSON Schema with
annotations of its own. A reference to a plain text or number is replaced by what it names, since such a schema is
checked in a microsecond.

Pure.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import unquote

from headstart.importing.choices import unconvertible

Schema = dict[str, Any]
MOST_NODES: Final = 20_000  # of one operation; a manifest's schema has at most 32 KiB anyway
MOST_DEPTH: Final = 64
_BY_NAME: Final = ("properties", "patternProperties", "dependentSchemas")
_LISTS: Final = ("allOf", "anyOf", "oneOf", "prefixItems")
_SINGLE: Final = (
    "items", "additionalProperties", "not", "if", "then", "else", "contains", "propertyNames", "unevaluatedItems",
    "unevaluatedProperties",
)  # fmt: skip
_PLAIN: Final = frozenset({
    "type", "enum", "const", "default", "format", "description", "pattern", "minLength", "maxLength", "minimum",
    "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "minItems", "maxItems", "uniqueItems",
    "minContains", "maxContains", "minProperties", "maxProperties", "required", "dependentRequired",
})  # fmt: skip
_FOREIGN: Final = ("$dynamicRef", "$recursiveRef", "$id")
_SCALARS: Final = ("string", "integer", "number", "boolean")


def table(node: Any) -> Mapping[str, Any]:
    """A node that ought to be an object; an empty one where it is none."""
    return node if isinstance(node, Mapping) else {}


def resolve(root: Any, reference: Any) -> Any:
    """What a reference inside a document names. Raises InvalidInput (`not_convertible`) when nothing does."""
    if not isinstance(reference, str):
        raise unconvertible("one of its references is no text", "mend the document")
    if not reference.startswith("#"):
        raise unconvertible(
            "it refers to another document", "bundle the documents into one first (redocly bundle, swagger-cli bundle)"
        )
    node = root
    for token in unquote(reference).removeprefix("#").split("/")[1:]:
        key = token.replace("~1", "/").replace("~0", "~")
        if isinstance(node, Mapping) and key in node:
            node = node[key]
        elif isinstance(node, list) and key.isdecimal() and int(key) < len(node):
            node = node[int(key)]
        else:
            raise unconvertible(f"its reference {reference[:200]} names nothing", "mend the document")
    return node


class Schemas:
    """Converts the schemas of one operation. root: the document. old: it is OpenAPI 3.0.

    hidden: the annotation of members that do not belong here, "readOnly" in a request and "writeOnly" in an answer.
    notes: what was left out, in words.
    """

    def __init__(self, root: Any, old: bool = False, hidden: str = "") -> None:
        self.definitions: dict[str, Schema] = {}
        self.notes: list[str] = []
        self._root, self._old, self._hidden = root, old, hidden
        self._names: dict[str, str] = {}
        self._inline: dict[str, Schema] = {}
        self._nodes = 0

    def convert(self, schema: Any, depth: int = 0) -> Any:
        """Raises InvalidInput (`not_convertible`) where a manifest cannot say it."""
        self._nodes += 1
        if self._nodes > MOST_NODES or depth > MOST_DEPTH:
            raise unconvertible("its schema is too large", "leave it out, or give it a smaller schema")
        if isinstance(schema, bool):
            return schema
        if not isinstance(schema, Mapping):
            raise unconvertible("one of its schemas is not an object", "mend the document")
        if isinstance(reference := schema.get("$ref"), str):
            return self._reference(reference, schema, depth)
        for keyword in _FOREIGN:
            if keyword in schema:
                raise unconvertible(f"its schema uses {keyword}", "write it with $ref alone")
        made: Schema = {key: value for key, value in schema.items() if key in _PLAIN}
        for keyword in _BY_NAME:
            if keyword in schema:
                made[keyword] = self._members(keyword, schema, depth)
        for keyword in _LISTS:
            if isinstance(schema.get(keyword), list):
                made[keyword] = [self.convert(one, depth + 1) for one in schema[keyword]]
        for keyword in _SINGLE:
            if keyword in schema:
                made[keyword] = self.convert(schema[keyword], depth + 1)
        self._required(made)
        self._bounds(made)
        self._pattern(made)
        return self._nullable(made) if schema.get("nullable") is True else made

    def resolved(self, schema: Any) -> Schema:
        """A converted schema itself, where it is a reference to one; {} for True."""
        seen = 0
        while isinstance(schema, dict) and isinstance(schema.get("$ref"), str) and seen < MOST_DEPTH:
            schema = self.definitions.get(schema["$ref"].removeprefix("#/$defs/"), {})
            seen += 1
        return schema if isinstance(schema, dict) else {}

    def used_by(self, schema: Schema) -> dict[str, Schema]:
        """The definitions that a converted schema needs, and no others."""
        found: dict[str, Schema] = {}
        waiting: list[Any] = [schema]
        while waiting:
            node = waiting.pop()
            if isinstance(node, list):
                waiting += node
            elif isinstance(node, dict):
                name = str(node.get("$ref", "")).removeprefix("#/$defs/")
                if name and name not in found and name in self.definitions:
                    found[name] = self.definitions[name]
                    waiting.append(self.definitions[name])
                waiting += node.values()
        return dict(sorted(found.items()))

    # -- inside ----------------------------------------------------------------------------------------------------

    def _reference(self, reference: str, schema: Mapping[str, Any], depth: int) -> Schema:
        beside = {} if self._old else {key: value for key, value in schema.items() if key != "$ref"}
        if reference not in self._names and reference not in self._inline:
            self._define(reference, depth)
        if reference in self._inline:
            meant = dict(self._inline[reference])
        else:
            meant = {"$ref": f"#/$defs/{self._names[reference]}"}
        rest = self.convert(beside, depth + 1) if beside else {}
        if not rest.keys() - {"description", "default"}:
            return {**meant, **rest}
        return {"allOf": [meant, rest]}

    def _define(self, reference: str, depth: int) -> None:
        name = re.sub(r"[^A-Za-z0-9_]+", "_", unquote(reference).rpartition("/")[2])[:64] or "root"
        number = 2
        while name in self.definitions:
            name, number = f"{name[:60]}_{number}", number + 1
        self._names[reference] = name
        self.definitions[name] = {}
        made = self.convert(resolve(self._root, reference), depth + 1)
        self.definitions[name] = made if isinstance(made, dict) else {} if made else {"not": {}}
        if isinstance(made, dict) and made.get("type") in _SCALARS:
            self._inline[reference] = made
            del self._names[reference], self.definitions[name]

    def _members(self, keyword: str, schema: Mapping[str, Any], depth: int) -> Schema:
        members = schema[keyword]
        if not isinstance(members, Mapping):
            raise unconvertible(f"one of its schemas has {keyword} that are no object", "mend the document")
        return {
            str(name): self.convert(member, depth + 1)
            for name, member in members.items()
            if not (self._hidden and isinstance(member, Mapping) and member.get(self._hidden) is True)
        }

    def _required(self, made: Schema) -> None:
        """Each name once, as 2020-12 wants it; a member that is hidden here is not asked for."""
        required = made.get("required")
        if not isinstance(required, list):
            made.pop("required", None)
        else:
            hides = self._hidden and "properties" in made
            made["required"] = [
                name for name in dict.fromkeys(map(str, required)) if not hides or name in made["properties"]
            ]
        if made.get("required") == []:
            del made["required"]

    def _bounds(self, made: Schema) -> None:
        for strict, loose in (("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")):
            if isinstance(made.get(strict), bool) and made.pop(strict) and loose in made:
                made[strict] = made.pop(loose)

    def _pattern(self, made: Schema) -> None:
        pattern = made.get("pattern")
        if isinstance(pattern, str):
            try:
                re.compile(pattern)
            except re.error:
                del made["pattern"]
                self.notes.append("a pattern that Python cannot read is left to the API to check")

    def _nullable(self, made: Schema) -> Schema:
        kind = made.get("type")
        if not isinstance(kind, str):
            return made if not made or kind is not None else {"anyOf": [made, {"type": "null"}]}
        changed = made | {"type": [kind, "null"]}
        if "enum" in changed and None not in changed["enum"]:
            changed["enum"] = [*changed["enum"], None]
        return changed
