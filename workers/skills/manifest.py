"""Skill manifests: checked once when they are registered, then used to judge each argument the moment it closes.

A manifest is what another team says about its own service, so it is checked as input: every rule below names the
field and what was expected, all broken rules are reported together, and a manifest that breaks one never reaches
a plan. Rules that tie fields together:

- `fire_on` ⊆ the declared parameters, and holds every required one: they must *suffice* to send the request.
- `irreversible` has no `fire_on`, since nothing leaves before its call is closed and the plan committed.
- `reversible` names the skill that undoes it in `compensate`; `approval` is for `irreversible` ones.
- a skill has a `url` or lives on the `bus`; the host of its url stands in `hosts`, the only ones it may reach.
- parameters are closed: a name that is not declared is refused.

Pure.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlsplit

import jsonschema
import msgspec

from streams.errors import InvalidInput
from streams.events.registering import SkillManifest
from workers.skills.binding import binding_problems
from workers.skills.parameters import fire_on, properties, required
from workers.skills.plan_schema import argument_schema, plan_schema
from workers.skills.references import find
from workers.skills.schema_check import Check, Verdict, compile_check

__all__ = [
    "EFFECTS", "Problem", "argument_schema", "fire_on", "plan_schema", "problems", "refused_result", "validate",
    "validate_argument", "validate_arguments",
]  # fmt: skip

EFFECTS: Final = ("pure", "reversible", "irreversible")
MAX_TIMEOUT_MS: Final = 600_000
MAX_RETRIES: Final = 5
MAX_RESULT_BYTES: Final = 256 * 1024  # a result is escaped into a JSON record of at most 1 MiB
MAX_PARAMETERS: Final = 64
MAX_SCHEMA_BYTES: Final = 32 * 1024
MAX_CONCURRENCY: Final = 1024
MAX_TEXT: Final = 2048
_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,63}")
_VERSION: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_COMPILED_KEPT: Final = 4096
"""How many manifests stay compiled: far more than one registry holds in force."""


class Problem(msgspec.Struct, frozen=True):
    """One broken rule. field: of the manifest, with a path below it. expected: what should stand there."""

    field: str
    expected: str


class _Compiled(msgspec.Struct, frozen=True):
    manifest: SkillManifest  # held, so that its identity is not reused while it is a key
    checks: dict[str, Check]
    required: tuple[str, ...]
    returns: Check


_compiled: dict[int, _Compiled] = {}


def problems(manifest: SkillManifest) -> list[Problem]:
    """Every rule the manifest breaks; [] means it may be registered."""
    found = [
        Problem(field, expected)
        for field, holds, expected in (
            ("name", _NAME.fullmatch(manifest.name), "lower-case letters, digits and _, at most 64, a letter first"),
            ("version", _VERSION.fullmatch(manifest.version), "letters, digits and . _ -, at most 64"),
            ("description", 0 < len(manifest.description) <= MAX_TEXT, f"1 to {MAX_TEXT} characters"),
            ("owner", 0 < len(manifest.owner) <= 128, "1 to 128 characters"),
            ("effect", manifest.effect in EFFECTS, "one of " + ", ".join(EFFECTS)),
            ("timeout_ms", 1 <= manifest.timeout_ms <= MAX_TIMEOUT_MS, f"1 to {MAX_TIMEOUT_MS} milliseconds"),
            ("retries", 0 <= manifest.retries <= MAX_RETRIES, f"0 to {MAX_RETRIES}"),
            ("cost", 0 <= manifest.cost < float("inf"), "0 or more"),
            ("result_bytes", 64 <= manifest.result_bytes <= MAX_RESULT_BYTES, f"64 to {MAX_RESULT_BYTES} bytes"),
            ("concurrency", 1 <= manifest.concurrency <= MAX_CONCURRENCY, f"1 to {MAX_CONCURRENCY}"),
            ("tenants", all(manifest.tenants), "no empty names"),
            ("examples", len(manifest.examples) <= 64 and all(0 < len(text) <= MAX_TEXT for text in manifest.examples),
             f"at most 64 texts of 1 to {MAX_TEXT} characters"),
        )
        if not holds
    ]  # fmt: skip
    found += _effect_problems(manifest)
    found += _place_problems(manifest)
    found += _schema_problems(manifest.parameters) or [
        *_fire_problems(manifest),
        *(Problem(field, expected) for field, expected in binding_problems(manifest)),
    ]
    return found + _returns_problems(manifest.returns)


def validate(manifest: SkillManifest) -> None:
    """Raises InvalidInput (`invalid_manifest`) that names the first broken rule's `field` and `expected`; `problems`
    in its facts lists all of them."""
    broken = problems(manifest)
    if broken:
        first = broken[0]
        raise InvalidInput(
            f"the manifest's {first.field} should be: {first.expected}", code="invalid_manifest",
            hint=f"{len(broken) - 1} more in `problems`" if len(broken) > 1 else None,
            field=first.field, expected=first.expected,
            problems=[{"field": problem.field, "expected": problem.expected} for problem in broken],
        )  # fmt: skip


def validate_argument(manifest: SkillManifest, name: str, value: Any, call: int | None = None) -> None:
    """Judges one argument when it closes; returns None when it may stand.

    A value that holds references ($1.items[0].id) is judged after they are resolved (`validate_arguments`); call is
    the holder's index in the plan, None when unknown. Raises InvalidInput: `unknown_parameter`, `invalid_argument`
    (`facts`: skill, parameter, path, expected) or `reference_not_earlier`. Never repeats the value.
    """
    check = _check_of(manifest, name)
    if not (_may_hold_reference(value) and find({name: value}, call)):
        _judge(manifest, name, value, check)


def validate_arguments(manifest: SkillManifest, arguments: Mapping[str, Any], complete: bool = True) -> None:
    """Judges the arguments about to be sent, references resolved. complete False: required ones may still come.

    Raises as validate_argument, and InvalidInput (`missing_argument`) naming a required parameter that is not there.
    """
    for name, value in arguments.items():
        _judge(manifest, name, value, _check_of(manifest, name))
    if complete:
        for name in _compile(manifest).required:
            if name not in arguments:
                raise InvalidInput(
                    f"{manifest.name} needs {name}", code="missing_argument", skill=manifest.id, parameter=name
                )


def refused_result(manifest: SkillManifest, result: Any) -> Verdict | None:
    """Why a result is not what the manifest's `returns` promises, None when it is."""
    return _compile(manifest).returns(result)


