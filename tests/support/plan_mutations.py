"""Plans as models write them, whole and broken, from a seed: what was written and which calls were meant.

A kind of break says how it was chosen: `held_out` kinds were written down without looking at the parser's repair
rules; the others are the breaks that those rules were written for. Each break leaves one reading of what was meant.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Kind:
    """One way in which models break a plan. `write` gives the text and the calls that are meant."""

    name: str
    dialect: str
    held_out: bool
    write: Callable[[random.Random], tuple[str, Plan]]


KINDS: list[Kind] = []
# Breaks that no honest rule mends, each with the reason.
NOT_MENDED = {
    ("json_list", "inner_quotes"): "the string was already told as closed at the first quote",
    ("yaml_plan", "commas_at_line_ends"): "valid YAML: text may end with a comma",
    ("yaml_plan", "curly_quotes"): "valid YAML: text may stand in typographic quotes",
    ("yaml_plan", "numbered"): "valid YAML: `1. name` is a key",
}
Write = Callable[[random.Random], tuple[str, Plan]]


def kind(dialect: str, *, held_out: bool = False) -> Callable[[Write], Write]:
    def add(write: Write) -> Write:
        KINDS.append(Kind(write.__name__.removeprefix("json_").removeprefix("yaml_"), dialect, held_out, write))
        return write

    return add


def changed(make: Callable[[random.Random], Plan], change: Callable[[str, random.Random], str]) -> Write:
    """A break of the JSON text of a plan."""

    def write(seeded: random.Random) -> tuple[str, Plan]:
        calls = make(seeded)
        return change(as_json(calls, seeded, indent=seeded.choice([None, 2])), seeded), calls

    return write


def outside(source: str, pattern: str, replace: Callable[[re.Match[str]], str]) -> str:
    """Replaces outside of JSON strings only."""
    parts = re.split(r'("(?:[^"\\]|\\.)*")', source)
    return "".join(part if number % 2 else re.sub(pattern, replace, part) for number, part in enumerate(parts))


def once(source: str, pattern: str, replace: str, seeded: random.Random) -> str:
    """Replaces one match, anywhere."""
    found = list(re.finditer(pattern, source))
    if not found:
        return source
    match = seeded.choice(found)
    return source[: match.start()] + match.expand(replace) + source[match.end() :]


_JSON: dict[str, tuple[bool, Callable[[random.Random], Plan], Callable[[str, random.Random], str]]] = {
    "trailing_commas": (
        False,
        plan,
        lambda s, r: outside(s, r"(\s*[}\]])", lambda m: "," + m[1]).replace("{,", "{").replace("[,", "["),
    ),
    "missing_comma": (
        False,
        simple,
        lambda s, r: once(s, r'", *\n? *"(?=(?:city|unit|location|subject|body|to|title)")', '" "', r),
    ),
    "single_quotes": (False, simple, lambda s, r: s.replace('"', "'")),
    "unquoted_keys": (False, plan, lambda s, r: re.sub(r'(?<=[{,\n ])"(\w+)":', r"\1:", s)),
    "python_literals": (False, plan, lambda s, r: outside(s, r"true|false", lambda m: m[0].capitalize())),
    "fenced": (False, plan, lambda s, r: f"```json\n{s}\n```"),
    "words_around": (False, plan, lambda s, r: f"Here is the plan.\n{s}\nI will report back."),
    "missing_end": (False, simple, lambda s, r: s.rstrip("]} \n")),
    "missing_end_and_quote": (False, simple, lambda s, r: s.rstrip("]} \n").removesuffix('"')),
    "raw_line_ends": (False, plan, lambda s, r: s.replace("\\n", "\n")),
    "invalid_escapes": (
        False,
        lambda r: [("send_mail", {"subject": "it's " + text_of(r)})],
        lambda s, r: s.replace("'", "\\'"),
    ),
    "comments": (
        False,
        plan,
        lambda s, r: outside(s, r"(?<=\[)", lambda m: "\n// the steps\n") if s.startswith("[{") else s,
    ),
    "skill_slip": (
        False,
        simple,
        lambda s, r: (
            s.replace("search_people", "searchPeople")
            .replace("send_mail", "send-mail")
            .replace('"weather"', '"wether"')
        ),
    ),
    "parameter_slip": (
        False,
        simple,
        lambda s, r: s.replace('"location"', '"Location"').replace('"subject"', '"subjct"').replace('"city"', '"City"'),
    ),
    "wrong_bracket": (False, simple, lambda s, r: s),
    "no_list": (False, simple, lambda s, r: s),
    "byte_order_mark": (True, plan, lambda s, r: "\ufeff" + s),
    "curly_quotes": (True, simple, lambda s, r: re.sub(r'"([^"]*)"', "“\\1”", s)),
    "no_opening_bracket": (True, plan, lambda s, r: s.lstrip("[").lstrip()),
    "calls_on_lines": (
        True,
        plan,
        lambda s, r: "\n".join(json.dumps(item, ensure_ascii=False) for item in json.loads(s)),
    ),
    "extra_closing": (True, plan, lambda s, r: s + "}]"),
    "double_comma": (True, plan, lambda s, r: outside(s, ",", lambda m: ",,")),
    "equals_for_colon": (True, plan, lambda s, r: outside(s, ": ", lambda m: " = ")),
    "inner_quotes": (True, simple, lambda s, r: once(s, r"(?<= )([a-z]+)(?=\")", r'"\1"', r)),
    "tagged": (True, plan, lambda s, r: f"<tool_call>\n{s}\n</tool_call>"),
}
del _JSON["wrong_bracket"], _JSON["no_list"]
for _name, (_held_out, _make, _change) in _JSON.items():
    KINDS.append(Kind(_name, "json_list", _held_out, changed(_make, _change)))


@kind("json_list")
def json_arguments_as_string(seeded: random.Random) -> tuple[str, Plan]:
    calls = plan(seeded)
    return json.dumps([{"name": name, "arguments": json.dumps(arguments)} for name, arguments in calls]), calls


@kind("json_list")
def json_wrapped_in_functions(seeded: random.Random) -> tuple[str, Plan]:
    calls = plan(seeded)
    found = [{"type": "function", "function": {"name": name, "arguments": arguments}} for name, arguments in calls]
    return json.dumps({"tool_calls": found}), calls


@kind("json_list")
def json_other_keys(seeded: random.Random) -> tuple[str, Plan]:
    calls = plan(seeded)
    return json.dumps([{"tool": name, "args": arguments} for name, arguments in calls], ensure_ascii=False), calls


@kind("json_list", held_out=True)
def json_arguments_beside_the_name(seeded: random.Random) -> tuple[str, Plan]:
    calls = [call for call in plan(seeded) if call[1]] or simple(seeded)
    return json.dumps([{"name": name, **arguments} for name, arguments in calls]), calls


@kind("json_list", held_out=True)
def json_skill_as_key(seeded: random.Random) -> tuple[str, Plan]:
    calls = plan(seeded)
    return json.dumps([{name: arguments} for name, arguments in calls]), calls


def yaml_of(make: Callable[[random.Random], Plan], change: Callable[[str, random.Random], str]) -> Write:
    """A break of the lines of a plan."""

    def write(seeded: random.Random) -> tuple[str, Plan]:
        calls = make(seeded)
        return change("\n".join(by_hand(calls)) + "\n", seeded), calls

    return write


_KEY = r"(?m)^( {4})(\w+): "
_YAML: dict[str, tuple[bool, Callable[[random.Random], Plan], Callable[[str, random.Random], str]]] = {
    "tabs": (False, simple, lambda s, r: re.sub(r"(?m)^ {4}", "\t\t", s)),
    "no_space_behind_colons": (False, simple, lambda s, r: re.sub(_KEY, r"\1\2:", s)),
    "arguments_not_indented": (False, simple, lambda s, r: re.sub(r"(?m)^    ", "  ", s)),
    "a_key_too_far_in": (False, simple, lambda s, r: once(s, _KEY, r"\1 \2: ", r)),
    "a_key_not_far_enough": (False, simple, lambda s, r: re.sub(r"(?m)^( {4})(\w+: [^\n]*\n)(?! {4})", r"   \2", s)),
    "missing_quote": (
        False,
        simple,
        lambda s, r: once(s, r"(?m)^( {4}\w+): (?!true|false)([^\W\d_][^\n]*)$", r'\1: "\2', r),
    ),
    "unindented_text": (
        False,
        lambda r: [("send_mail", {"to": "Anna", "body": "Dear Anna,\nall is well\nbye"}), *simple(r)],
        lambda s, r: s.replace("      Dear", "Dear").replace("      all", "all").replace("      bye", "bye"),
    ),
    "colon_in_text": (
        False,
        lambda r: [("send_mail", {"subject": "Note: " + text_of(r), "to": "Anna"})],
        lambda s, r: s.replace('"', ""),
    ),
    "reserved_start": (
        False,
        lambda r: [("send_mail", {"to": "@anna", "subject": "*.py " + text_of(r), "body": "%d " + text_of(r)})],
        lambda s, r: s.replace('"', ""),
    ),
    "quotes_in_quotes": (
        False,
        lambda r: [("send_mail", {"subject": 'the "big" plan of ' + text_of(r)})],
        lambda s, r: s.replace('\\"', '"'),
    ),
    "apostrophe": (
        False,
        lambda r: [("send_mail", {"subject": "it's Anna's " + text_of(r), "to": "x"})],
        lambda s, r: re.sub(r'"([^"\n]*)"', r"'\1'", s),
    ),
    "fence_without_language": (False, plan, lambda s, r: f"```\n{s}```"),
    "fence_not_closed": (False, plan, lambda s, r: f"The plan:\n```yaml\n{s}"),
    "missing_dashes": (False, simple, lambda s, r: re.sub(r"(?m)^(?:- |  )", "", s)),
    "missing_end_quote": (False, simple, lambda s, r: re.sub(r"(?m)^( {4}\w+): ([^\W\d_][^\n]*)\n\Z", r'\1: "\2', s)),
    "switch_words": (False, simple, lambda s, r: s.replace(": true", ": yes").replace(": false", ": no")),
    "windows_line_ends": (True, plan, lambda s, r: s.replace("\n", "\r\n")),
    "trailing_space": (True, simple, lambda s, r: s.replace("\n", "   \n")),
    "commas_at_line_ends": (True, simple, lambda s, r: re.sub(r"(?m)^( {4}\w+: [^\n]*)$", r"\1,", s)),
    "stars_for_dashes": (True, simple, lambda s, r: s.replace("- name", "* name")),
    "numbered": (True, simple, lambda s, r: s.replace("- name", "1. name").replace("\n  ", "\n   ")),
    "equals_for_colon": (True, simple, lambda s, r: re.sub(_KEY, r"\1\2 = ", s)),
    "words_before": (True, plan, lambda s, r: "I will take these steps:\n\n" + s),
    "capital_keys": (True, simple, lambda s, r: s.replace("name:", "Name:").replace("arguments:", "Arguments:")),
    "curly_quotes": (True, simple, lambda s, r: re.sub(r"(?m)^( {4}\w+): ([^\W\d_][^\n]*)$", "\\1: “\\2”", s)),
    "byte_order_mark": (True, plan, lambda s, r: "\ufeff" + s),
}


def text_of(seeded: random.Random) -> str:
    return " ".join(seeded.sample(WORDS, 2))


for _name, (_held_out, _make, _change) in _YAML.items():
    KINDS.append(Kind(_name, "yaml_plan", _held_out, yaml_of(_make, _change)))


@kind("yaml_plan")
def yaml_arguments_as_list(seeded: random.Random) -> tuple[str, Plan]:
    calls = simple(seeded)
    return re.sub(r"(?m)^    (\w)", r"    - \1", "\n".join(by_hand(calls))) + "\n", calls


@kind("yaml_plan")
def yaml_arguments_as_string(seeded: random.Random) -> tuple[str, Plan]:
    calls = simple(seeded)
    return "".join(f"- name: {name}\n  arguments: '{json.dumps(found)}'\n" for name, found in calls), calls


@kind("yaml_plan")
def yaml_skill_as_key(seeded: random.Random) -> tuple[str, Plan]:
    calls = simple(seeded)
    source = "\n".join(by_hand(calls)) + "\n"
    return re.sub(r"(?m)^- name: (\w+)\n  arguments:", r"- \1:", source), calls


@kind("yaml_plan")
def yaml_skill_slip(seeded: random.Random) -> tuple[str, Plan]:
    calls = simple(seeded)
    source = "\n".join(by_hand(calls)) + "\n"
    return source.replace("search_people", "searchPeople").replace("send_mail", "Send Mail"), calls


@kind("yaml_plan", held_out=True)
def yaml_json_arguments(seeded: random.Random) -> tuple[str, Plan]:
    calls = plan(seeded)
    return "".join(f"- name: {name}\n  arguments: {json.dumps(found)}\n" for name, found in calls), calls


@kind("yaml_plan", held_out=True)
def yaml_arguments_beside_the_name(seeded: random.Random) -> tuple[str, Plan]:
    calls = simple(seeded)
    source = "\n".join(by_hand(calls)) + "\n"
    return source.replace("  arguments:\n", "").replace("\n    ", "\n  "), calls


@kind("yaml_plan", held_out=True)
def yaml_function_wrapper(seeded: random.Random) -> tuple[str, Plan]:
    calls = simple(seeded)
    body = "\n".join(by_hand(calls)).replace("- name", "  name").replace("\n", "\n  ")
    return re.sub(r"(?m)^ +name:", "- type: function\n  function:\n    name:", body) + "\n", calls


@dataclass(frozen=True)
class Sample:
    """One plan: how it was broken (None: not at all), what was written, and the calls that were meant."""

    kind: Kind | None
    dialect: str
    text: str
    calls: Plan


def corpus(size: int, seed: int, *, broken: float = 0.5) -> Iterator[Sample]:
    """`size` plans, half of them JSON; of each notation that share is broken, every kind as often as the others."""
    seeded = random.Random(seed)
    kinds = {name: [found for found in KINDS if found.dialect == name] for name in ("json_list", "yaml_plan")}
    for number in range(size):
        dialect = "json_list" if number % 2 else "yaml_plan"
        if seeded.random() < broken:
            found = kinds[dialect][(number // 2) % len(kinds[dialect])]
            written, calls = found.write(seeded)
            yield Sample(found, dialect, written, calls)
        else:
            calls = plan(seeded)
            write = as_json if dialect == "json_list" else as_yaml
            yield Sample(None, dialect, write(calls, seeded), calls)
