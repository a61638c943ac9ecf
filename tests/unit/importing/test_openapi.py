"""OpenAPI documents become manifests as their owners meant them; what cannot is named with what to do about it."""

from __future__ import annotations

import copy
import random
from pathlib import Path
from typing import Any

import pytest

from headstart.importing.choices import Choices, Imported
from headstart.importing.naming import owner_name, parameter_name, skill_name
from headstart.importing.openapi import import_openapi
from headstart.importing.reading import read_document
from streams.errors import InvalidInput, NotFound
from streams.events.binding import Credential, Placement
from streams.events.registering import SkillManifest
from tests.support.lending import CONTRACT
from workers.skills.manifest import problems

SECRETS = {"staff": "staff", "partner": "partner"}


def document(operation: dict[str, Any], path: str = "/x", method: str = "get", **more: Any) -> dict[str, Any]:
    return {
        "openapi": "3.0.3", "info": {"title": "My API"}, "servers": [{"url": "https://api.example.org/v1/"}],
        "paths": {path: {method: {"responses": {"200": {"description": ""}}, **operation}}}, **more,
    }  # fmt: skip


def imported(given: dict[str, Any], source: str = "", **choices: Any) -> Imported:
    return import_openapi(given, Choices(**choices), source)


def skill(operation: dict[str, Any], path: str = "/x", method: str = "get", **more: Any) -> SkillManifest:
    found = imported(document(operation, path, method, **more))
    assert found.left_out == []
    [manifest] = found.manifests
    assert problems(manifest) == []
    return manifest


def reason(operation: dict[str, Any], path: str = "/x", method: str = "get", **more: Any) -> str:
    [left_out] = imported(document(operation, path, method, **more)).left_out
    assert left_out.hint
    return str(left_out)


def query(name: str, schema: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"name": name, "in": "query", "schema": schema, **more}


def json_body(schema: Any, **more: Any) -> dict[str, Any]:
    return {"requestBody": {"content": {"application/json": {"schema": schema}}, **more}}


def test_a_document_of_twenty_operations() -> None:
    found = imported(read_document(str(CONTRACT)), secrets=SECRETS)
    assert (len(found.manifests), found.left_out) == (20, [])
    by_name = {manifest.name: manifest for manifest in found.manifests}
    assert all(problems(manifest) == [] for manifest in found.manifests)
    assert all(manifest.owner == "city-library" for manifest in found.manifests)
    assert by_name["get_book"].effect == "pure"
    assert by_name["get_book"].fire_on == ("isbn",)
    assert (by_name["add_book"].effect, by_name["add_book"].idempotent_key) == ("irreversible", True)
    assert "added" not in by_name["add_book"].parameters["properties"]
    assert (by_name["lend_book"].effect, by_name["lend_book"].compensate) == ("reversible", "return_book")
    assert by_name["remove_member"].approval
    assert by_name["get_member"].url == "http://library.example/v2/members/{member_id}"
    assert by_name["change_book"].parameters["$defs"]["Shelf"]["properties"]["near"]["items"] == {
        "$ref": "#/$defs/Shelf"
    }
    assert by_name["list_books"].description == "Lists books by author, tags and whether a copy is there."


def test_the_same_document_gives_the_same_versions() -> None:
    first, second = (imported(read_document(str(CONTRACT)), secrets=SECRETS).manifests for _ in range(2))
    assert first == second


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        ({"type": "string", "nullable": True}, {"type": ["string", "null"]}),
        ({"type": "string", "nullable": True, "enum": ["a"]}, {"type": ["string", "null"], "enum": ["a", None]}),
        ({"allOf": [{"type": "string"}], "nullable": True},
         {"anyOf": [{"allOf": [{"type": "string"}]}, {"type": "null"}]}),
        ({"type": "integer", "minimum": 1, "exclusiveMinimum": True}, {"type": "integer", "exclusiveMinimum": 1}),
        ({"type": "integer", "maximum": 1, "exclusiveMaximum": False}, {"type": "integer", "maximum": 1}),
        ({"type": "string", "example": "x", "xml": {}, "x-other": 1, "title": "T", "deprecated": True},
         {"type": "string"}),
        ({"$ref": "#/components/schemas/Name", "description": "ignored"}, {"type": "string", "maxLength": 9}),
        ({"type": "string", "pattern": r"^\p{L}+$"}, {"type": "string"}),
        ({"type": "object", "properties": {"title": {"type": "string", "title": "T"}}},
         {"type": "object", "properties": {"title": {"type": "string"}}}),
        ({"type": "object", "required": ["a", "a"]}, {"type": "object", "required": ["a"]}),
    ],
)  # fmt: skip
def test_schemas_of_3_0(schema: dict[str, Any], expected: dict[str, Any]) -> None:
    components = {"schemas": {"Name": {"type": "string", "maxLength": 9}}}
    place = {"parameters": [query("a", schema, style="deepObject")]}
    assert skill(place, components=components).parameters["properties"]["a"] == expected