def _compile(manifest: SkillManifest) -> _Compiled:
    entry = _compiled.get(id(manifest))
    if entry is not None:
        return entry
    if len(_compiled) >= _COMPILED_KEPT:
        _compiled.pop(next(iter(_compiled)))
    definitions = manifest.parameters.get("$defs")
    checks = {name: compile_check(schema, definitions) for name, schema in properties(manifest).items()}
    entry = _compiled[id(manifest)] = _Compiled(
        manifest, checks, required(manifest), compile_check(manifest.returns)
    )  # fmt: skip
    return entry


def _check_of(manifest: SkillManifest, name: str) -> Check:
    check = _compile(manifest).checks.get(name)
    if check is None:
        known = ", ".join(properties(manifest)) or "none"
        raise InvalidInput(
            f"{manifest.name} has no such parameter", code="unknown_parameter", hint=f"it takes: {known}",
            skill=manifest.id,
        )  # fmt: skip
    return check


def _judge(manifest: SkillManifest, name: str, value: Any, check: Check) -> None:
    refused = check(value)
    if refused is not None:
        raise InvalidInput(
            f"{manifest.name}.{name}{refused.path} should be: {refused.expected}", code="invalid_argument",
            skill=manifest.id, parameter=name, path=refused.path, expected=refused.expected,
        )  # fmt: skip


def _may_hold_reference(value: Any) -> bool:
    """Cheap and never wrongly False: only strings that start with $, and containers, are looked into."""
    return value.startswith("$") if isinstance(value, str) else isinstance(value, list | dict)


def _effect_problems(manifest: SkillManifest) -> list[Problem]:
    found = []
    if manifest.effect == "irreversible" and manifest.fire_on:
        found.append(Problem("fire_on", "empty: an irreversible skill fires after its call closed"))
    if manifest.approval and manifest.effect != "irreversible":
        found.append(Problem("approval", "false unless effect is irreversible"))
    if manifest.effect == "reversible" and not _NAME.fullmatch(manifest.compensate):
        found.append(Problem("compensate", "the name of the skill that undoes this one, as effect is reversible"))
    if manifest.effect != "reversible" and manifest.compensate:
        found.append(Problem("compensate", "empty unless effect is reversible"))
    if manifest.compensate and manifest.compensate == manifest.name:
        found.append(Problem("compensate", "another skill than itself"))
    return found


