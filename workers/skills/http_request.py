"""A call's arguments to the request that its API wants: path, query, headers and body, as the manifest's `http` says.

An argument is data wherever it goes. In a path and a query every octet that is not unreserved is percent-encoded (RFC
3986, 2.3), so it can neither end its segment nor start another parameter; a segment that a server could read as a step
upwards is refused, since dots are unreserved. A header takes visible ASCII only. What cannot be placed is refused
before anything is sent.

Pure.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final
from urllib.parse import quote

import msgspec
import orjson

from streams.events.binding import HttpBinding, Placement
from streams.events.registering import SkillManifest
from workers.skills.binding import FORM
from workers.skills.failures import SkillFailed, failure
from workers.skills.url_template import template

Pairs = list[tuple[str, str]]
_UPWARDS: Final = re.compile(r"(?:^|[/\\])\.\.?(?:$|[/\\])|[\x00-\x1f\x7f]")
_VISIBLE: Final = re.compile(r"[!-~](?:[ -~]*[!-~])?")
_BETWEEN: Final = {"comma": ",", "space": " ", "pipe": "|"}
_WITH_LENGTH: Final = ("POST", "PUT", "PATCH")  # RFC 9110, 8.6: these say their length even where it is nothing


class Made(msgspec.Struct, frozen=True):
    """A request, less what every request has. signed: what Headstart-Context is made over; b"" where none is sent."""

    method: bytes
    target: bytes
    headers: list[tuple[bytes, bytes]]
    body: bytes
    signed: bytes = b""


def make(
    manifest: SkillManifest, binding: HttpBinding, arguments: Mapping[str, Any], secret: Callable[[str], str]
) -> Made:
    """The request of a call whose arguments are valid. secret: gives the text behind a credential's name.

    Raises SkillFailed (`skill_unsendable`, naming the parameter) for an argument that its place cannot hold, and what
    `secret` raises.
    """
    asked = _Asked(manifest, binding, arguments)
    headers = asked.headers()
    query = asked.query()
    path = asked.path()
    body = asked.body()
    target = _target(path, query)
    signed = b"%b %b\n%b" % (binding.method.encode(), target.encode(), body) if binding.context else b""
    cookies = []
    for credential in binding.credentials:
        text = credential.prefix + secret(credential.secret)
        if credential.place == "header":
            headers.append((credential.name.lower().encode(), text.encode()))
        elif credential.place == "cookie":
            cookies.append(f"{credential.name}={text}")
        else:
            query.append(_pair(credential.name, text))
    if cookies:
        headers.append((b"cookie", "; ".join(cookies).encode()))
    headers.append((b"accept", binding.accept.encode()))
    if body:
        headers.append((b"content-type", binding.content_type.encode()))
    if body or binding.method in _WITH_LENGTH:
        headers.append((b"content-length", b"%d" % len(body)))
    return Made(binding.method.encode(), _target(path, query).encode(), headers, body, signed)


class _Asked:
    """One call being written down."""

    def __init__(self, manifest: SkillManifest, binding: HttpBinding, arguments: Mapping[str, Any]) -> None:
        self._manifest, self._binding, self._arguments = manifest, binding, arguments
        self._template = template(manifest.url)

    def path(self) -> str:
        written = []
        for name in self._template.holes:
            placement = self._binding.arguments[name]
            value = self._arguments[name]
            text = _plain(value, placement)
            if text is None or not text or _UPWARDS.search(text):
                raise self._refused(name, "a text that a path can hold: not empty, and no step upwards")
            parts = value if isinstance(value, list) and placement.style != "json" else [text]
            written.append(",".join(quote(_scalar(part) or "", safe="") for part in parts))
        return self._template.path(tuple(written))

    def query(self) -> list[str]:
        pairs = [text for text in (self._template.query,) if text]
        for name, placement, value in self._placed("query"):
            pairs += [_pair(key, text) for key, text in self._pairs(name, placement, value)]
        return pairs

    def headers(self) -> list[tuple[bytes, bytes]]:
        found = []
        for name, placement, value in self._placed("header"):
            text = _plain(value, placement)
            if text is None or not _VISIBLE.fullmatch(text):
                raise self._refused(name, "a text that a header can hold: visible ASCII")
            found.append((placement.name.lower().encode(), text.encode()))
        return found

    def body(self) -> bytes:
        for name, _, _ in self._placed("content", nulls=True):
            return orjson.dumps(self._arguments[name])
        members = self._placed("body", nulls=True)
        if self._binding.content_type == FORM:
            pairs = [pair for name, one, value in members for pair in self._pairs(name, one, value)]
            return "&".join(_pair(key, text) for key, text in pairs).encode()
        if not any(one.place == "body" for one in self._binding.arguments.values()):
            return b""
        return orjson.dumps({placement.name or name: value for name, placement, value in members})

    def _placed(self, place: str, nulls: bool = False) -> list[tuple[str, Placement, Any]]:
        """The arguments that go there, in the order of the API. Outside a body null says nothing."""
        return [
            (name, placement, self._arguments[name])
            for name, placement in self._binding.arguments.items()
            if placement.place == place and name in self._arguments and (nulls or self._arguments[name] is not None)
        ]

    def _pairs(self, name: str, placement: Placement, value: Any) -> Pairs:
        """An argument as parameters of a query or a form."""
        key = placement.name or name
        if isinstance(value, dict) and placement.style in ("deep", "members"):
            named = [
                (f"{key}[{member}]" if placement.style == "deep" else member, item) for member, item in value.items()
            ]
            pairs = [(member, _scalar(item)) for member, item in named if item is not None]
        elif isinstance(value, list) and placement.style == "repeated":
            pairs = [(key, _scalar(item)) for item in value]
        else:
            pairs = [(key, _plain(value, placement))] if value is not None else []
        if any(text is None for _, text in pairs):
            raise self._refused(name, f"text, numbers and booleans, as style {placement.style} takes")
        return [(member, text) for member, text in pairs if text is not None]

    def _refused(self, name: str, expected: str) -> Exception:
        message = f"{name} does not fit where the API wants it: expected {expected}"
        return failure(SkillFailed, "skill_unsendable", message, self._manifest, False, parameter=name)


def _target(path: str, query: list[str]) -> str:
    return f"{path}?{'&'.join(query)}" if query else path


def _pair(name: str, text: str) -> str:
    return f"{quote(name, safe='')}={quote(text, safe='')}"


def _plain(value: Any, placement: Placement) -> str | None:
    """A value as one text; None when it has no such form."""
    if placement.style == "json":
        return orjson.dumps(value).decode()
    if isinstance(value, list):
        texts = [_scalar(item) for item in value]
        between = _BETWEEN.get(placement.style, ",")
        return None if None in texts else between.join(text for text in texts if text is not None)
    return _scalar(value)


def _scalar(value: Any) -> str | None:
    """Text, a number or a boolean as text; None for anything else."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, str | int | float) else None
