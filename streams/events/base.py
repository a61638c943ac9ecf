"""What every event shares: a frozen struct, a name, a version, and the registry that finds it by its type.

A type's full name on the wire is `headstart.<name>.v<version>` (CloudEvents `type`). Types evolve by addition only: a
new field has a default, none is removed or changes its type; `tests/unit/streams/test_schemas.py` holds each type to
the JSON Schema that was published. Anything else is a new version beside the old.
"""

from __future__ import annotations

from typing import Any, ClassVar, TypeVar

import msgspec

PREFIX = "headstart."


class Event(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Base of all events. `TYPE` is the full CloudEvents type; `TOPICS` are the topics it may stand on."""

    TYPE: ClassVar[str] = ""
    TOPICS: ClassVar[tuple[str, ...]] = ()


REGISTRY: dict[str, type[Event]] = {}
E = TypeVar("E", bound=type[Event])


def event(name: str, *topics: str, version: int = 1) -> Any:
    """Class decorator: registers an event type under `headstart.<name>.v<version>` for the given topics."""

    def register(cls: E) -> E:
        full = f"{PREFIX}{name}.v{version}"
        if full in REGISTRY:
            raise ValueError(f"{full} is defined twice")
        cls.TYPE = full
        cls.TOPICS = topics
        REGISTRY[full] = cls
        return cls

    return register


class InputItem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One item of a turn's input.

    kind "message": `role` ("user", "system", "developer" or "assistant") and `text`.
    kind "function_call_output": `call_id` and `output` (JSON text or plain text) of a call the client ran.
    kind "approval": `call_id` is the approval request's id, `approve` the answer.
    kind "fact": what a service published for the member: `text`, `call_id` is the id of its `fact.published`, `output`
    the fact's own kind; `role` is "service".
    again: it was said in the turn that this one goes on from, and is here because that turn was stopped.
    """

    kind: str = "message"
    role: str = "user"
    text: str = ""
    call_id: str = ""
    output: str = ""
    approve: bool = False
    again: bool = False


class PromptRef(msgspec.Struct, frozen=True):
    """Which prompt text was used. version: the first 12 hex digits of the text's SHA-256."""

    id: str
    version: str


class Usage(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Tokens of one model call. `hidden`: completion tokens nobody sees (reasoning), included in `completion`."""

    prompt: int = 0
    completion: int = 0
    hidden: int = 0
