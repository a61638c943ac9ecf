"""The repair rules by name: what each mends. Every `Repaired` fact bears one of these names."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

RULES: Mapping[str, str] = MappingProxyType(
    {
        # JSON
        "trailing_comma": "a comma before a closing bracket",
        "missing_comma": "no comma between two members or elements",
        "extra_comma": "one comma too many",
        "wrong_bracket": "`]` for `}` or the other way round; in YAML a bracket that is missing",
        "equals_sign": "`=` for a colon",
        "single_quotes": "strings in single quotes",
        "curly_quotes": "strings in typographic quotes",
        "inner_quotes": "quotes in a text that are not escaped",
        "unquoted_key": "a key without quotes",
        "unquoted_value": "text without quotes",
        "python_literal": "`True`, `None`, `undefined` and the like",
        "json_literal": "`true`, `false`, `null` in a Python expression",
        "not_a_number": "`NaN` or an infinity: null",
        "control_character": "a raw line end or other control character in a string",
        "invalid_escape": "a backslash that escapes nothing",
        "lone_surrogate": "half of a surrogate pair: U+FFFD",
        "duplicate_key": "a key twice: the later value counts",
        "comment": "a comment, or text behind one",
        "missing_close": "what is open where the model stopped by itself",
        # calls and their lists
        "fenced_block": "a plan in a block without the language it needs, or in one at all",
        "byte_order_mark": "a byte order mark before the plan",
        "list_in_call": "several calls in one call's markers",
        "missing_list": "calls without a list around them",
        "missing_end_marker": "a call or value without its closing marker",
        "name_as_key": "a skill's name as the key of its arguments",
        "arguments_beside_name": "arguments beside the name instead of below their key",
        "arguments_as_string": "arguments as a JSON text in a string, escaped or not",
        "no_arguments": "no arguments, or null for them: none",
        "skill_name": "a slip in a skill's name",
        "parameter_name": "a slip in a parameter's name",
        "value_type": "a bare value of another type than its schema's: text",
        # YAML
        "indentation": "a line that does not stand below its first one",
        "tab_indentation": "tabs in the indentation",
        "missing_space": "no space behind a colon",
        "plain_colon": "a colon and a space in a text without quotes",
        "reserved_character": "a text without quotes that begins with `@`, `*`, `%` and the like",
        "apostrophe": "an apostrophe in a text in single quotes",
        "text_after_quote": "text behind a closing quote: the quotes are text",
        "text_behind": "text behind closed arguments or a closed bracket",
        "missing_quote": "a quote that is missing at its line's end",
        "unindented_text": "the text of a block that is not indented",
        "list_marker": "`*` for a dash",
        "numbered_list": "numbers for the dashes of a list of calls",
        "missing_dash": "calls that only their names tell apart",
        "key_spelling": "`Name:` or `ARGUMENTS:`",
        "arguments_not_indented": "arguments at the column of their key",
        "arguments_as_list": "arguments as a list of pairs",
        "yaml_boolean": "`yes`, `off` and the like where the schema wants a boolean",
        "line_comma": "a comma at the end of each argument's line",
    }
)
