"""Plans as models write them, from a seed: what they call, and their text in JSON and YAML."""

from __future__ import annotations

import json
import random
from typing import Any

import yaml

Call = tuple[str, dict[str, Any]]
Plan = list[Call]

TYPES = {
    "search_people": {"title": "string", "location": "string", "limit": "integer", "tags": "array", "open": "boolean"},
    "send_mail": {"to": "string", "subject": "string", "body": "string", "urgent": "boolean"},
    "weather": {"city": "string", "unit": "string", "days": "integer"},
    "convert": {"amount": "number", "source": "string", "target": "string"},
    "book_room": {"room": "string", "guests": "integer", "options": "object", "note": "string"},
    "now": {},
}
SKILLS = {
    name: {"type": "object", "properties": {key: {"type": kind} for key, kind in parameters.items()}}
    for name, parameters in TYPES.items()
}
WORDS = [
    "data",
    "engineer",
    "Oslo",
    "Berlin",
    "São",
    "Paulo",
    "東京",
    "senior",
    "remote",
    "quiet",
    "sea",
    "view",
    "hotel",
    "Anna",
    "café",
    "été",
    "team",
    "plan",
]
TRICKY = (
    "it's fine",
    'the "big" one',
    "Note: urgent",
    "a, b and c",
    "50% off",
    "C# & C++",
    "see https://x.io/a?b=c#d",
    "[draft] {v2}",
    "- not an item",
    "null",
    "12",
    "true",
    "yes",
    "🙂 ok",
    "a\\b",
    "tab\there",
    "# heading",
    "@anna",
    "“draft”",
    "Dear Anna,",
    'say "hi", she',
    '5" x 7"',
    "",
)


def text(seeded: random.Random) -> str:
    if seeded.random() < 0.2:
        return seeded.choice(TRICKY)
    return " ".join(seeded.sample(WORDS, seeded.randint(1, 4)))


def value(kind: str, key: str, seeded: random.Random) -> Any:
    if kind == "integer":
        return seeded.randint(-3, 4000)
    if kind == "number":
        return seeded.choice([0.5, 12.75, 1e-07, 3, -2.25])
    if kind == "boolean":
        return seeded.random() < 0.5
    if kind == "array":
        return [text(seeded) for _ in range(seeded.randint(0, 3))]
    if kind == "object":
        return {"floor": seeded.randint(1, 9), "quiet": True, "near": [text(seeded)], "view": {"to": text(seeded)}}
    if key == "body" and seeded.random() < 0.7:
        return "\n".join(["Dear all,", "", text(seeded), "  " + text(seeded), "Bye"])
    return text(seeded)


def plan(seeded: random.Random) -> Plan:
    """One to four calls, each with some of its skill's parameters."""
    found: Plan = []
    for _ in range(seeded.choice([1, 1, 2, 2, 3, 4])):
        name = seeded.choice(list(TYPES))
        keys = [key for key in TYPES[name] if seeded.random() < 0.75]
        found.append((name, {key: value(TYPES[name][key], key, seeded) for key in keys}))
    return found


def simple(seeded: random.Random) -> Plan:
    """A plan of plain words: for breaks whose reading other text would make doubtful. Its last argument is a word."""
    found: Plan = []
    for _ in range(seeded.randint(1, 3)):
        name = seeded.choice(["search_people", "weather", "send_mail"])
        keys = [key for key, kind in TYPES[name].items() if kind in ("string", "integer", "boolean")]
        arguments = {
            key: " ".join(seeded.sample(WORDS, 2))
            if TYPES[name][key] == "string"
            else value(TYPES[name][key], "", seeded)
            for key in keys
        }
        last = next(key for key in keys if TYPES[name][key] == "string")
        arguments[last] = arguments.pop(last)
        found.append((name, arguments))
    return found


def as_json(calls: Plan, seeded: random.Random, *, indent: int | None = None) -> str:
    written = [{"name": name, "arguments": arguments} for name, arguments in calls]
    return json.dumps(written, ensure_ascii=seeded.random() < 0.2, indent=indent)


def scalar(found: Any, *, block: int | None = None) -> str:
    """As models write it: bare where that is safe, else JSON; text of several lines as a block indented so far."""
    if isinstance(found, str):
        if block is not None and "\n" in found:
            pad = " " * block
            return "|-\n" + "\n".join(pad + line if line else "" for line in found.split("\n"))
        bare = found.replace(" ", "").isalpha() and found.lower() not in (
            "null",
            "true",
            "false",
            "yes",
            "no",
            "on",
            "off",
        )
        if bare and not found.startswith(" "):
            return found
    return json.dumps(found, ensure_ascii=False)


def by_hand(calls: Plan, *, dash: int = 0, step: int = 2) -> list[str]:
    """The plan's lines."""
    lines: list[str] = []
    pad = " " * dash
    for name, arguments in calls:
        lines.append(f"{pad}- name: {name}")
        lines.append(f"{pad}  arguments:" + ("" if arguments else " {}"))
        inner = pad + "  " + " " * step
        for key, found in arguments.items():
            lines.extend(f"{inner}{key}: {scalar(found, block=len(inner) + 2)}".split("\n"))
    return lines


def as_yaml(calls: Plan, seeded: random.Random) -> str:
    style = seeded.randrange(3)
    if style == 0:
        written = [{"name": name, "arguments": arguments} for name, arguments in calls]
        return yaml.safe_dump(written, sort_keys=False, allow_unicode=True)
    lines = by_hand(calls, step=seeded.choice([2, 4])) if style == 1 else ["calls:", *by_hand(calls, dash=2)]
    return "\n".join(lines) + "\n"


def text_of(seeded: random.Random) -> str:
    return " ".join(seeded.sample(WORDS, 2))