def test_schemas_of_3_1_keep_what_stands_beside_a_reference() -> None:
    schema = {"$ref": "#/components/schemas/Name", "description": "whose", "minLength": 1}
    given = document({"parameters": [query("a", schema)]}, components={"schemas": {"Name": {"type": "string"}}})
    [manifest] = imported(given | {"openapi": "3.1.0"}).manifests
    assert manifest.parameters["properties"]["a"] == {
        "allOf": [{"type": "string"}, {"minLength": 1, "description": "whose"}]
    }


def test_only_definitions_that_are_used_are_kept() -> None:
    kind = {"$ref": "#/components/schemas/Kind"}
    components = {
        "schemas": {
            "New": {"type": "object", "required": ["kind"], "properties": {"kind": kind}},
            "Kind": {"type": "object", "properties": {"a~b/c": kind}},
        }
    }  # fmt: skip
    manifest = skill(json_body({"$ref": "#/components/schemas/New"}), method="post", components=components)
    assert list(manifest.parameters["$defs"]) == ["Kind"]
    assert manifest.parameters["required"] == ["kind"]


def test_names_that_are_none_of_ours_are_known_by_their_own() -> None:
    text = {"type": "string"}
    others = [
        {"name": "X-Trace", "in": "header", "schema": text},
        {"name": "id", "in": "path", "required": True, "schema": text},
    ]
    queries = [query("page[size]", {"type": "integer"}), query("2fa", {}), query("id", {})]
    manifest = skill({"parameters": [*queries, *others]}, "/x/{id}")
    assert manifest.http is not None
    assert manifest.http.arguments == {
        "id": Placement(place="path"), "page_size": Placement(place="query", name="page[size]"),
        "_2fa": Placement(place="query", name="2fa"), "query_id": Placement(place="query", name="id"),
        "X_Trace": Placement(place="header", name="X-Trace"),
    }  # fmt: skip


def test_parameters_of_an_operation_go_before_those_of_its_path() -> None:
    given = document({"parameters": [query("a", {"type": "integer"})]})
    given["paths"]["/x"]["parameters"] = [query("a", {"type": "string"}), query("b", {"type": "string"})]
    [manifest] = imported(given).manifests
    assert manifest.parameters["properties"] == {"a": {"type": "integer"}, "b": {"type": "string"}}


def test_a_body_that_is_no_object_of_members_is_one_parameter() -> None:
    for schema in ({"type": "array", "items": {"type": "string"}}, {"oneOf": [{"type": "object"}]},
                   {"type": "object", "additionalProperties": {"type": "integer"}}):  # fmt: skip
        manifest = skill(json_body(schema, required=True), method="post")
        assert manifest.parameters["required"] == ["body"]
        assert manifest.http is not None
        assert manifest.http.arguments == {"body": Placement(place="content")}


def test_where_the_api_lives() -> None:
    given = document({})
    assert imported(given).manifests[0].url == "https://api.example.org/v1/x"
    assert imported(given, server="http://127.0.0.1:8/y").manifests[0].hosts == ("127.0.0.1:8",)
    given["servers"] = [{"url": "/v2"}]
    assert imported(given, "https://docs.example.org/spec.json").manifests[0].url == "https://docs.example.org/v2/x"
    assert "--server" in str(imported(given).left_out[0])
    given["paths"]["/x"]["get"]["servers"] = [{"url": "https://{r}.example.org", "variables": {"r": {"default": "eu"}}}]
    assert imported(given).manifests[0].url == "https://eu.example.org/x"


