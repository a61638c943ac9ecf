"""What the operator holds so that bound skills may ask APIs that want to know who asks (binding.Credential).

    [library]                              # the name that manifests use
    value = "…"                            # or: variable = "LIBRARY_TOKEN", an environment variable that holds it
    hosts = ["api.books.example:443"]    # where it may be sent, and nowhere else

A manifest names a secret and never holds it. Whoever may register skills could name any secret; so each is sent to the
hosts that stand beside it here, whatever a manifest says.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path

import msgspec

from streams.errors import Misconfigured
from workers.skills.manifest import host_port


class _Held(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    hosts: tuple[str, ...]
    value: str = ""
    variable: str = ""


class Secrets:
    """Secrets by name. Its `repr` shows none."""

    def __init__(self, held: Mapping[str, tuple[str, frozenset[str]]] | None = None) -> None:
        self._held = dict(held or {})

    @classmethod
    def load(cls, file: Path | None, environ: Mapping[str, str]) -> Secrets:
        """As the file says; none without one. Raises Misconfigured, naming the entry and never its value."""
        if file is None:
            return cls()
        try:
            table = msgspec.convert(tomllib.loads(file.read_text()), dict[str, _Held])
        except (OSError, tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
            raise Misconfigured(f"{file}: {error}", hint="each table has hosts, and value or variable") from error
        held = {}
        for name, one in table.items():
            text = environ.get(one.variable, "") if one.variable else one.value
            wrong = _wrong(one, text)
            if wrong:
                raise Misconfigured(f"{file}: [{name}] {wrong}")
            held[name] = (text, frozenset(one.hosts))
        return cls(held)

    def find(self, name: str, place: str) -> str | None:
        """The secret's text; None when there is none of that name for this `host:port`."""
        text, hosts = self._held.get(name, ("", frozenset()))
        return text if place in hosts else None

    def __repr__(self) -> str:
        return f"Secrets({', '.join(sorted(self._held))})"


def _wrong(one: _Held, text: str) -> str:
    if bool(one.value) == bool(one.variable):
        return "has either value or variable"
    if not text:
        return f"is empty: {one.variable} is not set"
    if not all("!" <= character <= "~" for character in text):
        return "has characters that a header does not take"
    for host in one.hosts:
        if host_port(f"http://{host}/") != host:
            return f"names a host as host:port, and {host} is not one"
    return "" if one.hosts else "names no hosts"
