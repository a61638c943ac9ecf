"""The rules of a manifest's `http`: a request that can be made of any valid arguments, and of nothing else. Pure."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from typing import Final

from streams.events.binding import Credential, HttpBinding, Placement
from streams.events.registering import SkillManifest
from workers.skills.parameters import properties, required
from workers.skills.url_template import stray_braces, template

METHODS: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
WITHOUT_BODY: Final = ("GET", "HEAD")
PLACES: Final = ("path", "query", "header", "body", "content")
STYLES: Final = ("repeated", "comma", "space", "pipe", "deep", "members", "json")
FORM: Final = "application/x-www-form-urlencoded"
RESERVED_HEADERS: Final = frozenset({
    "accept", "accept-encoding", "authorization", "connection", "content-encoding", "content-length", "content-type",
    "cookie", "expect", "headstart-context", "host", "idempotency-key", "keep-alive", "proxy-authorization", "te",
    "traceparent", "tracestate", "trailer", "transfer-encoding", "upgrade", "user-agent",
})  # fmt: skip
"""Headers that an argument never fills: they steer the exchange, or say who asks."""
_CREDENTIAL_MAY: Final = frozenset({"authorization", "proxy-authorization"})
_TOKEN: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,128}")  # a header's or a cookie's name, RFC 9110
_SECRET_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_MEDIA_TYPES: Final = re.compile(r"[A-Za-z0-9!#$&^_.+*-]+/[A-Za-z0-9!#$&^_.+*-]+(?:; ?[a-z]+=[A-Za-z0-9.-]+)*")
_JSON: Final = re.compile(r"application/(?:[a-z0-9.+-]+\+)?json(?:; ?charset=utf-8)?", re.IGNORECASE)


def is_json(content_type: str) -> bool:
    """Whether a media type is JSON's, or one made of it (`application/vnd.example+json`)."""
    return _JSON.fullmatch(content_type) is not None


def binding_problems(manifest: SkillManifest) -> list[tuple[str, str]]:
    """Every broken rule as (field, what should stand there); [] when there are none, or no binding."""
    binding = manifest.http
    if binding is None:
        return []
    if manifest.bus:
        return [("http", "absent, as the skill lives on the bus")]
    return [*_head_problems(binding), *_url_problems(manifest, binding), *_placing_problems(manifest, binding)]


def _head_problems(binding: HttpBinding) -> Iterator[tuple[str, str]]:
    if binding.method not in METHODS:
        yield "http.method", "one of " + ", ".join(METHODS)
    if not (is_json(binding.content_type) or binding.content_type == FORM):
        yield "http.content_type", f"JSON's media type or {FORM}"
    if not all(_MEDIA_TYPES.fullmatch(one) for one in binding.accept.split(", ")):
        yield "http.accept", "media types, a comma and a space between them"
    for credential in binding.credentials:
        yield from _credential_problems(credential)


def _credential_problems(credential: Credential) -> Iterator[tuple[str, str]]:
    if not _SECRET_NAME.fullmatch(credential.secret):
        yield "http.credentials.secret", "a name of letters, digits and . _ -, at most 64"
    if credential.place not in ("header", "query", "cookie"):
        yield "http.credentials.place", "header, query or cookie"
    if not _TOKEN.fullmatch(credential.name) or not _text(credential.prefix):
        yield "http.credentials.name", "a name that a header may have, and a prefix without line breaks"
    elif credential.place == "header" and credential.name.lower() in RESERVED_HEADERS - _CREDENTIAL_MAY:
        yield "http.credentials.name", "not a header that steers the exchange"


def _url_problems(manifest: SkillManifest, binding: HttpBinding) -> Iterator[tuple[str, str]]:
    try:
        holes = template(manifest.url).holes
        stray = stray_braces(manifest.url)
    except ValueError:
        return  # the rules of a url say so
    if not manifest.url.isascii():
        yield "url", "percent-encoded where it is not ASCII"
    if stray:
        yield "url", "braces around a parameter's name in the path, and nowhere else"
    placed = {name for name, one in binding.arguments.items() if one.place == "path"}
    for name in sorted(placed ^ set(holes)):
        yield "url", f"{{{name}}} exactly where {name} is placed in the path"
    for name in sorted(set(holes) - set(required(manifest))):
        yield "parameters.required", f"{name} too, as it stands in the url's path"


def _placing_problems(manifest: SkillManifest, binding: HttpBinding) -> Iterator[tuple[str, str]]:
    for name in sorted(binding.arguments.keys() ^ properties(manifest).keys()):
        yield "http.arguments", f"each declared parameter and no other; {name} is one-sided"
    for name, one in binding.arguments.items():
        expected = _placement_problem(one)
        if expected:
            yield f"http.arguments.{name}", expected
    places = Counter(one.place for one in binding.arguments.values())
    if binding.method in WITHOUT_BODY and (places["body"] or places["content"]):
        yield "http.method", "one whose request has a body, as arguments are placed there"
    if places["content"] > 1 or (places["content"] and places["body"]):
        yield "http.arguments", "one whole body, or members of one"
    if places["content"] and binding.content_type == FORM:
        yield "http.content_type", "JSON's media type, as one argument is the whole body"
    taken = Counter((one.place, (one.name or name).lower()) for name, one in binding.arguments.items())
    for (place, name), count in taken.items():
        if count > 1:
            yield "http.arguments", f"one parameter for {place} {name}"


def _placement_problem(placement: Placement) -> str:
    """What is expected of a placement, "" when it is right."""
    if placement.place not in PLACES:
        return "place: one of " + ", ".join(PLACES)
    if placement.style not in STYLES:
        return "style: one of " + ", ".join(STYLES)
    if placement.place == "path" and placement.name:
        return "no name: a path's parameter has the one that stands in the url"
    if placement.place in ("path", "header") and placement.style not in ("repeated", "comma", "json"):
        return "style: comma or json, in a path or a header"
    if placement.place == "header":
        if not _TOKEN.fullmatch(placement.name):
            return "name: a header's name"
        if placement.name.lower() in RESERVED_HEADERS:
            return "not a header that steers the exchange or says who asks"
    if len(placement.name) > 128 or not _text(placement.name):
        return "name: at most 128 characters, without line breaks"
    return ""


def _text(text: str) -> bool:
    """No control characters."""
    return all(character >= " " and character != "\x7f" for character in text)