def test_secrets_are_named_and_never_held() -> None:
    schemes = {
        "key": {"type": "apiKey", "in": "header", "name": "X-Key"}, "login": {"type": "http", "scheme": "basic"},
        "flow": {"type": "oauth2", "flows": {}},
    }  # fmt: skip
    given = document(
        {}, components={"securitySchemes": schemes}, security=[{"login": [], "key": []}, {"flow": ["read"]}]
    )
    assert "--secret login=NAME" in str(imported(given).left_out[0])
    [manifest] = imported(given, secrets={"flow": "f"}).manifests
    assert manifest.http is not None
    assert manifest.http.credentials == (Credential(secret="f", name="Authorization", prefix="Bearer "),)
    [manifest] = imported(given, secrets={"key": "k", "login": "l"}).manifests
    assert manifest.http is not None
    assert [one.prefix for one in manifest.http.credentials] == ["Basic ", ""]
    given["paths"]["/x"]["get"]["security"] = [{}]
    assert imported(given).left_out == []


def test_answers_are_promised_where_there_is_one_kind() -> None:
    content = {
        "application/json": {"schema": {"type": "object", "properties": {"a": {"type": "string", "writeOnly": True}}}}
    }
    assert skill({"responses": {"200": {"content": content}}}).returns == {"type": "object", "properties": {}}
    assert skill({"responses": {"200": {"content": content}, "204": {}}}).returns == {}
    assert imported(document({"responses": {"200": {"content": content}}}), returns=False).manifests[0].returns == {}
    text = skill({"responses": {"200": {"content": {"text/csv": {}}}}})
    assert text.http is not None
    assert text.http.accept == "text/csv"


def test_choices_go_before_the_document_and_that_before_the_rules() -> None:
    said = {"operationId": "sendIt", "x-headstart": {"approval": True, "examples": ["send it"], "timeout_ms": 5}}
    manifest = skill(said, method="post")
    assert (manifest.effect, manifest.approval, manifest.timeout_ms) == ("irreversible", True, 5)
    [changed] = imported(document(said, method="post"), effects={"send_*": "pure"}).manifests
    assert (changed.effect, changed.approval, changed.examples) == ("pure", False, ("send it",))
    [undone] = imported(document(said, method="post"), effects={"send_it": "reversible:unsend"}).manifests
    assert undone.compensate == "unsend"
    [asked] = imported(document({}), approvals=("*",)).manifests
    assert not asked.approval
    [refused] = imported(document({}), approvals=("get_x",)).left_out
    assert "--effect get_x=irreversible" in str(refused)
    [named] = imported(document(said, method="post"), prefix="mail", approvals=("*",)).manifests
    assert (named.name, named.approval) == ("mail_send_it", True)
    [other] = imported(document(said, method="post"), names={"sendIt": "post_it"}, owner="post").manifests
    assert (other.name, other.owner) == ("post_it", "post")


def test_only_what_is_wanted() -> None:
    given = read_document(str(CONTRACT))
    assert [one.name for one in imported(given, only=("getBook", "list_*")).manifests] == [
        "list_books", "get_book", "list_copies", "list_loans",
    ]  # fmt: skip
    assert [one.name for one in imported(given, only=("GET /loans", "getBook"), leave_out=("get*",)).manifests] == [
        "list_loans"
    ]
    with pytest.raises(InvalidInput, match="no operation is left"):
        imported(given, only=("nothing",))


LEFT_OUT: list[tuple[str, dict[str, Any]]] = [
    ("multipart/form-data", {"method": "post", "operation": {"requestBody": {"content": {"multipart/form-data": {}}}}}),
    ("image/png", {"operation": {"responses": {"200": {"content": {"image/png": {}}}}}}),
    ("style matrix", {"path": "/x/{a}", "operation": {"parameters": [
        {"name": "a", "in": "path", "required": True, "style": "matrix", "schema": {}}]}}),
    ("object in style form", {"operation": {"parameters": [query("a", {"type": "object"}, explode=False)]}}),
    ("requires the cookie sid", {"operation": {"parameters": [{"name": "sid", "in": "cookie", "required": True}]}}),
    ("refers to another document", {"operation": {"parameters": [query("a", {"$ref": "other.yaml#/A"})]}}),
    ("names nothing", {"operation": {"parameters": [{"$ref": "#/components/parameters/Gone"}]}}),
    ("its path names a", {"path": "/x/{a}", "operation": {}}),
    ("x-headstart", {"operation": {"x-headstart": {"url": "http://elsewhere"}}}),
    ("x-headstart is wrong", {"operation": {"x-headstart": {"timeout_ms": "soon"}}}),
    ("timeout_ms should be", {"operation": {"x-headstart": {"timeout_ms": 0}}}),
    ("$dynamicRef", {"operation": {"parameters": [query("a", {"$dynamicRef": "#x"})]}}),
    ("at most 64 parameters", {"operation": {"parameters": [query(f"p{n}", {}) for n in range(65)]}}),
]  # fmt: skip


