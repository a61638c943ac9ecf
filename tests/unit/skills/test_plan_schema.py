"""A plan's schema: accepted by the grammar compiler that generation uses, and never looser than the skills' names."""

from __future__ import annotations

from typing import Any

import jsonschema
import msgspec
import pytest

from streams.events.intake import ClientTool
from streams.events.registering import SkillManifest
from tests.unit.skills.test_manifest import GOOD
from workers.skills.plan_schema import argument_schema, plan_schema, written_order

WEATHER = SkillManifest(
    name="get_weather",
    version="2",
    description="Weather.",
    owner="weather",
    url="http://w.example/skills/get_weather",
    hosts=("w.example:80",),
    parameters={
        "type": "object",
        "properties": {
            "units": {"enum": ["C", "F"]},
            "city": {"type": "string", "pattern": "^[A-Z]", "maxLength": 40},
            "day": {"type": ["string", "null"], "format": "date"},
            "tags": {"type": "array", "items": {"type": "string"}, "uniqueItems": True},
            "near": {"oneOf": [{"type": "number", "multipleOf": 0.5}, {"type": "null"}]},
            "extra": {"type": "object", "additionalProperties": {"type": "integer"}},
            "tree": {"$ref": "#/$defs/Node"},
        },
        "required": ["city"],
        "$defs": {
            "Node": {
                "type": "object",
                "properties": {
                    "name": {"type": "string"},
                    "children": {"type": "array", "items": {"$ref": "#/$defs/Node"}},
                },
                "required": ["name"],
            }
        },
    },
)  # fmt: skip
TOOL = ClientTool(name="openPage", parameters={"type": "object", "properties": {"url": {"type": "string"}}})


def accepts(schema: dict[str, Any], plan: Any) -> bool:
    return bool(jsonschema.Draft202012Validator(schema).is_valid(plan))


def call(name: str, **arguments: Any) -> dict[str, Any]:
    return {"name": name, "arguments": arguments}


def test_it_takes_plans_of_these_skills_and_no_others() -> None:
    schema = plan_schema([GOOD, WEATHER], [TOOL], max_calls=3)
    jsonschema.Draft202012Validator.check_schema(schema)
    people = call("search_people", title="data engineer", location="Berlin")
    assert accepts(schema, [])
    assert accepts(schema, [people, call("get_weather", city="Berlin"), call("openPage", url="x")])
    assert not accepts(schema, [people] * 4)
    assert not accepts(schema, [call("drop_tables")])
    assert not accepts(schema, [call("search_people", title="a")])
    assert not accepts(schema, [call("search_people", title="a", location="b", town="c")])
    assert not accepts(schema, [call("get_weather", title="a", location="b")])
    assert not accepts(schema, [{**people, "comment": "hm"}])


def test_a_reference_may_stand_where_no_string_could() -> None:
    one = call("search_people", title="a", location="b", limit="$1.total")
    assert accepts(plan_schema([GOOD]), [one])
    assert not accepts(plan_schema([GOOD], references=False), [one])
    assert not accepts(plan_schema([GOOD], max_calls=1), [one])
    assert not accepts(plan_schema([GOOD]), [call("search_people", title="a", location="b", limit="many")])


def test_parameters_that_suffice_to_fire_are_written_first() -> None:
    late = msgspec.structs.replace(GOOD, fire_on=("location", "title"))
    assert list(argument_schema(late)["properties"])[:2] == ["location", "title"]
    assert written_order(late)[:2] == ("location", "title")
    assert list(plan_schema([WEATHER])["items"]["properties"]) == ["name", "arguments"]
    assert next(iter(argument_schema(WEATHER)["properties"])) == "city"


def test_without_skills_only_the_empty_plan_is_one() -> None:
    schema = plan_schema([])
    assert accepts(schema, [])
    assert not accepts(schema, ["x"])


def test_a_skill_wins_over_a_clients_function_of_its_name() -> None:
    tool = ClientTool(name="search_people", parameters={"type": "object"})
    assert plan_schema([GOOD], [tool]) == plan_schema([GOOD])


def test_definitions_of_two_skills_do_not_meet() -> None:
    other = msgspec.structs.replace(WEATHER, name="other")
    schema = plan_schema([WEATHER, other])
    assert set(schema["$defs"]) == {"get_weather.Node", "other.Node"}
    nested = {"name": "a", "children": [{"name": "b"}]}
    assert accepts(schema, [call("other", city="Rome", tree=nested)])
    assert not accepts(schema, [call("other", city="Rome", tree={"children": []})])


@pytest.mark.parametrize("manifests", [[], [GOOD], [WEATHER], [GOOD, WEATHER]])
@pytest.mark.parametrize("references", [True, False])
def test_the_grammar_compiler_takes_it(manifests: list[SkillManifest], references: bool) -> None:
    xgrammar = pytest.importorskip("xgrammar", reason="xgrammar comes with vLLM (extra `local` or `gpu`)")
    schema = plan_schema(manifests, [TOOL], references=references)
    grammar = xgrammar.Grammar.from_json_schema(msgspec.json.encode(schema).decode(), strict_mode=True)
    assert "root" in str(grammar)


def test_it_uses_nothing_the_grammar_compiler_leaves_out() -> None:
    text = msgspec.json.encode(plan_schema([GOOD, WEATHER])).decode()
    for keyword in ("multipleOf", "uniqueItems", "format", "oneOf", "default", "description"):
        assert f'"{keyword}"' not in text
