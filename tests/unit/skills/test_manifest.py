"""Manifests as input from other teams: every broken rule is named, and no argument is judged wrongly."""

from __future__ import annotations

from typing import Any

import jsonschema
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.errors import InvalidInput
from streams.events.registering import SkillManifest
from workers.skills.manifest import fire_on, problems, validate, validate_argument, validate_arguments
from workers.skills.schema_check import compile_check

PARAMETERS: dict[str, Any] = {
    "type": "object",
    "properties": {
        "title": {"type": "string", "minLength": 1, "maxLength": 80},
        "location": {"type": "string"},
        "limit": {"type": "integer", "minimum": 1, "maximum": 20, "default": 5},
        "kind": {"enum": ["remote", "office"]},
        "filters": {"type": "array", "items": {"$ref": "#/$defs/Filter"}},
    },
    "required": ["title", "location"],
    "$defs": {
        "Filter": {
            "type": "object",
            "properties": {"field": {"type": "string"}, "min": {"type": "number"}},
            "required": ["field"],
            "additionalProperties": False,
        }
    },
}
GOOD = SkillManifest(
    name="search_people",
    version="1",
    description="Finds people.",
    parameters=PARAMETERS,
    owner="directory",
    url="http://127.0.0.1:8080/skills/search_people",
    hosts=("127.0.0.1:8080",),
)


def changed(**fields: Any) -> SkillManifest:
    return msgspec.structs.replace(GOOD, **fields)


def test_a_good_manifest_has_no_problems() -> None:
    assert problems(GOOD) == []
    validate(GOOD)


BROKEN: list[tuple[dict[str, Any], str]] = [
    ({"name": "Search People"}, "name"),
    ({"name": ""}, "name"),
    ({"version": "a/b"}, "version"),
    ({"description": ""}, "description"),
    ({"owner": ""}, "owner"),
    ({"effect": "harmless"}, "effect"),
    ({"timeout_ms": 0}, "timeout_ms"),
    ({"timeout_ms": 600_001}, "timeout_ms"),
    ({"retries": -1}, "retries"),
    ({"cost": float("nan")}, "cost"),
    ({"cost": -1.0}, "cost"),
    ({"result_bytes": 1 << 20}, "result_bytes"),
    ({"concurrency": 0}, "concurrency"),
    ({"tenants": ("",)}, "tenants"),
    ({"examples": ("",)}, "examples"),
    ({"fire_on": ("title",)}, "fire_on"),
    ({"fire_on": ("title", "location", "town")}, "fire_on"),
    ({"effect": "irreversible", "fire_on": ("title", "location")}, "fire_on"),
    ({"approval": True}, "approval"),
    ({"effect": "reversible"}, "compensate"),
    ({"effect": "reversible", "compensate": "search_people"}, "compensate"),
    ({"compensate": "undo"}, "compensate"),
    ({"url": ""}, "url"),
    ({"url": "ftp://127.0.0.1:8080/"}, "url"),
    ({"url": "http://u:p@127.0.0.1:8080/"}, "url"),
    ({"url": "http://127.0.0.1:99999/"}, "url"),
    ({"url": "http://127.0.0.1:8081/skills"}, "hosts"),
    ({"hosts": ()}, "hosts"),
    ({"hosts": ("127.0.0.1:8080", "example.org")}, "hosts"),
    ({"bus": True}, "url"),
    ({"parameters": {}}, "parameters.type"),
    ({"parameters": {"type": "array"}}, "parameters.type"),
    ({"parameters": {"type": "object", "properties": {"a": {"type": "strin"}}}}, "parameters.properties.a.type"),
    ({"parameters": {"type": "object", "properties": {"a b": {}}}}, "parameters.properties"),
    ({"parameters": {"type": "object", "required": ["a"]}}, "parameters.required"),
    ({"parameters": {"type": "object", "additionalProperties": True}}, "parameters.additionalProperties"),
    ({"parameters": {"type": "object", "anyOf": [{}]}}, "parameters.anyOf"),
    (
        {"parameters": {"type": "object", "properties": {"a": {"$ref": "http://10.0.0.1/x"}}}},
        "parameters.properties.a.$ref",
    ),
    ({"parameters": {"type": "object", "properties": {"a": {"$id": "x"}}}}, "parameters.properties.a.$id"),
    ({"parameters": {"type": "object", "properties": {"a": {"description": "x" * 40_000}}}}, "parameters"),
]


