"""What a new version of a live skill would break for those who use the one in force.

Plans are being written for the version in force, approvals wait for it, other skills name it in `compensate`. So a new
version takes whatever the old one took and gives nothing that the old one did not promise:

- every argument that was valid stays valid: no parameter is gone, none has become required, no schema accepts less;
- every result is as it was promised: `returns` allows nothing that it did not;
- a second sending stays as harmless as it was, a person is asked where one was, and no tenant loses the skill.

Judged by the schemas alone, and on the safe side: of two schemas whose relation is not seen keyword by keyword the new
one counts as narrower. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from streams.events.registering import SkillManifest

Schema = Mapping[str, Any]
# Keywords that narrow: a lower bound may fall, an upper one rise, and either may go.
_LOWER: Final = ("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties", "minContains")
_UPPER: Final = ("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties", "maxContains")
_EXACT: Final = (
    "pattern", "format", "multipleOf", "uniqueItems", "const", "not", "if", "then", "else", "contains", "allOf",
    "oneOf", "prefixItems", "patternProperties", "propertyNames", "dependentRequired",
)  # fmt: skip
_ALIKE: Final = {"integer": {"integer", "number"}}
_JSON_TYPES: Final[Mapping[type[Any], str]] = {
    str: "string", bool: "boolean", int: "integer", float: "number", type(None): "null", list: "array", dict: "object",
}  # fmt: skip
MAX_DEPTH: Final = 32


def breaks(before: SkillManifest, after: SkillManifest) -> list[str]:
    """What `after` would break for users of `before`, each in words; [] when nothing."""
    found = list(_narrower(before.parameters, after.parameters, before.parameters, after.parameters, "parameters", 0))
    if before.returns and not after.returns:
        found.append("returns: nothing is promised any more")
    elif before.returns:
        wider = _narrower(after.returns, before.returns, after.returns, before.returns, "returns", 0)
        found += [f"{text} (turned round: what is given now was not promised)" for text in wider]
    if before.effect != after.effect:
        found.append(f"effect: was {before.effect} and is {after.effect}")
    if before.idempotent_key and not after.idempotent_key:
        found.append("idempotent_key: it is not enforced any more")
    if before.approval and not after.approval:
        found.append("approval: nobody is asked any more")
    if after.tenants and (lost := set(before.tenants or ("everybody",)) - set(after.tenants)):
        found.append(f"tenants: gone for {', '.join(sorted(lost))}")
    return found


def _narrower(
    before: Schema, after: Schema, old_root: Schema, new_root: Schema, path: str, depth: int
) -> Iterator[str]:
    """Where `after` may refuse what `before` accepts."""
    before, after = _resolve(before, old_root), _resolve(after, new_root)
    if depth > MAX_DEPTH or (before == after and "$ref" not in str(before)):
        return
    yield from _types(before, after, path)
    yield from _values(before, after, path)
    yield from _members(before, after, old_root, new_root, path, depth)
    if "items" in after:
        if "items" not in before and not _only(before, {"object", "string", "number", "integer", "boolean", "null"}):
            yield f"{path}[]: was anything and is held to a schema"
        elif isinstance(after["items"], dict) and isinstance(before.get("items"), dict):
            yield from _narrower(before["items"], after["items"], old_root, new_root, f"{path}[]", depth + 1)
        elif after["items"] != before.get("items", after["items"]):
            yield f"{path}[]: changed"
    if "anyOf" in before or "anyOf" in after:
        choices = after.get("anyOf", [{key: value for key, value in after.items() if key != "anyOf"}])
        for number, choice in enumerate(before.get("anyOf", [before])):
            refusals = [list(_narrower(choice, one, old_root, new_root, path, depth + 1)) for one in choices]
            if not any(refused == [] for refused in refusals):
                yield f"{path}: choice {number + 1} is not taken any more"


def _types(before: Schema, after: Schema, path: str) -> Iterator[str]:
    allowed = _type_set(after)
    if allowed is None:
        return
    had = _type_set(before)
    if had is None:
        if "anyOf" not in before:
            yield f"{path}: was of any type and is {' or '.join(sorted(allowed))}"
        return
    lost = {kind for kind in had if not (_ALIKE.get(kind, {kind}) & allowed)}
    if lost:
        yield f"{path}: type was {' or '.join(sorted(had))} and is {' or '.join(sorted(allowed))}"


def _type_set(schema: Schema) -> set[str] | None:
    """The JSON types that a schema takes as far as it says; None: any."""
    kind = schema.get("type")
    if kind is not None:
        return {kind} if isinstance(kind, str) else set(kind)
    values = schema.get("enum", [schema["const"]] if "const" in schema else None)
    return None if values is None else {_JSON_TYPES[type(value)] for value in values}


def _only(schema: Schema, kinds: set[str]) -> bool:
    had = _type_set(schema)
    return had is not None and had <= kinds


def _values(before: Schema, after: Schema, path: str) -> Iterator[str]:
    if "enum" in after:
        had = before.get("enum", [before["const"]] if "const" in before else None)
        if had is None:
            yield f"{path}: is held to a list of values"
        elif gone := [value for value in had if value not in after["enum"]]:
            yield f"{path}: {len(gone)} of its values are gone"
    for word in _LOWER:
        if word in after and after[word] > before.get(word, float("-inf")):
            yield f"{path}: {word} is {after[word]} and was {before.get(word, 'not set')}"
    for word in _UPPER:
        if word in after and after[word] < before.get(word, float("inf")):
            yield f"{path}: {word} is {after[word]} and was {before.get(word, 'not set')}"
    for word in _EXACT:
        if word in after and after[word] != before.get(word, _NOTHING):
            yield f"{path}: {word} has changed" if word in before else f"{path}: {word} is new"


def _members(before: Schema, after: Schema, old_root: Schema, new_root: Schema, path: str, depth: int) -> Iterator[str]:
    had, has = before.get("properties", {}), after.get("properties", {})
    open_now = after.get("additionalProperties", path != "parameters")  # a skill's parameters are closed
    for name, schema in had.items():
        if name in has:
            yield from _narrower(schema, has[name], old_root, new_root, f"{path}.{name}", depth + 1)
        elif open_now is False:
            yield f"{path}.{name} is gone"
    for name in after.get("required", ()):
        if name not in before.get("required", ()):
            yield f"{path}.{name} has become required"
    if open_now is False and before.get("additionalProperties", path != "parameters") is not False:
        yield f"{path}: other members are refused now"
    elif isinstance(open_now, dict):
        kept = before.get("additionalProperties", {})
        if isinstance(kept, dict):
            yield from _narrower(kept, open_now, old_root, new_root, f"{path}.*", depth + 1)
        elif kept is True:
            yield from _narrower({}, open_now, old_root, new_root, f"{path}.*", depth + 1)


def _resolve(schema: Schema, root: Schema) -> Schema:
    for _ in range(MAX_DEPTH):
        name = schema.get("$ref")
        if not isinstance(name, str):
            break
        schema = root.get("$defs", {}).get(name.rpartition("/")[2], {})
    return schema


_NOTHING: Final = object()
