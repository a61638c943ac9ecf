"""The url of a bound skill: `https://api.example.org/people/{id}?version=2`, in which `{id}` stands for an argument.

Pure.
"""

from __future__ import annotations

import functools
import re
from typing import Final
from urllib.parse import urlsplit

import msgspec

_HOLE: Final = re.compile(r"\{([^{}]*)\}")


class Template(msgspec.Struct, frozen=True):
    """texts: what stands before, between and behind the holes of the path, one more than holes. query: what the url
    has of its own, "" when nothing. origin: scheme and host, for connections that are opened before a call."""

    texts: tuple[str, ...]
    holes: tuple[str, ...]
    query: str
    origin: str

    def path(self, values: tuple[str, ...]) -> str:
        """The path with its holes filled, `values` being written as a path wants them."""
        pieces = [text for pair in zip(self.texts, values, strict=False) for text in pair]
        return "".join([*pieces, self.texts[-1]]) or "/"


@functools.lru_cache(4_096)
def template(url: str) -> Template:
    """Taken apart. Raises ValueError for a url that cannot be."""
    parts = urlsplit(url)
    pieces = _HOLE.split(parts.path)
    return Template(tuple(pieces[::2]), tuple(pieces[1::2]), parts.query, f"{parts.scheme}://{parts.netloc}/")


def stray_braces(url: str) -> bool:
    """Whether braces stand where no hole may be: outside the path, or alone."""
    parts = urlsplit(url)
    rest = "".join([parts.netloc, parts.query, *template(url).texts])
    return "{" in rest or "}" in rest
