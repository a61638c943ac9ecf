"""An OpenAPI 3 document to skill manifests: one operation, one skill. https://spec.openapis.org/oas/v3.1.1

| of the operation | becomes |
|---|---|
| `operationId`, else method and path | `name` |
| `summary` and `description` | `description` |
| parameters and body | `parameters`, and `http.arguments` says where each goes; `fire_on` is what is required |
| method | `effect`: GET and HEAD are pure, any other irreversible |
| the header `Idempotency-Key` among its parameters | `idempotent_key` |
| `servers` | `url` and `hosts` |
| `security` | `http.credentials`, by the names of the operator's secrets |
| the JSON schema of its only answer with 2xx | `returns` |
| `x-headstart` | any of these fields of the manifest, as the API's owner wants them |

What a person chooses (Choices) goes before the document, the document before these rules. An operation that cannot be
a skill is named with what to do about it; nothing is guessed. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final
from urllib.parse import quote, urljoin, urlsplit

import msgspec

from headstart.importing.choices import Choices, Imported, LeftOut, unconvertible
from headstart.importing.naming import owner_name, skill_name
from headstart.importing.parameters import Parameters
from headstart.importing.schemas import Schema, Schemas, resolve, table
from headstart.service_registration import versioned
from streams.errors import InvalidInput
from streams.events.binding import Credential, HttpBinding
from streams.events.registering import SkillManifest
from workers.skills.binding import METHODS, WITHOUT_BODY, is_json
from workers.skills.manifest import MAX_SCHEMA_BYTES, host_port, problems

PURE: Final = ("GET", "HEAD")
LONGEST_DESCRIPTION: Final = 1_000  # characters; it stands in prompts
SAID_BY_OWNER: Final = frozenset({
    "name", "description", "fire_on", "effect", "compensate", "timeout_ms", "retries", "cost", "idempotent_key",
    "approval", "result_bytes", "concurrency", "tenants", "examples",
})  # fmt: skip
EXTENSION: Final = "x-headstart"
_HOLE: Final = re.compile(r"\{([^{}]*)\}")


def import_openapi(document: Mapping[str, Any], choices: Choices, source: str = "") -> Imported:
    """Manifests of a document's operations. source: the URL it came from, against which its servers are resolved.

    Raises InvalidInput: `not_openapi`, `nothing_to_import` when the choices leave nothing, `invalid_effect`.
    """
    version = document.get("openapi")
    if not isinstance(version, str) or not version.startswith(("3.0", "3.1", "3.2")):
        found = "Swagger 2.0" if document.get("swagger") else f"version {str(version)[:20]!r}"
        raise InvalidInput(
            f"not an OpenAPI 3 document: {found}", code="not_openapi",
            hint="it says openapi: 3.0.x or 3.1.x at its top; a Swagger 2.0 one can be converted by swagger2openapi",
        )  # fmt: skip
    reading = _Reading(document, choices, source)
    manifests: list[SkillManifest] = []
    left_out: list[LeftOut] = []
    seen: dict[str, str] = {}
    wanted = 0
    for path, method, item, operation in reading.operations():
        label = reading.label(path, method, operation)
        name = reading.name(path, method, operation)
        if not choices.wanted(label, name, skill_name(label), f"{method} {path}"):
            continue
        wanted += 1
        try:
            if name in seen:
                raise unconvertible(f"it would be the skill {name}, as {seen[name]} is", f"--name {label!r}=OTHER_NAME")
            manifests.append(reading.manifest(name, path, method, item, operation))
            seen[name] = label
        except InvalidInput as error:
            if error.code == "invalid_effect":
                raise
            left_out.append(LeftOut(label, error.message, error.hint or ""))
    if not wanted:
        raise InvalidInput("no operation is left to import", code="nothing_to_import", hint="see --only, --leave-out")
    return Imported(manifests, left_out, reading.notes)


class _Reading:
    """One document being read."""

    def __init__(self, document: Mapping[str, Any], choices: Choices, source: str) -> None:
        self.notes: list[str] = []
        self._document, self._choices, self._source = document, choices, source
        self._old = str(document["openapi"]).startswith("3.0")
        self._title = str(table(document.get("info")).get("title", ""))

    def operations(self) -> Iterator[tuple[str, str, Mapping[str, Any], Mapping[str, Any]]]:
        """(path, method, path item, operation), in the document's order."""
        for path, given in table(self._document.get("paths")).items():
            item = table(resolve(self._document, given["$ref"]) if "$ref" in table(given) else given)
            for method, operation in item.items():
                if str(method).upper() in METHODS and isinstance(operation, Mapping):
                    yield str(path), str(method).upper(), item, operation

    def label(self, path: str, method: str, operation: Mapping[str, Any]) -> str:
        """What an operation is called where it is spoken about."""
        return str(operation.get("operationId") or f"{method} {path}")

    def name(self, path: str, method: str, operation: Mapping[str, Any]) -> str:
        label = self.label(path, method, operation)
        owned = table(operation.get(EXTENSION)).get("name")
        return self._choices.names.get(label) or str(owned or skill_name(label, self._choices.prefix))

    def manifest(
        self, name: str, path: str, method: str, item: Mapping[str, Any], operation: Mapping[str, Any]
    ) -> SkillManifest:  # fmt: skip
        """Raises InvalidInput when the operation cannot be a skill."""
        said = self._said(operation)
        asking = Schemas(self._document, self._old, hidden="readOnly")
        parameters = Parameters(self._document, asking)
        parameters.add([*_list(item, "parameters"), *_list(operation, "parameters")])
        if "requestBody" in operation and method not in WITHOUT_BODY:
            parameters.add_body(operation["requestBody"])
        returns, accept = self._answers(operation)
        url = self._url(path, item, operation, parameters)
        values: dict[str, Any] = {
            "description": self._description(operation, method, path), "timeout_ms": self._choices.timeout_ms,
            "tenants": self._choices.tenants, "idempotent_key": parameters.enforces_key, "retries": 1,
        } | said  # fmt: skip
        values |= {
            **self._effect(name, method, said, parameters.required), "name": name, "version": "",
            "owner": self._choices.owner or owner_name(self._title), "parameters": parameters.schema,
            "returns": returns, "url": url, "hosts": (host_port(url) or "",),
            "http": self._binding(method, operation, parameters, accept),
        }  # fmt: skip
        self.notes += [f"{name}: {note}" for note in asking.notes]
        try:
            manifest = versioned(msgspec.convert(values, SkillManifest))
        except msgspec.ValidationError as error:
            raise unconvertible(
                f"its {EXTENSION} is wrong: {error}", "give each field the type a manifest has"
            ) from None
        broken = problems(manifest)
        if broken:
            said_so = "; ".join(f"{one.field} should be: {one.expected}" for one in broken)
            raise unconvertible(
                f"its manifest would break rules: {said_so}",
                f"mend the document, say it in {EXTENSION}, or leave it out",
            )
        return manifest

    # -- inside ----------------------------------------------------------------------------------------------------

    def _said(self, operation: Mapping[str, Any]) -> dict[str, Any]:
        said = operation.get(EXTENSION, {})
        if not isinstance(said, Mapping) or not said.keys() <= SAID_BY_OWNER:
            known = ", ".join(sorted(SAID_BY_OWNER))
            raise unconvertible(f"its {EXTENSION} holds what a manifest does not take", f"it takes {known}")
        return {key: value for key, value in said.items() if key != "name"}

    def _binding(
        self, method: str, operation: Mapping[str, Any], parameters: Parameters, accept: str
    ) -> HttpBinding:  # fmt: skip
        said: dict[str, Any] = {"content_type": parameters.content_type, "accept": accept}
        return HttpBinding(
            method=method, arguments=parameters.placements, credentials=self._credentials(operation),
            context=self._choices.context, **{key: value for key, value in said.items() if value != "application/json"},
        )  # fmt: skip

    def _effect(
        self, name: str, method: str, said: Mapping[str, Any], required: tuple[str, ...]
    ) -> dict[str, Any]:  # fmt: skip
        """effect, compensate, approval and fire_on. What a person chose may make the owner's word for the other three
        meaningless; it is dropped then."""
        usual = ":".join(str(said[key]) for key in ("effect", "compensate") if said.get(key))
        effect, compensate = self._choices.effect(name, usual or ("pure" if method in PURE else "irreversible"))
        late = effect == "irreversible"
        return {
            "effect": effect, "compensate": compensate, "fire_on": () if late else said.get("fire_on", required),
            "approval": self._choices.approval(name, effect) or (late and said.get("approval") is True),
        }  # fmt: skip

    def _description(self, operation: Mapping[str, Any], method: str, path: str) -> str:
        summary = " ".join(str(operation.get("summary") or "").split())
        longer = " ".join(str(operation.get("description") or "").partition("\n\n")[0].split())
        said_twice = longer.casefold().startswith(summary.rstrip(".").casefold())
        text = longer if said_twice else f"{summary.rstrip('.')}. {longer}" if longer else summary
        return (text or f"{method} {path} of {self._title or 'the API'}")[:LONGEST_DESCRIPTION]

    def _url(
        self, path: str, item: Mapping[str, Any], operation: Mapping[str, Any], parameters: Parameters
    ) -> str:  # fmt: skip
        pieces = _HOLE.split(path)
        for hole in pieces[1::2]:
            if hole not in parameters.path_names:
                raise unconvertible(f"its path names {hole}, which no parameter declares", "declare it, in: path")
        texts = [quote(text, safe="/:@!$&'()*+,;=-._~%") for text in pieces[::2]]
        holes = [f"{{{parameters.path_names[hole]}}}" for hole in pieces[1::2]]
        whole = "".join(text for pair in zip(texts, [*holes, ""], strict=True) for text in pair)
        url = self._server(item, operation).rstrip("/") + whole
        if host_port(url) is None:
            raise unconvertible(
                "the document names no server with a host",
                "say --server URL, such as --server https://api.example.org/v1",
            )
        return url

    def _server(self, item: Mapping[str, Any], operation: Mapping[str, Any]) -> str:
        if self._choices.server:
            return self._choices.server
        servers = next(
            (found for holder in (operation, item, self._document) if (found := _list(holder, "servers"))),
            [{"url": "/"}],
        )
        server = table(servers[0])
        url = str(server.get("url", "/"))
        for name, variable in table(server.get("variables")).items():
            url = url.replace(f"{{{name}}}", str(table(variable).get("default", "")))
        if "{" in url:
            raise unconvertible("its server's address has variables without a default", "say --server URL")
        return urljoin(self._source, url) if urlsplit(self._source).scheme in ("http", "https") else url

    def _answers(self, operation: Mapping[str, Any]) -> tuple[Schema, str]:
        """(returns, accept). Only one kind of answer can be promised; text has no schema here."""
        fine = [
            table(resolve(self._document, given["$ref"]) if "$ref" in table(given) else given)
            for status, given in table(operation.get("responses")).items()
            if str(status).startswith("2")
        ]
        contents = [content for one in fine if (content := table(one.get("content")))]
        kinds = list(dict.fromkeys(str(kind) for content in contents for kind in content))
        taken = [kind for kind in kinds if is_json(kind) or kind.startswith("text/")]
        if kinds and not taken and "*/*" not in kinds:
            raise unconvertible(
                f"it answers {', '.join(kinds)[:100]}", "only JSON and text can be a result; leave it out"
            )
        accept = "application/json" if not taken or "application/json" in taken else ", ".join(taken)
        json = [content[kind] for content in contents for kind in content if is_json(str(kind))]
        if not self._choices.returns or len(fine) != 1 or len(json) != 1 or len(kinds) != 1:
            return {}, accept
        giving = Schemas(self._document, self._old, hidden="writeOnly")
        try:
            schema = giving.convert(table(json[0]).get("schema", {}))
        except InvalidInput as error:
            self.notes.append(
                f"{operation.get('operationId', 'an operation')}: its answers are not checked: {error.message}"
            )
            return {}, accept
        definitions = giving.used_by(schema) if isinstance(schema, dict) else {}
        returns = (schema | {"$defs": definitions} if definitions else schema) if isinstance(schema, dict) else {}
        return (returns if len(msgspec.json.encode(returns)) <= MAX_SCHEMA_BYTES else {}), accept

    def _credentials(self, operation: Mapping[str, Any]) -> tuple[Credential, ...]:
        """The first way in for which every secret is named."""
        ways = operation.get("security", self._document.get("security", []))
        ways = [way for way in ways if isinstance(way, Mapping)] if isinstance(ways, list) else []
        if not ways:
            return ()
        chosen = self._choices.secrets
        for way in ways:
            if all(scheme in chosen for scheme in way) and way:
                return tuple(self._credential(scheme, chosen[scheme]) for scheme in way)
        if any(not way for way in ways):
            return ()
        schemes = " or ".join(" and ".join(way) for way in ways)
        scheme = next(iter(ways[0]))
        raise unconvertible(f"it asks for {schemes}", f"say --secret {scheme}=NAME, a name in HEADSTART_SKILL_SECRETS")

    def _credential(self, scheme: str, secret: str) -> Credential:
        place = f"#/components/securitySchemes/{scheme.replace('~', '~0').replace('/', '~1')}"
        declared = table(resolve(self._document, place))
        if "$ref" in declared:
            declared = table(resolve(self._document, declared["$ref"]))
        kind = declared.get("type")
        if kind == "apiKey":
            return Credential(secret=secret, name=str(declared.get("name")), place=str(declared.get("in")))
        if kind in ("oauth2", "openIdConnect"):
            return Credential(secret=secret, name="Authorization", prefix="Bearer ")
        if kind == "http":
            return Credential(
                secret=secret, name="Authorization", prefix=f"{str(declared.get('scheme')).capitalize()} "
            )
        raise unconvertible(f"its security scheme {scheme} is {kind}", "an API key, HTTP or OAuth 2 can be sent")


def _list(holder: Mapping[str, Any], key: str) -> list[Any]:
    found = holder.get(key)
    return found if isinstance(found, list) else []
