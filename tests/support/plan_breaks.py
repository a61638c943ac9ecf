"""The breaks that the repair rules were written for."""

from __future__ import annotations

import json
import random
import re

from tests.support.plan_kinds import Kinds, once, outside
from tests.support.plan_writing import Plan, as_json, by_hand, plan, simple, text_of

KINDS = Kinds(held_out=False)
_KEY = r"(?m)^( {4})(\w+): "

KINDS.json(
    {
        "trailing_commas": (
            plan,
            lambda s, r: outside(s, r"(\s*[}\]])", lambda m: "," + m[1]).replace("{,", "{").replace("[,", "["),
        ),
        "missing_comma": (
            simple,
            lambda s, r: once(s, r'", *\n? *"(?=(?:city|unit|location|subject|body|to|title)")', '" "', r),
        ),
        "single_quotes": (simple, lambda s, r: s.replace('"', "'")),
        "unquoted_keys": (plan, lambda s, r: re.sub(r'(?<=[{,\n ])"(\w+)":', r"\1:", s)),
        "python_literals": (plan, lambda s, r: outside(s, r"true|false", lambda m: m[0].capitalize())),
        "fenced": (plan, lambda s, r: f"```json\n{s}\n```"),
        "words_around": (plan, lambda s, r: f"Here is the plan.\n{s}\nI will report back."),
        "missing_end": (simple, lambda s, r: s.rstrip("]} \n")),
        "missing_end_and_quote": (simple, lambda s, r: s.rstrip("]} \n").removesuffix('"')),
        "raw_line_ends": (plan, lambda s, r: s.replace("\\n", "\n")),
        "invalid_escapes": (
            lambda r: [("send_mail", {"subject": "it's " + text_of(r)})],
            lambda s, r: s.replace("'", "\\'"),
        ),
        "comments": (
            plan,
            lambda s, r: outside(s, r"(?<=\[)", lambda m: "\n// the steps\n") if s.startswith("[{") else s,
        ),
        "skill_slip": (
            simple,
            lambda s, r: (
                s.replace("search_people", "searchPeople")
                .replace("send_mail", "send-mail")
                .replace('"weather"', '"wether"')
            ),
        ),
        "parameter_slip": (
            simple,
            lambda s, r: (
                s.replace('"location"', '"Location"').replace('"subject"', '"subjct"').replace('"city"', '"City"')
            ),
        ),
    }
)
KINDS.yaml(
    {
        "tabs": (simple, lambda s, r: re.sub(r"(?m)^ {4}", "\t\t", s)),
        "no_space_behind_colons": (simple, lambda s, r: re.sub(_KEY, r"\1\2:", s)),
        "arguments_not_indented": (simple, lambda s, r: re.sub(r"(?m)^    ", "  ", s)),
        "a_key_too_far_in": (simple, lambda s, r: once(s, _KEY, r"\1 \2: ", r)),
        "a_key_not_far_enough": (simple, lambda s, r: re.sub(r"(?m)^( {4})(\w+: [^\n]*\n)(?! {4})", r"   \2", s)),
        "missing_quote": (
            simple,
            lambda s, r: once(s, r"(?m)^( {4}\w+): (?!true|false)([^\W\d_][^\n]*)$", r'\1: "\2', r),
        ),
        "unindented_text": (
            lambda r: [("send_mail", {"to": "Anna", "body": "Dear Anna,\nall is well\nbye"}), *simple(r)],
            lambda s, r: s.replace("      Dear", "Dear").replace("      all", "all").replace("      bye", "bye"),
        ),
        "colon_in_text": (
            lambda r: [("send_mail", {"subject": "Note: " + text_of(r), "to": "Anna"})],
            lambda s, r: s.replace('"', ""),
        ),
        "reserved_start": (
            lambda r: [("send_mail", {"to": "@anna", "subject": "*.py " + text_of(r), "body": "%d " + text_of(r)})],
            lambda s, r: s.replace('"', ""),
        ),
        "quotes_in_quotes": (
            lambda r: [("send_mail", {"subject": 'the "big" plan of ' + text_of(r)})],
            lambda s, r: s.replace('\\"', '"'),
        ),
        "apostrophe": (
            lambda r: [("send_mail", {"subject": "it's Anna's " + text_of(r), "to": "x"})],
            lambda s, r: re.sub(r'"([^"\n]*)"', r"'\1'", s),
        ),
        "fence_without_language": (plan, lambda s, r: f"```\n{s}```"),
        "fence_not_closed": (plan, lambda s, r: f"The plan:\n```yaml\n{s}"),
        "missing_dashes": (simple, lambda s, r: re.sub(r"(?m)^(?:- |  )", "", s)),
        "missing_end_quote": (simple, lambda s, r: re.sub(r"(?m)^( {4}\w+): ([^\W\d_][^\n]*)\n\Z", r'\1: "\2', s)),
        "switch_words": (simple, lambda s, r: s.replace(": true", ": yes").replace(": false", ": no")),
    }
)


