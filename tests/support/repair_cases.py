"""Broken plans, each with the rule that mends it and what is meant: the named cases of every repair rule."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

from workers.toolcalls import Parser, merge
from workers.toolcalls.facts import Fact
from workers.toolcalls.parser import Mode

SKILLS = {
    "search_people": {
        "properties": {
            "title": {"type": "string"},
            "location": {},
            "limit": {"type": "integer"},
            "open": {"type": "boolean"},
        }
    },
    "send_mail": {"properties": {"to": {"type": "string"}, "body": {"type": "string"}}},
}


@dataclass(frozen=True)
class Case:
    """`arguments` are those of the one call to `search_people`, or of several calls to it. Strict mode refuses the
    text, unless the format allows it as it stands (`allowed`); what is published for the format may mend it in both
    modes (`both`).
    """

    rule: str
    text: str
    arguments: dict[str, Any] | list[dict[str, Any]]
    dialect: str = "json_list"
    allowed: bool = False
    both: bool = False

    @property
    def calls(self) -> list[tuple[str, dict[str, Any]]]:
        meant = self.arguments if isinstance(self.arguments, list) else [self.arguments]
        return [("search_people", arguments) for arguments in meant]


def read(
    text: str, dialect: str = "json_list", *, reason: str = "stop", seed: int | None = None, mode: Mode = "repair"
) -> list[Fact]:
    """All facts of the text, whole or (with a seed) in random chunks."""
    parser = Parser(dialect, skills=SKILLS, mode=mode)
    facts: list[Fact] = []
    seeded, rest = random.Random(seed), text
    while rest:
        size = len(rest) if seed is None else seeded.randint(1, 5)
        facts += parser.feed(rest[:size])
        rest = rest[size:]
    return merge(facts + parser.finish(reason))


def plan(arguments: str, name: str = '"search_people"') -> str:
    return f'[{{"name": {name}, "arguments": {arguments}}}]'


def yaml(*arguments: str) -> str:
    """A plan of one call with these lines of arguments."""
    return "- name: search_people\n  arguments:\n" + "".join(f"    {line}\n" for line in arguments)


JSON_CASES = [
    Case("trailing_comma", plan('{"title": "x",}'), {"title": "x"}),
    Case("trailing_comma", plan('{"location": ["x", "y",]}'), {"location": ["x", "y"]}),
    Case("trailing_comma", '[{"name": "search_people", "arguments": {}},]', {}),
    Case("missing_comma", plan('{"title": "x" "limit": 3}'), {"title": "x", "limit": 3}),
    Case("missing_comma", plan('{"title": "x""limit": 3}'), {"title": "x", "limit": 3}),
    Case("missing_comma", plan('{"location": ["x" "y"]}'), {"location": ["x", "y"]}),
    Case("extra_comma", plan('{"title": "x",, "limit": 3}'), {"title": "x", "limit": 3}),
    Case("extra_comma", plan('{"location": [1,, 2]}'), {"location": [1, 2]}),
    Case("wrong_bracket", plan('{"location": ["x"}, "limit": 2}'), {"location": ["x"], "limit": 2}),
    Case("equals_sign", plan('{"title" = "x", limit = 3}'), {"title": "x", "limit": 3}),
    Case(
        "single_quotes",
        "[{'name': 'search_people', 'arguments': {'title': 'it\\'s a dev\\'s job'}}]",
        {"title": "it's a dev's job"},
    ),
    Case("single_quotes", plan("{'title': 'the dev's job'}"), {"title": "the dev's job"}),
    Case("single_quotes", plan("{\"location\": ['a', {'b': 'c'}]}"), {"location": ["a", {"b": "c"}]}),
    Case(
        "curly_quotes", plan("{“title”: “a \\“b\\”, “limit”: 3}".replace("\\“b\\”", "b”")), {"title": "a b", "limit": 3}
    ),
    Case("curly_quotes", plan('{"location": [“x”, “y”]}'), {"location": ["x", "y"]}),
    Case("unquoted_key", plan('{title: "x", limit: 3}'), {"title": "x", "limit": 3}),
    Case("unquoted_value", plan('{"title": data engineer, "limit": 3}'), {"title": "data engineer", "limit": 3}),
    Case("python_literal", plan('{"title": None, "limit": True}'), {"title": None, "limit": True}),
    Case("python_literal", plan('{"location": [True, None]}'), {"location": [True, None]}),
    Case("not_a_number", plan('{"limit": NaN, "title": -Infinity}'), {"limit": None, "title": None}),
    Case("control_character", plan('{"title": "two\nlines"}'), {"title": "two\nlines"}),
    Case("invalid_escape", plan('{"title": "C:\\dir \\\'x\\\'"}'), {"title": "C:\\dir 'x'"}),
    Case("lone_surrogate", plan('{"title": "\\ud83d!"}'), {"title": "\ufffd!"}, allowed=True),
    Case("duplicate_key", plan('{"limit": 1, "limit": 2}'), {"limit": 2}, allowed=True),
    Case("comment", plan('{"location": [1, /* two */ 3] }'), {"location": [1, 3]}),
    Case("comment", '[// one\n{"name": "search_people", "arguments": {}}]', {}),
    Case("parameter_name", plan('{"Title": "x", "locaton": "y"}'), {"title": "x", "location": "y"}, allowed=True),
    Case("skill_name", plan('{"title": "x"}', '"search-people"'), {"title": "x"}, allowed=True),
    Case("skill_name", plan('{"title": "x"}', '"searchPeople"'), {"title": "x"}, allowed=True),
    Case("arguments_as_string", plan('"{\\"title\\": \\"x\\", \\"limit\\": 2}"'), {"title": "x", "limit": 2}),
    Case("arguments_as_string", plan('"{"title": "x", "limit": 2}"'), {"title": "x", "limit": 2}),
    Case("no_arguments", '[{"name": "search_people"}]', {}),
    Case("no_arguments", plan("null"), {}),
    Case("arguments_beside_name", '[{"name": "search_people", "title": "x", "limit": 3}]', {"title": "x", "limit": 3}),
    Case("name_as_key", '[{"search_people": {"title": "x"}}]', {"title": "x"}),
    Case(
        "missing_list",
        '{"name": "search_people", "arguments": {}}\n{"name": "search_people", "arguments": {"limit": 2}}',
        [{}, {"limit": 2}],
    ),
    Case("byte_order_mark", "\ufeff" + plan("{}"), {}),
    Case("fenced_block", "```json\n" + plan('{"title": "x"}') + "\n```", {"title": "x"}),
    Case("fenced_block", "Here is the plan:\n```\n" + plan('{"title": "x"}') + "\n```\n", {"title": "x"}),
    Case("missing_close", plan('{"title": "x", "limit": 12}')[:-3], {"title": "x", "limit": 12}),
    Case("missing_close", plan('{"title": "half a wor')[:-2], {"title": "half a wor"}),
    Case(
        "missing_close",
        plan('{"title": "x", "location": {"a": [1, {"b": "c')[:-2],
        {"title": "x", "location": {"a": [1, {"b": "c"}]}},
    ),
    Case("missing_close", plan('{"title": "x", "lim')[:-2], {"title": "x"}),
    Case("missing_close", plan('{"title": "x", "limit":')[:-2], {"title": "x"}),
    Case("missing_close", plan('{"title": "x", ')[:-2], {"title": "x"}),
]

QUOTE_CASES = [
    Case("inner_quotes", plan('{"title": "the "big" one", "limit": 3}'), {"title": 'the "big" one', "limit": 3}),
    Case("inner_quotes", plan('{"title": "data "engineer"", "limit": 3}'), {"title": 'data "engineer"', "limit": 3}),
    Case("inner_quotes", plan('{"limit": 3, "title": "data "engineer""}'), {"limit": 3, "title": 'data "engineer"'}),
    Case("inner_quotes", plan('{"title": "the "big" one"\n}'), {"title": 'the "big" one'}),
    Case("inner_quotes", plan('{"title": ""big" one"}'), {"title": '"big" one'}),
    Case("inner_quotes", plan('{"title": "5" wide", "limit": 3}'), {"title": '5" wide', "limit": 3}),
    Case("inner_quotes", plan('{"title": "5"", "limit": 3}'), {"title": '5"', "limit": 3}),
    Case("inner_quotes", plan('{"title": "he said "yes", then left"}'), {"title": 'he said "yes", then left'}),
    Case("inner_quotes", plan('{"title": "a \\"b\\" and "c" é"}'), {"title": 'a "b" and "c" é'}),
    Case("inner_quotes", plan('{"location": ["the "big" one", "x"]}'), {"location": ['the "big" one', "x"]}),
    Case("inner_quotes", plan('{"location": ["x", "say "hi", she", "y"]}'), {"location": ["x", 'say "hi", she', "y"]}),
    Case(
        "inner_quotes",
        plan('{"location": ["5" wide", "the "big" one"], "limit": 3}'),
        {"location": ['5" wide', 'the "big" one'], "limit": 3},
    ),
    Case(
        "inner_quotes",
        plan('{"location": {"near": "the "big" one", "far": "y"}}'),
        {"location": {"near": 'the "big" one', "far": "y"}},
    ),
]

MARKER_CASES = [
    Case(
        "list_in_call",
        '<tool_call>[{"name": "search_people", "arguments": {"limit": 1}}, '
        '{"name": "search_people", "arguments": {"limit": 2}}]</tool_call>',
        [{"limit": 1}, {"limit": 2}],
        "hermes",
    ),
    Case(
        "missing_end_marker",
        '<tool_call>{"name": "search_people", "arguments": {}}\n'
        '<tool_call>{"name": "search_people", "arguments": {"limit": 2}}</tool_call>',
        [{}, {"limit": 2}],
        "hermes",
        allowed=True,
    ),
    Case(
        "missing_end_marker",
        "<tool_call>search_people<arg_key>title</arg_key><arg_value>x</tool_call>",
        {"title": "x"},
        "glm",
        both=True,
    ),
    Case(
        "value_type",
        "<tool_call>\n<function=search_people>\n<parameter=limit>\nmany\n</parameter>\n</function>\n</tool_call>",
        {"limit": "many"},
        "qwen3_xml",
        both=True,
    ),
    Case(
        "python_literal",
        "<tool_call>\n<function=search_people>\n<parameter=open>\nTrue\n</parameter>\n</function>\n</tool_call>",
        {"open": True},
        "qwen3_xml",
        both=True,
    ),
    Case("json_literal", "[search_people(open=true, location=null)]", {"open": True, "location": None}, "llama"),
]


def y(rule: str, text: str, arguments: dict[str, Any] | list[dict[str, Any]], *, allowed: bool = False) -> Case:
    return Case(rule, text, arguments, "yaml_plan", allowed=allowed)


YAML_CASES = [
    y("indentation", yaml("title: x", " limit: 3"), {"title": "x", "limit": 3}),
    y("indentation", yaml("location:", "  - x", " - y"), {"location": ["x", "y"]}),
    y("tab_indentation", yaml("title: x").replace("    ", "\t\t"), {"title": "x"}),
    y("missing_space", yaml("title:x", "limit:3"), {"title": "x", "limit": 3}),
    y("equals_sign", yaml("title = x", "limit = 3"), {"title": "x", "limit": 3}),
    y("plain_colon", yaml("title: Note: urgent"), {"title": "Note: urgent"}),
    y("reserved_character", yaml("title: @anna", "location: *.py"), {"title": "@anna", "location": "*.py"}),
    y("apostrophe", yaml("title: 'it's Anna's'"), {"title": "it's Anna's"}),
    y("inner_quotes", yaml('title: "the "big" one"'), {"title": 'the "big" one'}),
    y("text_after_quote", yaml('title: "big" data'), {"title": '"big" data'}),
    y("text_behind", yaml("location: [a, b] and more"), {"location": ["a", "b"]}),
    y("missing_quote", yaml('title: "data engineer', "limit: 3"), {"title": "data engineer", "limit": 3}),
    y(
        "unindented_text",
        "- name: search_people\n  arguments:\n    title: |\nDear all,\nbye\n    limit: 3\n",
        {"title": "Dear all,\nbye\n", "limit": 3},
    ),
    y("wrong_bracket", yaml("location: [a, b", "limit: 3"), {"location": ["a", "b"], "limit": 3}),
    y("duplicate_key", yaml("limit: 1", "limit: 2"), {"limit": 2}, allowed=True),
    y("not_a_number", yaml("limit: .nan"), {"limit": None}),
    y("python_literal", yaml("limit: None"), {"limit": None}, allowed=True),
    y("invalid_escape", yaml('title: "C:\\dir"'), {"title": "C:\\dir"}),
    y("lone_surrogate", yaml('title: "\\ud83d!"'), {"title": "\ufffd!"}),
    y("comment", yaml("title: a # b", "  c"), {"title": "a c"}),
    y("value_type", yaml("title: 12"), {"title": "12"}, allowed=True),
    y("yaml_boolean", yaml("open: yes"), {"open": True}, allowed=True),
    y("list_marker", yaml("title: x").replace("- ", "* "), {"title": "x"}),
    y(
        "numbered_list",
        "1. name: search_people\n   arguments:\n     title: x\n2. name: search_people\n",
        [{"title": "x"}, {}],
    ),
    y(
        "numbered_list",
        "calls:\n  1) name: search_people\n  2) name: search_people\n     arguments: {limit: 3}\n",
        [{}, {"limit": 3}],
    ),
    y("missing_dash", "name: search_people\narguments:\n  limit: 1\nname: search_people\n", [{"limit": 1}, {}]),
    y("key_spelling", yaml("title: x").replace("name", "Name").replace("arguments", "ARGUMENTS"), {"title": "x"}),
    y(
        "arguments_not_indented",
        "- name: search_people\n  arguments:\n  title: x\n  limit: 3\n",
        {"title": "x", "limit": 3},
    ),
    y("arguments_as_list", yaml("- title: x", "- limit: 3"), {"title": "x", "limit": 3}),
    y("arguments_as_string", '- name: search_people\n  arguments: \'{"title": "x"}\'\n', {"title": "x"}),
    y("name_as_key", "- search_people:\n    title: x\n", {"title": "x"}),
    y("no_arguments", "- name: search_people\n", {}),
    y("skill_name", yaml("title: x").replace("search_people", "Search People"), {"title": "x"}, allowed=True),
    y("parameter_name", yaml("Title: x"), {"title": "x"}, allowed=True),
    y("fenced_block", "The plan:\n```\n" + yaml("title: x") + "```\n", {"title": "x"}),
    y("byte_order_mark", "\ufeff" + yaml("title: x"), {"title": "x"}),
    y("missing_close", yaml("title: x", 'location: "half a wor')[:-1], {"title": "x", "location": "half a wor"}),
    y("line_comma", yaml("title: data engineer,", "limit: 12,"), {"title": "data engineer", "limit": 12}, allowed=True),
    y(
        "line_comma",
        yaml('title: "data",', "limit: 12,", "location: Oslo,"),
        {"title": "data", "limit": 12, "location": "Oslo"},
    ),
    y("line_comma", yaml("location: [a],", "title: x,", "open: yes"), {"location": ["a"], "title": "x", "open": True}),
    y("curly_quotes", yaml("title: “data”", "location: “Oslo”"), {"title": "data", "location": "Oslo"}, allowed=True),
    y("curly_quotes", yaml("title: “data”", "open: “true”"), {"title": "data", "open": True}, allowed=True),
    y("curly_quotes", yaml("title: “data”,", "limit: “12”,"), {"title": "data", "limit": 12}, allowed=True),
]

CASES = [*JSON_CASES, *QUOTE_CASES, *MARKER_CASES, *YAML_CASES]