@pytest.mark.parametrize(("said", "given"), LEFT_OUT)
def test_what_cannot_be_a_skill_is_named_with_what_to_do(said: str, given: dict[str, Any]) -> None:
    text = reason(**({"operation": {}} | given))
    assert said in text
    assert text.startswith(f"{given.get('method', 'get').upper()} {given.get('path', '/x')}: ")


def test_two_operations_of_one_name() -> None:
    given = document({"operationId": "getIt"})
    given["paths"]["/y"] = {"get": {"operationId": "get-it", "responses": {}}}
    found = imported(given)
    assert [one.name for one in found.manifests] == ["get_it"]
    assert "--name" in str(found.left_out[0])


def test_a_document_that_goes_in_circles_or_grows_without_end_is_left_out() -> None:
    wide: dict[str, Any] = {"type": "string"}
    for _ in range(12):
        wide = {"anyOf": [wide] * 4}
    assert "too large" in reason({"parameters": [query("a", wide)]})
    circle: dict[str, Any] = {}
    circle["items"] = circle
    assert "too large" in reason({"parameters": [query("a", circle)]})


@pytest.mark.parametrize("given", [{}, {"swagger": "2.0"}, {"openapi": "4.0.0"}, {"openapi": 3}])
def test_what_is_no_openapi_3(given: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput) as caught:
        imported(given)
    assert caught.value.code == "not_openapi"


def test_an_effect_that_is_none() -> None:
    for effect in ("harmless", "reversible", "pure:x"):
        with pytest.raises(InvalidInput, match="is no effect"):
            imported(document({}), effects={"*": effect})


def test_documents_are_read_as_json_has_them(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text("a: 2020-01-02\nb: on\nc: true\n200: x\nd: [1, 0x10]\n")
    assert read_document(str(file)) == {"a": "2020-01-02", "b": "on", "c": True, "200": "x", "d": [1, 16]}
    file.write_text('{"a": 1}')
    assert read_document(str(file)) == {"a": 1}
    for wrong in ("a: [", "- 1", "!!python/object/apply:os.system [x]"):
        file.write_text(wrong)
        with pytest.raises(InvalidInput):
            read_document(str(file))
    with pytest.raises(NotFound):
        read_document(str(tmp_path / "gone.json"))


def test_names() -> None:
    assert [skill_name(text) for text in ("listPets", "GET /pets/{petId}", "HTTPServer2go", "2fa", "")] == [
        "list_pets", "get_pets_pet_id", "http_server_2_go", "call_2_fa", "call",
    ]  # fmt: skip
    assert len(skill_name("a" * 100)) == 64
    assert parameter_name("a-b") == "a_b"
    assert [parameter_name("id", {"id"}, "query"), parameter_name("id", {"id", "query_id"}, "query")] == [
        "query_id", "query_id_2",
    ]  # fmt: skip
    assert owner_name("My API (v2)") == "my-api-v2"


JUNK: list[Any] = [
    None, 1, "x", [], {}, True, ["x"], {"$ref": 1}, {"$ref": "#/nope"}, [{"a": 1}], {"type": 7}, "", -1.5, [None],
]  # fmt: skip


def places(node: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path of every node below this one."""
    steps = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    return [found for key, below in steps for found in [(*path, key), *places(below, (*path, key))]]


@pytest.mark.parametrize("seed", range(4))
def test_a_broken_document_is_refused_and_never_a_defect(seed: int) -> None:
    """Whatever stands at any place of it: its operations are imported or left out by name."""
    chance = random.Random(seed)
    whole = read_document(str(CONTRACT))
    whole["paths"] = dict(chance.sample(sorted(whole["paths"].items()), 4))
    everywhere = places(whole)
    for _ in range(20):
        broken = copy.deepcopy(whole)
        *path, last = chance.choice(everywhere)
        node = broken
        for step in path:
            node = node[step]
        node[last] = chance.choice(JUNK)
        try:
            found = imported(broken, secrets=SECRETS)
        except InvalidInput:
            continue
        assert all(problems(manifest) == [] for manifest in found.manifests)
