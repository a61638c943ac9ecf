"""Arguments become the request that an API wants, and stay data wherever they go."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import msgspec
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.errors import InvalidInput, PeerError
from streams.events.binding import Credential, HttpBinding, Placement
from streams.events.registering import SkillManifest
from workers.skills.binding import FORM, binding_problems
from workers.skills.http_request import Made, make
from workers.skills.manifest import validate

PATH, QUERY, BODY = Placement(place="path"), Placement(place="query"), Placement(place="body")


def bound(path: str = "/", method: str = "POST", required: tuple[str, ...] = (), **more: Any) -> SkillManifest:
    """A skill whose parameters are those that its binding places, of any type."""
    binding = HttpBinding(method=method, **more)
    properties: dict[str, Any] = {name: {} for name in binding.arguments}
    holes = [name for name, one in binding.arguments.items() if one.place == "path"]
    parameters = {"type": "object", "properties": properties, "required": [*holes, *required]}
    return SkillManifest(
        name="probe", version="1", description="Probes.", parameters=parameters, owner="test",
        url=f"https://api.example.org/v1{path}", hosts=("api.example.org:443",), http=binding,
    )  # fmt: skip


def request(manifest: SkillManifest, secrets: dict[str, str] | None = None, /, **arguments: Any) -> Made:
    validate(manifest)
    assert manifest.http is not None
    return make(manifest, manifest.http, arguments, (secrets or {}).__getitem__)


def target(manifest: SkillManifest, **arguments: Any) -> str:
    return request(manifest, **arguments).target.decode()


def test_path_query_header_and_body_each_get_theirs() -> None:
    manifest = bound(
        "/people/{id}/notes",
        arguments={
            "id": PATH, "dry_run": Placement(place="query", name="dry-run"),
            "request_id": Placement(place="header", name="X-Request-Id"), "text": BODY,
            "colour": Placement(place="body", name="color"),
        },
    )  # fmt: skip
    made = request(manifest, id=7, dry_run=True, request_id="r 1", text="ä", colour=None)
    assert (made.method, made.target) == (b"POST", b"/v1/people/7/notes?dry-run=true")
    assert orjson.loads(made.body) == {"text": "ä", "color": None}
    headers = dict(made.headers)
    assert headers[b"x-request-id"] == b"r 1"
    assert headers[b"content-type"] == b"application/json"
    assert headers[b"content-length"] == str(len(made.body)).encode()


def test_a_whole_body_is_one_argument() -> None:
    made = request(bound(method="PUT", arguments={"items": Placement(place="content")}), items=[1, {"a": 2}])
    assert orjson.loads(made.body) == [1, {"a": 2}]


def test_a_get_has_no_body_and_says_no_length() -> None:
    made = request(bound(method="GET", arguments={"q": QUERY}), q="x")
    assert made.body == b""
    assert not {b"content-length", b"content-type"} & dict(made.headers).keys()


def test_a_post_without_arguments_says_that_it_is_empty() -> None:
    assert dict(request(bound("/restart")).headers)[b"content-length"] == b"0"


def test_what_is_not_given_is_not_sent() -> None:
    manifest = bound(method="GET", arguments={"q": QUERY, "page": QUERY})
    assert target(manifest, q="x", page=None) == "/v1/?q=x"
    assert target(manifest) == "/v1/"


def test_a_query_of_the_url_itself_stays() -> None:
    assert target(bound("/find?version=2", "GET", arguments={"q": QUERY}), q="a") == "/v1/find?version=2&q=a"


@pytest.mark.parametrize(
    ("style", "value", "query"),
    [
        ("repeated", [1, 2], "a=1&a=2"),
        ("repeated", [], ""),
        ("comma", ["x", "y z"], "a=x%2Cy%20z"),
        ("space", [1, 2], "a=1%202"),
        ("pipe", [1, 2], "a=1%7C2"),
        ("deep", {"b": 1, "c": False}, "a%5Bb%5D=1&a%5Bc%5D=false"),
        ("members", {"b": 1, "c": "x"}, "b=1&c=x"),
        ("json", {"b": [1]}, "a=%7B%22b%22%3A%5B1%5D%7D"),
        ("repeated", 1.5, "a=1.5"),
    ],
)
def test_arrays_and_objects_in_a_query(style: str, value: Any, query: str) -> None:
    manifest = bound(method="GET", arguments={"a": Placement(place="query", style=style)})
    assert target(manifest, a=value).partition("?")[2] == query


def test_a_form_is_written_as_one() -> None:
    arguments = {"name": BODY, "tags": BODY, "card": Placement(place="body", style="deep")}
    made = request(bound(content_type=FORM, arguments=arguments), name="A&B", tags=[1, 2], card={"number": "4"})
    assert parse_qsl(made.body.decode()) == [("name", "A&B"), ("tags", "1"), ("tags", "2"), ("card[number]", "4")]
    assert dict(made.headers)[b"content-type"] == FORM.encode()


def test_secrets_go_where_the_api_wants_them() -> None:
    credentials = (
        Credential(secret="a", name="Authorization", prefix="Bearer "),
        Credential(secret="b", name="key", place="query"),
        Credential(secret="c", name="sid", place="cookie"),
    )  # fmt: skip
    manifest = bound(method="GET", arguments={"q": QUERY}, credentials=credentials, context=True)
    made = request(manifest, {"a": "A", "b": "B&", "c": "C"}, q="x")
    assert made.target == b"/v1/?q=x&key=B%26"
    assert dict(made.headers)[b"authorization"] == b"Bearer A"
    assert dict(made.headers)[b"cookie"] == b"sid=C"
    assert made.signed == b"GET /v1/?q=x\n"


@pytest.mark.parametrize("value", ["", ".", "..", "../admin", "a/../b", "a\\..", "a\nb", "\x00", {"a": 1}, [{}], None])
def test_what_a_path_cannot_hold_is_refused(value: Any) -> None:
    with pytest.raises(PeerError) as caught:
        request(bound("/files/{id}", "GET", arguments={"id": PATH}), id=value)
    assert (caught.value.code, caught.value.facts["sent"]) == ("skill_unsendable", False)
    assert caught.value.facts["parameter"] == "id"


def test_dots_among_other_text_and_several_holes_are_fine() -> None:
    manifest = bound("/files/{a}.{b}", "GET", arguments={"a": PATH, "b": PATH})
    assert target(manifest, a="x.y..", b=["1", "2,3"]) == "/v1/files/x.y...1,2%2C3"


@pytest.mark.parametrize("value", ["a\r\nX-Evil: 1", "ä", "", " a", {"a": 1}])
def test_what_a_header_cannot_hold_is_refused(value: Any) -> None:
    manifest = bound(method="GET", arguments={"h": Placement(place="header", name="X-H")})
    with pytest.raises(PeerError, match="visible ASCII"):
        request(manifest, h=value)


def test_what_a_style_cannot_write_is_refused() -> None:
    with pytest.raises(PeerError, match="style repeated"):
        request(bound(method="GET", arguments={"a": QUERY}), a={"b": 1})


@given(st.text(), st.text(min_size=1))
def test_any_text_arrives_as_it_was_and_changes_nothing_else(query: str, segment: str) -> None:
    manifest = bound("/files/{id}/meta", "GET", arguments={"id": PATH, "q": QUERY, "z": QUERY})
    try:
        made = request(manifest, id=segment, q=query, z=1)
    except PeerError:
        return
    parts = urlsplit(made.target.decode("ascii"))
    segments = parts.path.split("/")
    assert (segments[:3], segments[4:]) == (["", "v1", "files"], ["meta"])
    assert unquote(segments[3]) == segment
    assert parse_qsl(parts.query, keep_blank_values=True) == [("q", query), ("z", "1")]


BROKEN: list[tuple[SkillManifest, str]] = [
    (bound(method="TRACE"), "http.method"),
    (bound(method="GET", arguments={"a": BODY}), "http.method"),
    (bound(content_type="multipart/form-data"), "http.content_type"),
    (bound(content_type=FORM, arguments={"a": Placement(place="content")}), "http.content_type"),
    (bound(accept="a\r\nb"), "http.accept"),
    (bound("/{id}"), "url"),
    (bound("/x", arguments={"id": PATH}), "url"),
    (bound("/x}"), "url"),
    (bound("/ä"), "url"),
    (bound(arguments={"a": Placement(place="cookie")}), "http.arguments.a"),
    (bound(arguments={"a": Placement(place="query", style="matrix")}), "http.arguments.a"),
    (bound(arguments={"a": Placement(place="header", name="X:Y")}), "http.arguments.a"),
    (bound(arguments={"a": Placement(place="header", name="Host")}), "http.arguments.a"),
    (bound(arguments={"a": Placement(place="header", name="Authorization")}), "http.arguments.a"),
    (bound(arguments={"a": Placement(place="header", name="X", style="deep")}), "http.arguments.a"),
    (bound(arguments={"a": Placement(place="query", name="x\n")}), "http.arguments.a"),
    (bound("/{a}", arguments={"a": Placement(place="path", name="b")}), "http.arguments.a"),
    (bound(arguments={"a": QUERY, "b": Placement(place="query", name="a")}), "http.arguments"),
    (bound(arguments={"a": BODY, "b": Placement(place="content")}), "http.arguments"),
    (bound(credentials=(Credential(secret="a b", name="X"),)), "http.credentials.secret"),
    (bound(credentials=(Credential(secret="a", name="X", place="body"),)), "http.credentials.place"),
    (bound(credentials=(Credential(secret="a", name="X", prefix="\n"),)), "http.credentials.name"),
    (bound(credentials=(Credential(secret="a", name="Host"),)), "http.credentials.name"),
]


@pytest.mark.parametrize(("manifest", "field"), BROKEN)
def test_every_broken_rule_of_a_binding_is_named(manifest: SkillManifest, field: str) -> None:
    assert field in [name for name, _ in binding_problems(manifest)]
    with pytest.raises(InvalidInput):
        validate(manifest)


def test_each_parameter_is_placed_and_those_of_the_path_are_required() -> None:
    manifest = bound("/{id}", arguments={"id": PATH})
    loose = {"type": "object", "properties": {"id": {}, "more": {}}}
    changed = msgspec.structs.replace(manifest, parameters=loose)
    assert [name for name, _ in binding_problems(changed)] == ["parameters.required", "http.arguments"]


def test_a_bus_skill_has_no_binding() -> None:
    manifest = msgspec.structs.replace(bound(), bus=True, url="", hosts=())
    assert [name for name, _ in binding_problems(manifest)] == ["http"]
