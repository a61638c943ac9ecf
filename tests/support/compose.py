"""compose.yaml as Docker would see it: read, with its variables filled in."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "compose.yaml").read_text()
# ${NAME}, ${NAME:-default} and ${NAME:?message}, as the compose specification defines them.
REFERENCE = re.compile(r"\$\{(?P<name>[A-Z_]+)(?:(?P<kind>:[-?])(?P<rest>[^}]*))?\}")


def dev_environment() -> dict[str, str]:
    lines = (ROOT / "compose.dev.env").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def interpolate(node: Any, environ: dict[str, str]) -> Any:
    """What compose does with every text of the file. Raises KeyError for a variable that must be set and is not."""
    if isinstance(node, dict):
        return {key: interpolate(item, environ) for key, item in node.items()}
    if isinstance(node, list):
        return [interpolate(item, environ) for item in node]
    if not isinstance(node, str):
        return node

    def value(match: re.Match[str]) -> str:
        if environ.get(match["name"]):
            return environ[match["name"]]
        if match["kind"] == ":?":
            raise KeyError(match["name"])
        return match["rest"] or ""

    return REFERENCE.sub(value, node)


def services(environ: dict[str, str] | None = None) -> dict[str, Any]:
    loaded = interpolate(yaml.safe_load(TEXT), environ if environ is not None else dev_environment())
    found: dict[str, Any] = loaded["services"]
    return found
