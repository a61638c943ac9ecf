"""An MCP server's tools to skill manifests: one tool, one skill. https://modelcontextprotocol.io/specification

| of the tool | becomes |
|---|---|
| `name`; `description`, else `title` | `name`; `description` |
| `inputSchema` | `parameters`; `fire_on` is what is required |
| `annotations.readOnlyHint` | `effect` pure; any other tool is irreversible |
| `annotations.destructiveHint`, where it is said | `approval` |
| `annotations.idempotentHint` | `idempotent_key`: a second arrival does no harm |
| `outputSchema` | `returns`, beside `{"error": …}`, by which a tool says that it failed |

Annotations are what the server says of itself: whoever imports it decides whether to believe that, by Choices. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from headstart.importing.choices import Choices, Imported, LeftOut, unconvertible
from headstart.importing.naming import owner_name, parameter_name, skill_name
from headstart.importing.openapi import LONGEST_DESCRIPTION
from headstart.importing.schemas import Schema, Schemas
from headstart.service_registration import versioned
from streams.errors import InvalidInput
from streams.events.registering import SkillManifest
from workers.skills.manifest import MAX_SCHEMA_BYTES, problems

Json = Mapping[str, Any]
FAILED: Final[Schema] = {
    "type": "object", "properties": {"error": {"type": "string"}}, "required": ["error"], "additionalProperties": False,
}  # fmt: skip
"""What a call gives whose tool failed: MCP lets the model see that."""


class ImportedTool(msgspec.Struct, frozen=True):
    """manifest: over the bus, where its host serves it. tool: its name at the server. arguments: by parameter, what the
    server calls it."""

    manifest: SkillManifest
    tool: str
    arguments: Mapping[str, str]


def import_tools(tools: Sequence[Json], choices: Choices, server: str = "") -> tuple[list[ImportedTool], Imported]:
    """tools: as `tools/list` gives them. server: what it calls itself. Raises InvalidInput (`nothing_to_import`,
    `invalid_effect`)."""
    made: list[ImportedTool] = []
    left_out: list[LeftOut] = []
    notes: list[str] = []
    wanted = 0
    for tool in tools:
        label = str(tool.get("name", ""))
        name = choices.names.get(label) or skill_name(label, choices.prefix)
        if not choices.wanted(label, name, skill_name(label)):
            continue
        wanted += 1
        try:
            if any(one.manifest.name == name for one in made):
                raise unconvertible(f"it would be the skill {name}, as another is", f"--name {label!r}=OTHER_NAME")
            made.append(_tool(tool, label, name, choices, server, notes))
        except InvalidInput as error:
            if error.code == "invalid_effect":
                raise
            left_out.append(LeftOut(label, error.message, error.hint or ""))
    if not wanted:
        raise InvalidInput("no tool is left to import", code="nothing_to_import", hint="see --only, --leave-out")
    return made, Imported([one.manifest for one in made], left_out, notes)


def _tool(tool: Json, label: str, name: str, choices: Choices, server: str, notes: list[str]) -> ImportedTool:
    parameters, arguments = _parameters(tool.get("inputSchema", {}), notes, name)
    hints = tool.get("annotations") or {}
    effect, compensate = choices.effect(name, "pure" if hints.get("readOnlyHint") is True else "irreversible")
    late = effect == "irreversible"
    approval = choices.approval(name, effect) or (late and hints.get("destructiveHint") is True)
    title = str(tool.get("title") or hints.get("title") or label)
    description = " ".join(str(tool.get("description") or title).split())
    manifest = SkillManifest(
        name=name, version="", description=description[:LONGEST_DESCRIPTION],
        parameters=parameters, owner=choices.owner or owner_name(server), bus=True, effect=effect,
        compensate=compensate, approval=approval,
        fire_on=() if late else tuple(parameters.get("required", ())), timeout_ms=choices.timeout_ms,
        idempotent_key=effect != "pure" and hints.get("idempotentHint") is True, tenants=choices.tenants,
        returns=_returns(tool.get("outputSchema"), name, notes) if choices.returns else {},
    )  # fmt: skip
    broken = problems(msgspec.structs.replace(manifest, version="0"))
    if broken:
        said_so = "; ".join(f"{one.field} should be: {one.expected}" for one in broken)
        raise unconvertible(f"its manifest would break rules: {said_so}", "leave it out, or mend the server")
    return ImportedTool(versioned(manifest), label, arguments)


def _parameters(given: Any, notes: list[str], name: str) -> tuple[Schema, dict[str, str]]:
    schemas = Schemas(given)
    whole = schemas.resolved(schemas.convert(given))
    if whole.get("type", "object") != "object":
        raise unconvertible("its input is no object", "leave it out")
    if whole.keys() & {"anyOf", "oneOf", "allOf", "not", "if", "patternProperties"}:
        raise unconvertible(
            "its input has alternatives as a whole", "leave it out; each parameter is judged on its own"
        )
    names: dict[str, str] = {}
    for known_as in whole.get("properties", {}):
        names[parameter_name(known_as, names)] = known_as
    required = [own for own, known_as in names.items() if known_as in whole.get("required", ())]
    made: Schema = {"type": "object", "properties": {own: whole["properties"][names[own]] for own in names}}
    made |= {"additionalProperties": False} | ({"required": required} if required else {})
    definitions = schemas.used_by(made)
    notes += [f"{name}: {note}" for note in schemas.notes]
    return made | {"$defs": definitions} if definitions else made, names


def _returns(given: Any, name: str, notes: list[str]) -> Schema:
    if not isinstance(given, Mapping):
        return {}
    schemas = Schemas(given)
    try:
        schema = schemas.convert(given)
    except InvalidInput as error:
        notes.append(f"{name}: its results are not checked: {error.message}")
        return {}
    definitions = schemas.used_by(schema)
    made: Schema = {"anyOf": [schema, FAILED]} | ({"$defs": definitions} if definitions else {})
    return made if len(msgspec.json.encode(made)) <= MAX_SCHEMA_BYTES else {}
