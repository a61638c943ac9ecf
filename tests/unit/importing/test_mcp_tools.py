"""Tools of MCP servers as manifests, and what a tool gave as a skill's result."""

from __future__ import annotations

from typing import Any

import pytest

from headstart.importing.choices import Choices
from headstart.importing.mcp_tools import ImportedTool, import_tools
from headstart.mcp.results import result_of
from streams.errors import InvalidInput
from workers.skills.manifest import problems, refused_result


def tool(name: str = "look", **more: Any) -> dict[str, Any]:
    return {"name": name, "description": "Looks.", "inputSchema": {"type": "object", "properties": {}}, **more}


def one(given: dict[str, Any], **choices: Any) -> ImportedTool:
    [made], found = import_tools([given], Choices(**choices), "a desk")
    assert found.left_out == []
    assert problems(made.manifest) == []
    return made


@pytest.mark.parametrize(
    ("hints", "expected"),
    [
        ({"readOnlyHint": True}, ("pure", False, False)),
        ({"readOnlyHint": True, "destructiveHint": True}, ("pure", False, False)),
        ({"destructiveHint": True}, ("irreversible", True, False)),
        ({"destructiveHint": False, "idempotentHint": True}, ("irreversible", False, True)),
        ({}, ("irreversible", False, False)),
        (None, ("irreversible", False, False)),
    ],
)
def test_annotations_become_the_effect(hints: Any, expected: tuple[str, bool, bool]) -> None:
    manifest = one(tool(annotations=hints)).manifest
    assert (manifest.effect, manifest.approval, manifest.idempotent_key) == expected
    assert (manifest.bus, manifest.owner) == (True, "a-desk")


def test_what_a_person_chooses_goes_first() -> None:
    given = tool("dropTable", annotations={"readOnlyHint": True})
    manifest = one(given, effects={"drop_table": "irreversible"}, approvals=("drop_*",), owner="db").manifest
    assert (manifest.effect, manifest.approval, manifest.owner) == ("irreversible", True, "db")
    assert one(tool(annotations={"destructiveHint": True}), effects={"*": "pure"}).manifest.approval is False


def test_parameters_are_known_to_the_server_by_its_own_names() -> None:
    schema = {
        "type": "object", "title": "T", "required": ["max-items"], "additionalProperties": True,
        "properties": {"max-items": {"type": "integer", "title": "Max"}, "like": {"$ref": "#/$defs/Like"}},
        "$defs": {"Like": {"type": "object", "properties": {"more": {"$ref": "#/$defs/Like"}}}, "Unused": {}},
    }  # fmt: skip
    made = one(tool(inputSchema=schema, annotations={"readOnlyHint": True}))
    assert made.arguments == {"max_items": "max-items", "like": "like"}
    assert made.manifest.fire_on == ("max_items",)
    assert made.manifest.parameters["properties"]["max_items"] == {"type": "integer"}
    assert list(made.manifest.parameters["$defs"]) == ["Like"]


def test_results_are_held_to_the_output_schema_and_failures_are_results() -> None:
    schema = {
        "type": "object",
        "properties": {"n": {"$ref": "#/$defs/N"}},
        "required": ["n"],
        "$defs": {"N": {"enum": [1]}},
    }
    manifest = one(tool(outputSchema=schema)).manifest
    assert refused_result(manifest, {"n": 1}) is None
    assert refused_result(manifest, {"error": "tired"}) is None
    assert refused_result(manifest, {"n": 2}) is not None
    assert one(tool(outputSchema=schema), returns=False).manifest.returns == {}


def test_what_cannot_be_a_skill_is_named() -> None:
    tools = [tool("a", inputSchema={"type": "object", "anyOf": [{}]}), tool("b", inputSchema={"type": "array"}),
             tool("look"), tool("Look")]  # fmt: skip
    made, found = import_tools(tools, Choices())
    assert [one.tool for one in made] == ["look"]
    assert [left.operation for left in found.left_out] == ["a", "b", "Look"]
    assert all(left.hint for left in found.left_out)
    with pytest.raises(InvalidInput, match="no tool is left"):
        import_tools(tools, Choices(only=("z",)))


@pytest.mark.parametrize(
    ("content", "more", "result"),
    [
        ([{"type": "text", "text": "{}"}], {"structured": {"a": 1}}, {"a": 1}),
        ([{"type": "text", "text": ' {"a": [1]}'}], {}, {"a": [1]}),
        ([{"type": "text", "text": "{not json"}], {}, {"text": "{not json"}),
        ([{"type": "text", "text": "42"}], {}, {"text": "42"}),
        ([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}], {}, {"text": "a\nb"}),
        ([{"type": "text", "text": "no"}], {"failed": True, "structured": {"a": 1}}, {"error": "no"}),
        ([], {"failed": True}, {"error": "the tool failed"}),
        ([], {}, {"text": ""}),
        ([{"type": "image", "data": "x", "mimeType": "image/png"}], {}, {"text": "", "omitted": ["image (image/png)"]}),
        ([{"type": "resource", "resource": {"uri": "f:a", "text": "t"}}], {}, {"text": "t"}),
        ([{"type": "resource", "resource": {"uri": "f:a", "blob": "t", "mimeType": "a/b"}}], {},
         {"text": "", "omitted": ["resource (a/b)"]}),
        ([{"type": "resource_link", "name": "n", "uri": "f:a"}], {}, {"text": "n <f:a>"}),
    ],
)  # fmt: skip
def test_what_a_tool_gave(content: list[Any], more: dict[str, Any], result: Any) -> None:
    assert result_of(content, **more) == result
