"""What one OpenAPI operation takes, as one flat set of parameters, each with its place in the request.

A model fills one object, so path, query, header and body become one: the members of a JSON or form body stand beside
the others where the body is an object with named members, and any other body is one parameter, `body`. What a body
asks for is asked for, also where the document forgot to say that the body itself is.

Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from headstart.importing.choices import unconvertible
from headstart.importing.naming import parameter_name
from headstart.importing.schemas import Schema, Schemas, resolve, table
from streams.events.binding import Placement
from workers.skills.binding import FORM, RESERVED_HEADERS, is_json

_STYLES: Final[Mapping[str, Mapping[str, tuple[str, str]]]] = {
    # place -> OpenAPI's style -> (ours with explode, ours without)
    "path": {"simple": ("comma", "comma")},
    "header": {"simple": ("comma", "comma")},
    "query": {
        "form": ("repeated", "comma"), "spaceDelimited": ("repeated", "space"), "pipeDelimited": ("repeated", "pipe"),
        "deepObject": ("deep", "deep"),
    },
}  # fmt: skip
_USUAL_STYLE: Final = {"path": "simple", "header": "simple", "query": "form"}
_NAMED_ELSEWHERE: Final = ("accept", "content-type", "authorization")  # OpenAPI: such header parameters say nothing
IDEMPOTENCY: Final = "idempotency-key"


class Parameters:
    """Collects one operation's. After `add` and `add_body`, `schema` is the manifest's and `placements` its binding's;
    enforces_key says that the API declares the Idempotency-Key header."""

    def __init__(self, root: Any, schemas: Schemas) -> None:
        self.placements: dict[str, Placement] = {}
        self.content_type = "application/json"
        self.enforces_key = False
        self.path_names: dict[str, str] = {}
        self._root, self._schemas = root, schemas
        self._properties: dict[str, Any] = {}
        self._required: list[str] = []

    @property
    def schema(self) -> Schema:
        made: Schema = {"type": "object", "properties": self._properties, "additionalProperties": False}
        if self._required:
            made["required"] = self._required
        definitions = self._schemas.used_by(made)
        return made | {"$defs": definitions} if definitions else made

    @property
    def required(self) -> tuple[str, ...]:
        return tuple(self._required)

    def add(self, parameters: list[Any]) -> None:
        """The parameters of a path and of its operation; of two with one place and name the later counts. Raises
        InvalidInput (`not_convertible`)."""
        found: dict[tuple[str, str], Mapping[str, Any]] = {}
        for given in parameters:
            one = self._meant(given)
            if not (isinstance(one.get("name"), str) and isinstance(one.get("in"), str)):
                raise unconvertible("one of its parameters has no name or no place", "mend the document")
            found[one["in"], one["name"]] = one
        order = {"path": 0, "query": 1, "header": 2, "cookie": 3}
        for (place, name), one in sorted(found.items(), key=lambda item: order.get(item[0][0], 4)):
            self._add_one(place, name, one)

    def add_body(self, body: Any) -> None:
        """The operation's requestBody. Raises InvalidInput (`not_convertible`)."""
        content = table(self._meant(body).get("content"))
        media = next((name for name in content if is_json(name)), FORM if FORM in content else "")
        if not media:
            kinds = ", ".join(map(str, content)) or "nothing"
            raise unconvertible(
                f"its body is {kinds[:100]}", "only JSON and forms can be sent; write a service for it, or leave it out"
            )
        self.content_type = media
        schema = self._schemas.convert(table(content[media]).get("schema", {}))
        members = self._members_of(schema)
        if members is not None:
            properties, required = members
            for name, member in properties.items():
                own = self._place(name, "body", member, name in required)
                if media == FORM:
                    self.placements[own] = self._form_member(name, own, member)
            return
        if media == FORM:
            raise unconvertible("its form has no named members", "only forms with named members can be sent")
        own = parameter_name("body", self._properties)
        described = {"description": "the whole body of the request"}
        self._declare(own, described | self._schema_of(schema), bool(self._meant(body).get("required", False)))
        self.placements[own] = Placement(place="content")

    # -- inside ----------------------------------------------------------------------------------------------------

    def _meant(self, node: Any) -> Mapping[str, Any]:
        for _ in range(8):
            if not (isinstance(node, Mapping) and isinstance(node.get("$ref"), str)):
                break
            node = resolve(self._root, node["$ref"])
        if not isinstance(node, Mapping):
            raise unconvertible("one of its parameters is no object", "mend the document")
        return node

    def _add_one(self, place: str, name: str, one: Mapping[str, Any]) -> None:
        required = one.get("required") is True
        if place == "header" and name.lower() == IDEMPOTENCY:
            self.enforces_key = True
            return
        if place == "header" and name.lower() in RESERVED_HEADERS and (name.lower() in _NAMED_ELSEWHERE):
            return
        if place == "cookie" or (place == "header" and name.lower() in RESERVED_HEADERS):
            if required:
                raise unconvertible(
                    f"it requires the {place} {name}, which no argument may fill",
                    "declare it as a security scheme and give its secret, or leave the operation out",
                )
            self._schemas.notes.append(f"the {place} {name} is never sent")
            return
        if place not in _STYLES:
            raise unconvertible(f"its parameter {name} stands in {place}", "mend the document")
        schema, style = self._styled(place, name, one)
        if isinstance(described := one.get("description"), str) and described:
            schema = schema | {"description": " ".join(described.split())}
        own = self._place(name, place, schema, required or place == "path", style)
        if place == "path":
            self.path_names[name] = own

    def _styled(self, place: str, name: str, one: Mapping[str, Any]) -> tuple[Schema, str]:
        """A parameter's schema, and how its arrays and objects are written."""
        if isinstance(content := one.get("content"), Mapping) and content:
            media, described = next(iter(content.items()))
            if not is_json(media):
                raise unconvertible(f"its parameter {name} is {media}", "only JSON can be put into a parameter")
            return self._schema_of(self._schemas.convert(table(described).get("schema", {}))), "json"
        schema = self._schema_of(self._schemas.convert(one.get("schema", {})))
        kind = self._schemas.resolved(schema).get("type")
        written = str(one.get("style", _USUAL_STYLE[place]))
        if written not in _STYLES[place]:
            raise unconvertible(
                f"its parameter {name} has the style {written}", f"use one of {', '.join(_STYLES[place])}"
            )
        exploded = one.get("explode", written == "form") is True
        style = _STYLES[place][written][0 if exploded else 1]
        if kind == "object" and style != "deep":
            if not (place == "query" and exploded and written == "form"):
                raise unconvertible(
                    f"its parameter {name} is an object in style {written}",
                    "use deepObject, or form with explode, in a query",
                )
            style = "members"
        return schema, style if kind in (None, "array", "object") else "repeated"

    def _form_member(self, name: str, own: str, member: Any) -> Placement:
        style = "deep" if self._schemas.resolved(member).get("type") == "object" else "repeated"
        return Placement(place="body", name="" if own == name else name, style=style)

    def _place(self, name: str, place: str, schema: Any, required: bool, style: str = "repeated") -> str:
        own = parameter_name(name, self._properties, place)
        self._declare(own, schema, required)
        known_as = "" if place == "path" or (own == name and place != "header") else name
        self.placements[own] = Placement(place=place, name=known_as, style=style)
        return own

    def _declare(self, own: str, schema: Any, required: bool) -> None:
        self._properties[own] = schema
        if required:
            self._required.append(own)

    def _schema_of(self, schema: Any) -> Schema:
        return dict(schema) if isinstance(schema, dict) else {}

    def _members_of(self, schema: Any) -> tuple[dict[str, Any], set[str]] | None:
        """The named members of a body and those it requires; None when it is not an object of such."""
        whole = self._schemas.resolved(schema)
        if whole.keys() & {"anyOf", "oneOf", "not", "if", "patternProperties", "propertyNames"}:
            return None
        if whole.get("additionalProperties", False) not in (False, True) and not whole.get("properties"):
            return None
        properties: dict[str, Any] = {}
        required: set[str] = set()
        for part in whole.get("allOf", ()):
            found = self._members_of(part)
            if found is None:
                return None
            properties |= found[0]
            required |= found[1]
        kind = whole.get("type")
        if kind not in (None, "object") and kind != ["object", "null"]:
            return None
        properties |= whole.get("properties", {})
        required |= set(whole.get("required", ()))
        return (properties, required & properties.keys()) if properties else None
