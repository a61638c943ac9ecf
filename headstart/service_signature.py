"""A typed async function to what its skill declares: the JSON Schemas of its parameters and of its result.

Types are read by pydantic, so whatever it knows may stand in a signature: `Annotated[int, Field(ge=1, le=20)]`,
literals, dataclasses, models, dates. A parameter of type `Caller` is not one of the skill's: it gets the call's
verified context.
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

import pydantic

from streams.errors import Misconfigured
from workers.skills.context import SignedContext as Caller

__all__ = ["Answers", "Caller", "Signature", "SkillCallable"]

SkillCallable = Callable[..., Awaitable[Any]]


class Answers(Protocol):
    """What does a skill's work, with a contract of its own or read from a function's types (`Signature`)."""

    async def call(self, arguments: dict[str, Any], caller: Caller) -> bytes:
        """The result as JSON. arguments: valid ones. Whatever it raises, the caller of the skill is told of it as
        service_host.py says."""


class Signature:
    """What a function takes and gives. parameters, returns: JSON Schemas, draft 2020-12; returns {} says nothing."""

    def __init__(self, function: SkillCallable) -> None:
        """Raises Misconfigured when the function is not async or a parameter has no type."""
        if not inspect.iscoroutinefunction(function):
            raise Misconfigured(f"a skill is an async function, and {function.__name__} is not")
        self.function = function
        self.description = (inspect.getdoc(function) or "").partition("\n\n")[0].replace("\n", " ")
        hints = typing.get_type_hints(function, include_extras=True)
        self._caller: str | None = None
        fields: dict[str, Any] = {}
        for name, parameter in inspect.signature(function).parameters.items():
            if name not in hints or parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
                raise Misconfigured(f"parameter {name} of {function.__name__} needs a type and a name of its own")
            if hints[name] is Caller:
                self._caller = name
            else:
                fields[name] = (hints[name], ... if parameter.default is parameter.empty else parameter.default)
        self._names = tuple(fields)
        config = pydantic.ConfigDict(extra="forbid")
        self._arguments = pydantic.create_model(function.__name__, __config__=config, **fields)
        self._result = pydantic.TypeAdapter[Any](hints.get("return", Any))
        self.parameters = _without_titles(self._arguments.model_json_schema())
        self.parameters.setdefault("properties", {})
        self.parameters.pop("description", None)
        self.returns = _without_titles(self._result.json_schema(mode="serialization"))

    async def call(self, arguments: dict[str, Any], caller: Caller) -> bytes:
        """The function's result as JSON. Raises pydantic.ValidationError on arguments its types refuse, and whatever
        the function raises."""
        model = self._arguments.model_validate(arguments)
        typed = {name: getattr(model, name) for name in self._names}
        if self._caller is not None:
            typed[self._caller] = caller
        return self._result.dump_json(await self.function(**typed))


def _without_titles(schema: Any) -> Any:
    """A schema without pydantic's titles, which repeat the names; properties called `title` stay."""
    if isinstance(schema, list):
        return [_without_titles(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    kept = {}
    for keyword, value in schema.items():
        if keyword in ("properties", "$defs"):
            kept[keyword] = {name: _without_titles(member) for name, member in value.items()}
        elif keyword in ("enum", "const", "default", "examples"):
            kept[keyword] = value
        elif not (keyword == "title" and isinstance(value, str)):
            kept[keyword] = _without_titles(value)
    return kept