def _place_problems(manifest: SkillManifest) -> list[Problem]:
    if manifest.bus:
        return [Problem("url", "empty, as the skill lives on the bus")] if manifest.url else []
    found = []
    place = host_port(manifest.url)
    if place is None:
        found.append(Problem("url", "http or https with a host, without user, password or fragment"))
    elif place not in manifest.hosts:
        found.append(Problem("hosts", f"{place}, the host and port of url, among them"))
    found += [Problem("hosts", "host:port, each") for host in manifest.hosts if host_port(f"http://{host}/") != host]
    return found


@functools.lru_cache(4_096)
def host_port(url: str) -> str | None:
    """`host:port` of an http(s) url, lower case, the scheme's port when none is given; None when it is not one."""
    try:
        parts = urlsplit(url)
        default = {"http": 80, "https": 443}[parts.scheme]
        port = default if parts.port is None else parts.port
    except (ValueError, KeyError):
        return None
    if not parts.hostname or "@" in parts.netloc or parts.fragment or any(c <= " " for c in url):
        return None
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{host}:{port}"


def _schema_problems(parameters: Mapping[str, Any]) -> list[Problem]:
    if parameters.get("type") != "object":
        return [Problem("parameters.type", "object")]
    if len(msgspec.json.encode(parameters)) > MAX_SCHEMA_BYTES:
        return [Problem("parameters", f"at most {MAX_SCHEMA_BYTES} bytes of JSON")]
    found = _invalid_schema(parameters, "parameters")
    if found:
        return found
    declared = parameters.get("properties", {})
    if len(declared) > MAX_PARAMETERS:
        found.append(Problem("parameters.properties", f"at most {MAX_PARAMETERS} parameters"))
    found += [
        Problem("parameters.properties", "names of letters, digits and _, at most 64, a letter or _ first")
        for name in declared
        if not (name.isidentifier() and name.isascii() and len(name) <= 64)
    ]
    for name in parameters.get("required", ()):
        if name not in declared:
            found.append(Problem("parameters.required", f"declared parameters; {name} is not"))
    if parameters.get("additionalProperties", False) is not False:
        found.append(Problem("parameters.additionalProperties", "false or absent"))
    for keyword in sorted(parameters.keys() & {"anyOf", "oneOf", "allOf", "not", "if", "patternProperties", "$ref"}):
        found.append(Problem(f"parameters.{keyword}", "absent: each parameter is judged on its own"))
    return found + _reference_problems(parameters, parameters.get("$defs", {}))


def _returns_problems(returns: Mapping[str, Any]) -> list[Problem]:
    if len(msgspec.json.encode(returns)) > MAX_SCHEMA_BYTES:
        return [Problem("returns", f"at most {MAX_SCHEMA_BYTES} bytes of JSON")]
    invalid = _invalid_schema(returns, "returns")
    return invalid or _reference_problems(returns, returns.get("$defs", {}), "returns")


def _invalid_schema(schema: Mapping[str, Any], name: str) -> list[Problem]:
    try:
        jsonschema.Draft202012Validator.check_schema(dict(schema))
    except jsonschema.SchemaError as error:
        place = ".".join([name, *map(str, error.absolute_path)])
        return [Problem(place, f"valid JSON Schema, draft 2020-12 (keyword {error.validator})")]
    return []


def _reference_problems(node: Any, definitions: Mapping[str, Any], place: str = "parameters") -> list[Problem]:
    """A schema refers to its own `$defs` only: nothing is ever fetched to judge an argument."""
    if isinstance(node, list):
        return [problem for item in node for problem in _reference_problems(item, definitions, place)]
    if not isinstance(node, dict):
        return []
    found = []
    for keyword, value in node.items():
        if keyword == "$ref" and isinstance(value, str):
            if value.removeprefix("#/$defs/") not in definitions:
                found.append(Problem(f"{place}.$ref", "#/$defs/<name> of this schema"))
        elif keyword in ("$dynamicRef", "$id", "$anchor", "$dynamicAnchor") and isinstance(value, str):
            found.append(Problem(f"{place}.{keyword}", "absent"))
        elif keyword not in ("enum", "const", "default", "examples"):
            found += _reference_problems(value, definitions, f"{place}.{keyword}")
    return found


def _fire_problems(manifest: SkillManifest) -> list[Problem]:
    if not manifest.fire_on:
        return []
    declared = properties(manifest)
    found = [
        Problem("fire_on", f"declared parameters; {name} is not") for name in manifest.fire_on if name not in declared
    ]
    found += [
        Problem("fire_on", f"{name} too, as it is required")
        for name in required(manifest)
        if name not in manifest.fire_on
    ]
    return found
