"""Prompts as code: Jinja templates that render role-typed messages, with an id and a version.

A template is plain Jinja with one line per role: a line that is exactly `@system`, `@user` or `@assistant` opens a
message of that role, which runs to the next such line. Values are data: a rendered value that contains such a line
can not open a message, because roles are read from the template's own text, not from what it rendered to.

The version is the first 12 hex digits of the text's SHA-256, so that a changed prompt is another version by itself.
An undefined variable is found when the prompt is made (at start), not when a person is waiting.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Any, Final

from jinja2 import Environment, StrictUndefined, TemplateSyntaxError, UndefinedError, meta
from jinja2.sandbox import SandboxedEnvironment

from streams.errors import Misconfigured
from streams.events.base import PromptRef
from streams.events.generating import Message

_ROLE: Final = re.compile(r"^@(system|user|assistant)[ \t]*$", re.MULTILINE)
_MARK: Final = "\x1e"  # record separator: cannot occur in rendered values, which have it removed

_COMMON: Final = frozenset(
    {"question", "history", "summary", "recalled", "habits", "instructions", "today", "locale", "facts"}
)
VARIABLES: Final[Mapping[str, frozenset[str]]] = {
    "plan": _COMMON | {"skills"},
    "answer": _COMMON | {"results", "failed", "examples"},
    "route": frozenset({"question", "agents"}),
    "facts": frozenset({"said"}),
    "summary": frozenset({"said", "words"}),
}


class Prompt:
    """One prompt; `variables` are those that it shows. Raises Misconfigured when the text is not valid Jinja, names a
    variable its step does not have, or opens no message."""

    def __init__(self, prompt_id: str, text: str, step: str) -> None:
        self.id = prompt_id
        self.text = text
        self.version = hashlib.sha256(text.encode()).hexdigest()[:12]
        environment = _environment()
        try:
            self.variables = frozenset(meta.find_undeclared_variables(environment.parse(text)))
            unknown = self.variables - VARIABLES[step]
            marked = _ROLE.sub(lambda match: f"{_MARK}{match.group(1)}{_MARK}", text)
            self._template = environment.from_string(marked)
        except TemplateSyntaxError as error:
            raise Misconfigured(f"prompt {prompt_id}, line {error.lineno}: {error.message}") from error
        if unknown:
            raise Misconfigured(
                f"prompt {prompt_id} uses {', '.join(sorted(unknown))}, which a {step} prompt does not have",
                hint=f"it has {', '.join(sorted(VARIABLES[step]))}",
            )
        if not _ROLE.search(text):
            raise Misconfigured(
                f"prompt {prompt_id} opens no message", hint="start it with a line '@system' or '@user'"
            )

    @property
    def ref(self) -> PromptRef:
        return PromptRef(self.id, self.version)

    def render(self, **values: Any) -> tuple[Message, ...]:
        """The messages, in order; empty ones are left out. Raises Misconfigured when an attribute is undefined."""
        try:
            rendered = self._template.render(**{key: _clean(value) for key, value in values.items()})
        except UndefinedError as error:
            raise Misconfigured(f"prompt {self.id}: {error.message}") from error
        parts = rendered.split(_MARK)
        messages = zip(parts[1::2], parts[2::2], strict=True)
        return tuple(Message(role, content.strip()) for role, content in messages if content.strip())


def _clean(value: Any) -> Any:
    """Values without the mark, through lists and mappings; structs are left to their fields' own cleaning."""
    if isinstance(value, str):
        return value.replace(_MARK, "")
    if isinstance(value, Mapping):
        return {key: _clean(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_clean(item) for item in value]
    return value


def _environment() -> Environment:
    return SandboxedEnvironment(
        undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True, autoescape=False
    )