@pytest.mark.parametrize(("fields", "field"), BROKEN)
def test_each_broken_rule_is_named(fields: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        validate(changed(**fields))
    assert caught.value.code == "invalid_manifest"
    assert caught.value.facts["field"] == field
    assert caught.value.facts["expected"]


def test_all_broken_rules_are_reported_together() -> None:
    with pytest.raises(InvalidInput) as caught:
        validate(changed(name="", timeout_ms=0, effect="x"))
    assert [problem["field"] for problem in caught.value.facts["problems"]] == ["name", "effect", "timeout_ms"]


def test_fire_on_defaults_to_the_required_parameters() -> None:
    assert fire_on(GOOD) == ("title", "location")
    assert fire_on(changed(fire_on=("title", "location", "limit"))) == ("title", "location", "limit")
    assert fire_on(changed(effect="irreversible")) == ()
    assert fire_on(changed(parameters={"type": "object", "properties": {"a": {}}})) == ()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("title", "data engineer"),
        ("limit", 20),
        ("limit", 3.0),
        ("kind", "remote"),
        ("filters", [{"field": "age", "min": 3.5}]),
        ("limit", "$1.count"),
        ("filters", [{"field": "$1.name", "min": "$1.min"}]),
    ],
)
def test_an_argument_that_may_stand(name: str, value: Any) -> None:
    validate_argument(GOOD, name, value)


@pytest.mark.parametrize(
    ("name", "value", "path"),
    [
        ("title", 5, ""),
        ("title", "", ""),
        ("title", "x" * 81, ""),
        ("limit", 0, ""),
        ("limit", 21, ""),
        ("limit", True, ""),
        ("limit", 1.5, ""),
        ("limit", "5", ""),
        ("limit", "$", ""),
        ("kind", "moon", ""),
        ("filters", [{"field": "a"}, {"min": 1}], "[1]"),
        ("filters", [{"field": "a", "min": "x"}], "[0].min"),
    ],
)
def test_a_wrong_argument_is_named_without_its_value(name: str, value: Any, path: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        validate_argument(GOOD, name, value)
    assert (caught.value.code, caught.value.facts["parameter"], caught.value.facts["path"]) == (
        "invalid_argument",
        name,
        path,
    )
    assert "moon" not in str(caught.value)


def test_an_unknown_parameter_is_refused_with_the_known_names() -> None:
    with pytest.raises(InvalidInput) as caught:
        validate_argument(GOOD, "town", "Berlin")
    assert caught.value.code == "unknown_parameter"
    assert "location" in str(caught.value)


def test_whole_arguments_need_every_required_parameter() -> None:
    validate_arguments(GOOD, {"title": "a", "location": "b"})
    validate_arguments(GOOD, {"title": "a"}, complete=False)
    with pytest.raises(InvalidInput) as caught:
        validate_arguments(GOOD, {"title": "a"})
    assert (caught.value.code, caught.value.facts["parameter"]) == ("missing_argument", "location")


def test_resolved_arguments_are_judged_even_where_they_look_like_references() -> None:
    with pytest.raises(InvalidInput):
        validate_arguments(GOOD, {"title": "a", "location": "b", "limit": "$1.count"})


def test_two_manifests_of_one_id_are_judged_by_their_own_schemas() -> None:
    wider = changed(parameters={"type": "object", "properties": {"limit": {"type": "integer"}}})
    validate_argument(wider, "limit", 1000)
    with pytest.raises(InvalidInput):
        validate_argument(GOOD, "limit", 1000)


bounds = st.integers(-5, 5)
scalar_schemas: st.SearchStrategy[Any] = st.one_of(
    st.just({"type": "boolean"}),
    st.lists(st.text(max_size=3), min_size=1, max_size=3, unique=True).map(lambda options: {"enum": options}),
    st.fixed_dictionaries(
        {"type": st.just("string")},
        optional={"minLength": st.integers(0, 3), "maxLength": st.integers(0, 5), "pattern": st.just("^[a-c]")},
    ),
    st.fixed_dictionaries(
        {"type": st.sampled_from(["integer", "number"])},
        optional={"minimum": bounds, "maximum": bounds, "exclusiveMinimum": bounds, "exclusiveMaximum": bounds},
    ),
    st.sampled_from([True, False, {}, {"const": 1}, {"type": ["string", "null"]}, {"not": {"type": "string"}}]),
)
schemas = st.one_of(
    scalar_schemas,
    st.fixed_dictionaries(
        {"type": st.just("array")},
        optional={"items": scalar_schemas, "minItems": st.integers(0, 2), "maxItems": st.integers(0, 3)},
    ),
)
values = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(-7, 7), st.floats(-7, 7).map(lambda x: round(x, 1)),
        st.text("abcd$1", max_size=6),
    ),
    lambda inner: st.lists(inner, max_size=4),
    max_leaves=5,
)  # fmt: skip


@given(schema=schemas, value=values)
def test_the_compiled_check_agrees_with_jsonschema(schema: Any, value: Any) -> None:
    expected = jsonschema.Draft202012Validator(schema).is_valid(value)
    assert (compile_check(schema)(value) is None) == expected
