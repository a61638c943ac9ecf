"""Names in other people's contracts to names that a manifest takes. Pure."""

from __future__ import annotations

import re
from collections.abc import Container
from typing import Final

LONGEST: Final = 64
_WORDS: Final = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[A-Z]|[0-9]+")


def skill_name(text: str, prefix: str = "") -> str:
    """`listPets`, `pets/list` or `list-pets` as `list_pets`: letters, digits and _, a letter first."""
    words = "_".join(word.lower() for word in _WORDS.findall(prefix + " " + text))
    if not words or not words[0].isalpha():
        words = f"call_{words}"
    return words[:LONGEST].rstrip("_")


def parameter_name(text: str, taken: Container[str] = (), place: str = "") -> str:
    """A name of letters, digits and _: the API's own where it is one. place: goes before it where the name is taken."""
    name = re.sub(r"[^A-Za-z0-9_]+", "_", text).strip("_") or "value"
    name = f"_{name}"[:LONGEST] if name[0].isdigit() else name[:LONGEST]
    if name in taken:
        name = f"{place}_{name}"[:LONGEST]
    number = 2
    while name in taken:
        name = f"{name[: LONGEST - 3]}_{number}"
        number += 1
    return name


def owner_name(title: str) -> str:
    """A service's name from a document's title."""
    return "-".join(word.lower() for word in re.findall(r"[A-Za-z0-9]+", title))[:LONGEST].rstrip("-") or "imported"
