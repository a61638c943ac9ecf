"""Reads a contract from a file or a URL: JSON, or YAML with the extra `openapi`."""

from __future__ import annotations

import re
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import orjson

from streams.errors import InvalidInput, Misconfigured, NotFound, PeerUnavailable

LARGEST_BYTES: Final = 16 << 20
TIMEOUT_S: Final = 30


def is_url(source: str) -> bool:
    return urlsplit(source).scheme in ("http", "https")


def read_document(source: str) -> dict[str, Any]:
    """The object that a file or a URL holds. Raises NotFound, PeerUnavailable, InvalidInput (`invalid_document`,
    `document_too_large`), and Misconfigured where YAML cannot be read here."""
    content = _fetched(source) if is_url(source) else _file(Path(source))
    if len(content) > LARGEST_BYTES:
        raise InvalidInput(f"a document has at most {LARGEST_BYTES} bytes", code="document_too_large")
    try:
        document = orjson.loads(content)
    except orjson.JSONDecodeError:
        document = _yaml(content)
    if not isinstance(document, dict):
        raise InvalidInput("the document is not an object", code="invalid_document")
    return document


def _file(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise NotFound(f"{path} cannot be read: {error.strerror}", code="unknown_document") from error


def _fetched(url: str) -> bytes:
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT_S) as response:  # noqa: S310 - http and https only, see is_url
            content: bytes = response.read(LARGEST_BYTES + 1)
            return content
    except (OSError, urllib.error.URLError) as error:
        raise PeerUnavailable("the document could not be fetched", code="document_unreachable", url=url) from error


def _yaml(content: bytes) -> Any:
    try:
        import yaml
    except ImportError:
        raise Misconfigured("the document is not JSON", hint='YAML needs pip install "headstart[openapi]"') from None

    class Loader(yaml.SafeLoader):
        """YAML as JSON has it: dates stay text, keys become text."""

        def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
            return {str(key): value for key, value in super().construct_mapping(node, deep=True).items()}

    Loader.yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in found if not tag.endswith(("timestamp", "bool"))]
        for first, found in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    booleans = re.compile(r"^(?:true|false|True|False|TRUE|FALSE)$")  # YAML 1.2's; `on` and `no` are text
    Loader.add_implicit_resolver("tag:yaml.org,2002:bool", booleans, list("tTfF"))
    try:
        return yaml.load(content, Loader)  # noqa: S506 - a SafeLoader
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f" (line {mark.line + 1}, column {mark.column + 1})" if mark is not None else ""
        raise InvalidInput(f"neither JSON nor YAML{place}", code="invalid_document") from error
