"""What a new version of a skill breaks, rule by rule; and, by chance, that nothing valid is refused unnoticed."""

from __future__ import annotations

from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.events.registering import SkillManifest
from workers.skills.compatibility import breaks

CITY = {"type": "string", "maxLength": 60}


def skill(
    properties: dict[str, Any] | None = None, required: tuple[str, ...] = ("city",), **more: Any
) -> SkillManifest:
    parameters: dict[str, Any] = {
        "type": "object", "properties": {"city": CITY} if properties is None else properties,
        "required": list(required), "additionalProperties": False,
    } | more.pop("schema", {})  # fmt: skip
    values: dict[str, Any] = {"name": "look", "version": "1", "description": "d", "owner": "o", "bus": True} | more
    return SkillManifest(parameters=parameters, **values)


def changed(properties: dict[str, Any], required: tuple[str, ...] = ("city",), **more: Any) -> list[str]:
    return breaks(skill(), skill(properties, required, **more))


@pytest.mark.parametrize(
    "after",
    [
        skill(description="other words", version="2", timeout_ms=1, url="http://other/", bus=False),
        skill({"city": CITY, "day": {"type": "string"}}),
        skill({"city": CITY}, required=()),
        skill({"city": {"type": "string"}}),
        skill({"city": {"type": "string", "maxLength": 61, "description": "city"}}),
        skill({"city": {"type": ["string", "null"], "maxLength": 60}}),
        skill({"city": {"anyOf": [CITY, {"type": "null"}]}}),
        skill({"city": {"$ref": "#/$defs/City"}}, schema={"$defs": {"City": CITY}}),
        skill(fire_on=("city",)),
    ],
)
def test_what_breaks_nothing(after: SkillManifest) -> None:
    assert breaks(skill(), after) == []


@pytest.mark.parametrize(
    ("after", "said"),
    [
        (changed({"town": CITY}, ()), ["parameters.city is gone"]),
        (changed({"city": CITY, "day": {"type": "string"}}, ("city", "day")), ["parameters.day has become required"]),
        (changed({"city": {"type": "integer"}}), ["parameters.city: type was string and is integer"]),
        (changed({"city": CITY | {"maxLength": 59}}), ["parameters.city: maxLength is 59 and was 60"]),
        (changed({"city": CITY | {"minLength": 1}}), ["parameters.city: minLength is 1 and was not set"]),
        (changed({"city": CITY | {"pattern": "^[A-Z]"}}), ["parameters.city: pattern is new"]),
        (changed({"city": CITY | {"enum": ["Oslo"]}}), ["parameters.city: is held to a list of values"]),
        (changed({"city": CITY}, effect="irreversible"), ["effect: was pure and is irreversible"]),
        (changed({"city": CITY}, tenants=("acme",)), ["tenants: gone for everybody"]),
    ],
)
def test_what_breaks_is_named(after: list[str], said: list[str]) -> None:
    assert after == said


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ({"enum": ["a", "b"]}, {"enum": ["b", "c"]}, "1 of its values are gone"),
        ({"enum": ["a", 1]}, {"type": "string"}, "type was integer or string and is string"),
        ({"type": "number"}, {"type": "integer"}, "type was number and is integer"),
        ({"type": "array", "items": {"type": "string"}}, {"type": "array", "items": {"type": "integer"}}, "[]: type"),
        ({"type": "array"}, {"type": "array", "items": {"type": "integer"}}, "[]: was anything"),
        ({"anyOf": [{"type": "string"}, {"type": "null"}]}, {"type": "string"}, "choice 2"),
        ({"type": "object"}, {"type": "object", "required": ["a"]}, ".a has become required"),
        ({"type": "object"}, {"type": "object", "additionalProperties": False}, "other members are refused"),
        ({"type": "object"}, {"type": "object", "additionalProperties": {"type": "string"}}, ".*: was of any type"),
    ],
)
def test_inside_a_parameter(before: dict[str, Any], after: dict[str, Any], said: str) -> None:
    found = breaks(skill({"city": before}), skill({"city": after}))
    assert any(said in text for text in found), found
    assert breaks(skill({"city": after}), skill({"city": after})) == []


def test_promises_are_kept_the_other_way_round() -> None:
    promised = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    more = promised | {"required": ["n", "m"], "properties": {"n": {"type": "integer"}, "m": {"type": "string"}}}
    assert breaks(skill(returns=promised), skill(returns=more)) == []
    assert breaks(skill(returns={}), skill(returns=promised)) == []
    assert breaks(skill(returns=more), skill(returns=promised)) != []
    assert breaks(skill(returns=promised), skill(returns={})) == ["returns: nothing is promised any more"]


def test_what_calls_rely_on() -> None:
    careful: dict[str, Any] = {"effect": "irreversible", "idempotent_key": True, "approval": True}
    assert breaks(skill(**careful), skill(effect="irreversible", approval=True)) == [
        "idempotent_key: it is not enforced any more"
    ]
    assert breaks(skill(**careful), skill(effect="irreversible", idempotent_key=True)) == [
        "approval: nobody is asked any more"
    ]
    assert breaks(skill(tenants=("a", "b")), skill(tenants=("a",))) == ["tenants: gone for b"]
    assert breaks(skill(tenants=("a",)), skill()) == []


def test_schemas_that_hold_themselves_end() -> None:
    tree = {"type": "object", "properties": {"left": {"$ref": "#/$defs/Tree"}}}
    deeper = {"type": "object", "properties": {"left": {"$ref": "#/$defs/Tree"}, "right": {"type": "null"}}}
    before = skill({"city": {"$ref": "#/$defs/Tree"}}, schema={"$defs": {"Tree": tree}})
    after = skill({"city": {"$ref": "#/$defs/Tree"}}, schema={"$defs": {"Tree": deeper}})
    assert breaks(before, after) == []


VALUES = st.one_of(st.none(), st.booleans(), st.integers(-3, 3), st.text("ab", max_size=3))
SCHEMAS = st.one_of(
    st.sampled_from(
        [
            {}, {"type": "string"}, {"type": "integer"}, {"type": "number"}, {"type": ["string", "null"]},
            {"type": "boolean"}, {"const": 1}, {"enum": ["a", 1]},
        ]
    ),
    st.builds(
        lambda low, high: {"type": "integer", "minimum": low, "maximum": high}, st.integers(-3, 0), st.integers(0, 3)
    ),
    st.builds(lambda size: {"type": "string", "maxLength": size}, st.integers(0, 3)),
    st.builds(
        lambda one, other: {"anyOf": [{"type": one}, {"type": other}]},
        st.sampled_from(["string", "integer", "null"]), st.sampled_from(["boolean", "integer"]),
    ),
)  # fmt: skip


@given(before=SCHEMAS, after=SCHEMAS, value=VALUES)
def test_nothing_that_was_valid_is_refused_by_a_version_that_breaks_nothing(
    before: dict[str, Any], after: dict[str, Any], value: Any
) -> None:
    if breaks(skill({"city": before}), skill({"city": after})):
        return
    if jsonschema.Draft202012Validator(before).is_valid(value):
        assert jsonschema.Draft202012Validator(after).is_valid(value)
