"""Breaks that were written down without a look at the repair rules, and before them."""

from __future__ import annotations

import json
import random
import re

from tests.support.plan_kinds import Kinds, outside
from tests.support.plan_writing import Plan, as_json, by_hand, plan, simple

KINDS = Kinds(held_out=True)
_KEY = r"(?m)^( {4})(\w+): "

KINDS.json(
    {
        "byte_order_mark": (plan, lambda s, r: "\ufeff" + s),
        "curly_quotes": (simple, lambda s, r: re.sub(r'"([^"]*)"', "“\\1”", s)),
        "no_opening_bracket": (plan, lambda s, r: s.lstrip("[").lstrip()),
        "calls_on_lines": (
            plan,
            lambda s, r: "\n".join(json.dumps(item, ensure_ascii=False) for item in json.loads(s)),
        ),
        "extra_closing": (plan, lambda s, r: s + "}]"),
        "double_comma": (plan, lambda s, r: outside(s, ",", lambda m: ",,")),
        "equals_for_colon": (plan, lambda s, r: outside(s, ": ", lambda m: " = ")),
        "tagged": (plan, lambda s, r: f"<tool_call>\n{s}\n</tool_call>"),
    }
)
KINDS.yaml(
    {
        "windows_line_ends": (plan, lambda s, r: s.replace("\n", "\r\n")),
        "trailing_space": (simple, lambda s, r: s.replace("\n", "   \n")),
        "commas_at_line_ends": (simple, lambda s, r: re.sub(r"(?m)^( {4}\w+: [^\n]*)$", r"\1,", s)),
        "stars_for_dashes": (simple, lambda s, r: s.replace("- name", "* name")),
        "numbered": (simple, lambda s, r: s.replace("- name", "1. name").replace("\n  ", "\n   ")),
        "equals_for_colon": (simple, lambda s, r: re.sub(_KEY, r"\1\2 = ", s)),
        "words_before": (plan, lambda s, r: "I will take these steps:\n\n" + s),
        "capital_keys": (simple, lambda s, r: s.replace("name:", "Name:").replace("arguments:", "Arguments:")),
        "curly_quotes": (simple, lambda s, r: re.sub(r"(?m)^( {4}\w+): ([^\W\d_][^\n]*)$", "\\1: “\\2”", s)),
        "byte_order_mark": (plan, lambda s, r: "\ufeff" + s),
    }
)


@KINDS.kind("json_list")
def json_arguments_beside_the_name(seeded: random.Random) -> tuple[str, Plan]:
    calls = [call for call in plan(seeded) if call[1]] or simple(seeded)
    return json.dumps([{"name": name, **arguments} for name, arguments in calls]), calls


@KINDS.kind("json_list")
def json_skill_as_key(seeded: random.Random) -> tuple[str, Plan]:
    calls = plan(seeded)
    return json.dumps([{name: arguments} for name, arguments in calls]), calls


@KINDS.kind("yaml_plan")
def yaml_json_arguments(seeded: random.Random) -> tuple[str, Plan]:
    calls = plan(seeded)
    return "".join(f"- name: {name}\n  arguments: {json.dumps(found)}\n" for name, found in calls), calls


@KINDS.kind("yaml_plan")
def yaml_arguments_beside_the_name(seeded: random.Random) -> tuple[str, Plan]:
    calls = simple(seeded)
    source = "\n".join(by_hand(calls)) + "\n"
    return source.replace("  arguments:\n", "").replace("\n    ", "\n  "), calls


@KINDS.kind("yaml_plan")
def yaml_function_wrapper(seeded: random.Random) -> tuple[str, Plan]:
    calls = simple(seeded)
    body = "\n".join(by_hand(calls)).replace("- name", "  name").replace("\n", "\n  ")
    return re.sub(r"(?m)^ +name:", "- type: function\n  function:\n    name:", body) + "\n", calls


@KINDS.kind("json_list")
def json_inner_quotes(seeded: random.Random) -> tuple[str, Plan]:
    calls = simple(seeded)
    _, arguments = seeded.choice(calls)
    key = seeded.choice([key for key, found in arguments.items() if isinstance(found, str)])
    first, last = arguments[key].split(" ")
    arguments[key] = f'{first} "{last}"'
    return as_json(calls, seeded, indent=seeded.choice([None, 2])).replace('\\"', '"'), calls