@KINDS.kind("json_list")
def json_arguments_as_string(seeded: random.Random) -> tuple[str, Plan]:
    calls = plan(seeded)
    return json.dumps([{"name": name, "arguments": json.dumps(arguments)} for name, arguments in calls]), calls


@KINDS.kind("json_list")
def json_wrapped_in_functions(seeded: random.Random) -> tuple[str, Plan]:
    calls = plan(seeded)
    found = [{"type": "function", "function": {"name": name, "arguments": arguments}} for name, arguments in calls]
    return json.dumps({"tool_calls": found}), calls


@KINDS.kind("json_list")
def json_other_keys(seeded: random.Random) -> tuple[str, Plan]:
    calls = plan(seeded)
    return json.dumps([{"tool": name, "args": arguments} for name, arguments in calls], ensure_ascii=False), calls


@KINDS.kind("yaml_plan")
def yaml_arguments_as_list(seeded: random.Random) -> tuple[str, Plan]:
    calls = simple(seeded)
    return re.sub(r"(?m)^    (\w)", r"    - \1", "\n".join(by_hand(calls))) + "\n", calls


@KINDS.kind("yaml_plan")
def yaml_arguments_as_string(seeded: random.Random) -> tuple[str, Plan]:
    calls = simple(seeded)
    return "".join(f"- name: {name}\n  arguments: '{json.dumps(found)}'\n" for name, found in calls), calls


@KINDS.kind("yaml_plan")
def yaml_skill_as_key(seeded: random.Random) -> tuple[str, Plan]:
    calls = simple(seeded)
    source = "\n".join(by_hand(calls)) + "\n"
    return re.sub(r"(?m)^- name: (\w+)\n  arguments:", r"- \1:", source), calls


@KINDS.kind("yaml_plan")
def yaml_skill_slip(seeded: random.Random) -> tuple[str, Plan]:
    calls = simple(seeded)
    source = "\n".join(by_hand(calls)) + "\n"
    return source.replace("search_people", "searchPeople").replace("send_mail", "Send Mail"), calls


@KINDS.kind("json_list")
def json_quoted_clause(seeded: random.Random) -> tuple[str, Plan]:
    said = f'she said "{text_of(seeded)}", "{text_of(seeded)}" and left'
    return unescaped([*simple(seeded), ("send_mail", {"subject": said, "to": "Anna"})], seeded)


@KINDS.kind("json_list")
def json_inches(seeded: random.Random) -> tuple[str, Plan]:
    size = f'{seeded.randint(2, 90)}" {text_of(seeded)}'
    return unescaped([("send_mail", {"to": "Anna", "subject": size}), *simple(seeded)], seeded)


@KINDS.kind("json_list")
def json_quotes_in_lists(seeded: random.Random) -> tuple[str, Plan]:
    tags = [f'the "{text_of(seeded)}" one', f'{seeded.randint(2, 90)}" wide', text_of(seeded)]
    seeded.shuffle(tags)
    return unescaped([("search_people", {"tags": tags, "limit": 3}), *simple(seeded)], seeded)


@KINDS.kind("json_list")
def json_arguments_in_bare_quotes(seeded: random.Random) -> tuple[str, Plan]:
    calls = plan(seeded)
    items = (f'{{"name": "{name}", "arguments": "{json.dumps(found)}"}}' for name, found in calls)
    return f"[{', '.join(items)}]", calls


@KINDS.kind("yaml_plan")
def yaml_commas_behind_quotes(seeded: random.Random) -> tuple[str, Plan]:
    calls = simple(seeded)
    lines = "\n".join(by_hand(calls)) + "\n"
    quoted = re.sub(r"(?m)^( {4}\w+): ((?!true|false)[^\W\d_][^\n]*)$", r'\1: "\2"', lines)
    return re.sub(r"(?m)^( {4}\w+: [^\n]*)$", r"\1,", quoted), calls


@KINDS.kind("yaml_plan")
def yaml_numbers_in_brackets(seeded: random.Random) -> tuple[str, Plan]:
    calls = [call for number in range(seeded.choice([1, 3, 11])) for call in simple(seeded)[: 1 + number % 2]]
    items = ["\n".join(by_hand([call])) for call in calls]
    numbered = (f"{number}) " + item[2:].replace("\n", "\n ") for number, item in enumerate(items, 1))
    return "steps:\n" + "\n".join(numbered) + "\n", calls


def unescaped(calls: Plan, seeded: random.Random) -> tuple[str, Plan]:
    """The plan in JSON whose quotes inside of text are not escaped."""
    return as_json(calls, seeded, indent=seeded.choice([None, 2])).replace('\\"', '"'), calls
