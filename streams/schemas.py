"""JSON Schemas of every event, made from the types, and what makes a change of one incompatible.

Types evolve by addition only: a reader of last year's records must read this year's, and the other way round. So a
field may be added with a default; none may be removed, become required, or change its type. Anything else is a new
version beside the old (`@event("name", …, version=2)`).

    python -m streams.schemas --write     writes docs/schemas/*.json (refuses an incompatible change)
    python -m streams.schemas --check     says what has changed; exit status 1 when something did
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import msgspec

from streams.events import REGISTRY

Schema = dict[str, Any]
FOLDER: Final = Path(__file__).resolve().parent.parent / "docs" / "schemas"
_TYPE_WORDS: Final = ("type", "const", "enum", "format", "$ref", "contentEncoding")
HINT: Final = (
    "keep the old class as it is and add a new one with the next version, @event(name, …, version=N), "
    "then read both where the old one was read"
)


def schemas() -> dict[str, Schema]:
    """The schema of every event by its full type, with the topics it may stand on as `x-topics`."""
    made: dict[str, Schema] = {}
    for name, kind in sorted(REGISTRY.items()):
        schema = msgspec.json.schema(kind)
        whole = {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "$id": f"urn:headstart:event:{name}",
            "x-topics": kind.TOPICS,
            **schema,
        }
        made[name] = json.loads(json.dumps(whole))  # tuples become lists, as in the file
    return made


def text_of(schema: Schema) -> str:
    """A schema as it stands in its file."""
    return json.dumps(schema, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def published(folder: Path = FOLDER) -> dict[str, Schema]:
    """What was published before."""
    return {file.stem: json.loads(file.read_text()) for file in sorted(folder.glob("headstart.*.json"))}


def incompatible(old: dict[str, Schema], new: dict[str, Schema]) -> list[str]:
    """What makes the new types refuse old records or old readers refuse new ones; [] when nothing does."""
    problems: list[str] = []
    for name, before in old.items():
        after = new.get(name)
        if after is None:
            problems.append(f"{name}: the type is gone")
        else:
            problems.extend(f"{name}: {problem}" for problem in _compare(before, after, before, after, "", set()))
            gone = set(before.get("x-topics", ())) - set(after.get("x-topics", ()))
            if gone:
                problems.append(f"{name}: may no longer stand on {', '.join(sorted(gone))}")
    return problems


def _compare(
    before: Any, after: Any, old_root: Schema, new_root: Schema, path: str, seen: set[tuple[str, str]]
) -> Iterator[str]:
    """Problems below one place of two schemas."""
    if not isinstance(before, dict) or not isinstance(after, dict):
        if before != after:
            yield f"{path or 'the value'} was {before!r} and is {after!r}"
        return
    names = (before.get("$ref", ""), after.get("$ref", ""))
    if names != ("", ""):
        if names in seen:
            return
        seen.add(names)
        before, after = _resolve(before, old_root), _resolve(after, new_root)
    for word in _TYPE_WORDS:
        if word != "$ref" and before.get(word) != after.get(word):
            yield f"{path or 'the value'}: {word} was {before.get(word)!r} and is {after.get(word)!r}"
    old_fields, new_fields = before.get("properties", {}), after.get("properties", {})
    for field, old_schema in old_fields.items():
        place = f"{path}.{field}" if path else field
        if field not in new_fields:
            yield f"{place} is gone"
        else:
            yield from _compare(old_schema, new_fields[field], old_root, new_root, place, seen)
    for field in sorted(set(after.get("required", ())) ^ set(before.get("required", ()))):
        place = f"{path}.{field}" if path else field
        if field in new_fields:
            said = "required" if field in after.get("required", ()) else "optional"
            yield f"{place} has become {said}"
    for word in ("items", "additionalProperties"):
        if word in before or word in after:
            yield from _compare(before.get(word), after.get(word), old_root, new_root, f"{path}[]", seen)
    for word in ("anyOf", "oneOf", "prefixItems"):
        old_choices, new_choices = before.get(word, []), after.get(word, [])
        if len(old_choices) != len(new_choices):
            yield f"{path or 'the value'}: {word} had {len(old_choices)} choices and has {len(new_choices)}"
        for number, (old_choice, new_choice) in enumerate(zip(old_choices, new_choices, strict=False)):
            yield from _compare(old_choice, new_choice, old_root, new_root, f"{path}|{number}", seen)


def _resolve(schema: Schema, root: Schema) -> Schema:
    reference = schema.get("$ref")
    if reference is None:
        return schema
    found: Schema = root.get("$defs", {})[reference.rpartition("/")[2]]
    return found


def write(folder: Path = FOLDER) -> list[str]:
    """Publish the schemas of now; gives the problems, and writes nothing when there are any."""
    new = schemas()
    problems = incompatible(published(folder), new)
    if not problems:
        folder.mkdir(parents=True, exist_ok=True)
        for name, schema in new.items():
            (folder / f"{name}.json").write_text(text_of(schema))
    return problems


def main(arguments: list[str]) -> int:
    """See the head of the file."""
    if arguments not in (["--write"], ["--check"]):
        print("usage: python -m streams.schemas --write | --check", file=sys.stderr)
        return 2
    if arguments == ["--write"]:
        problems = write()
    else:
        old, new = published(), schemas()
        problems = incompatible(old, new)
        if not problems:
            problems = [f"{name}: not published as it is" for name in new if old.get(name) != new[name]]
    for problem in problems:
        print(problem, file=sys.stderr)
    if problems:
        print(HINT if arguments == ["--write"] else "python -m streams.schemas --write publishes it", file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
