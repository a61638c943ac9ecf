"""Calls while they are written: opening, closing, voiding, and the limits and names they are held to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from workers.toolcalls.decode import dumps, string_text, string_value
from workers.toolcalls.facts import (
    ArgumentClosed,
    ArgumentsDelta,
    CallClosed,
    CallOpened,
    CallSnapshot,
    CallVoided,
    ParseError,
    Repaired,
    StringPart,
)
from workers.toolcalls.reader import Ended, Malformed, Reader, Steps
from workers.toolcalls.repair import near_name

# What is known of a skill: its parameters' names, or the JSON Schema of its parameters.
Skills: TypeAlias = Mapping[str, Sequence[str] | Mapping[str, Any]]


class OpenCall:
    """One call that has a name. `json` is the text of its arguments so far, `root` their value."""

    __slots__ = ("index", "json", "known", "name", "open_string", "parameters", "properties", "reader", "root", "state")

    def __init__(self, index: int, name: str, reader: Reader, skill: Sequence[str] | Mapping[str, Any] | None) -> None:
        self.index = index
        self.name = name
        self.reader = reader
        self.json: list[str] = []
        self.root: Any = None
        self.open_string: tuple[Any, list[str]] | None = None
        self.state = "open"
        self.properties: Mapping[str, Any] = {}
        if isinstance(skill, Mapping):
            properties = skill.get("properties")
            self.properties = properties if isinstance(properties, Mapping) else {}
            self.parameters: list[str] | None = list(self.properties) if self.properties else None
        else:
            self.parameters = None if skill is None else list(skill)
        self.known = frozenset(self.parameters) if self.parameters else None

    def parameter(self, key: str, position: int) -> str:
        """The key to take for an argument's key as written: in repair mode a slip of a known parameter is set right."""
        if not self.reader.repair or not self.parameters or key in self.parameters:
            return key
        used = self.root if isinstance(self.root, dict) else {}
        meant = near_name(key, [name for name in self.parameters if name not in used])
        if meant is None:
            return key
        self.reader.emit(Repaired(self.index, "parameter_name", position))
        return meant

    # For formats whose arguments are not JSON: they are told argument by argument.

    def begin(self) -> None:
        """The arguments begin."""
        self.root = {}
        self._tell("{")

    def argument(self, key: str, value: Any) -> None:
        """An argument closed as a whole."""
        self._tell(self._key(key) + dumps(value))
        self._closed(key, value)

    def open_text(self, key: str) -> None:
        """A string argument begins."""
        self._tell(self._key(key) + '"')
        self.open_string = (key, [])

    def text(self, piece: str) -> None:
        """A piece of the open string argument, as its value."""
        assert self.open_string is not None
        key, parts = self.open_string
        told = string_text(piece)
        parts.append(told)
        self._tell(told)
        if self.reader.partial and self.reader.string_parts:
            self.reader.emit(StringPart(self.index, (key,), piece))

    def close_text(self, value: str) -> None:
        """The open string argument closes; `value` is all its pieces."""
        assert self.open_string is not None
        key, _ = self.open_string
        self.open_string = None
        self._tell('"')
        self._closed(key, value)

    def end(self) -> None:
        """The arguments are complete."""
        self._tell("}")

    def _key(self, key: str) -> str:
        return ("," if self.root else "") + f'"{string_text(key)}":'

    def _closed(self, key: str, value: Any) -> None:
        self.root[key] = value
        self.reader.emit(ArgumentClosed(self.index, (key,), value))

    def _tell(self, text: str) -> None:
        self.json.append(text)
        if self.reader.partial:
            self.reader.emit(ArgumentsDelta(self.index, text))

    def snapshot(self) -> CallSnapshot:
        """The call as far as it is known."""
        arguments = dict(self.root) if isinstance(self.root, dict) else {}
        if self.open_string is not None and isinstance(self.open_string[0], str):
            live = self.reader.waiting if self.reader.live is not None else []
            arguments[self.open_string[0]] = _shown("".join((*self.open_string[1], *live)))
        return CallSnapshot(self.name, arguments, self.state == "closed")


def _shown(raw: str) -> str:
    try:
        return string_value(raw)
    except ValueError:
        return raw


class Calls:
    """The calls of one output, in order."""

    def __init__(self, reader: Reader, skills: Skills | None) -> None:
        self._reader = reader
        self._skills = skills
        self.all: list[OpenCall] = []

    def open(self, name: str, position: int, *, reader: Reader | None = None) -> OpenCall:
        """A call whose text began at `position` has its name. Raises Malformed beyond the limits or without a name.

        `reader` is where the call's text comes from, if it has one of its own.
        """
        reader = reader or self._reader
        limits = reader.limits
        if not name:
            raise Malformed(position, "no_name", "a call without a name")
        if len(name) > limits.name_size:
            raise Malformed(position, "name_too_long", f"a name of more than {limits.name_size} characters")
        if len(self.all) >= limits.calls:
            raise Malformed(position, "too_many_calls", f"more than {limits.calls} calls")
        index = len(self.all)
        skill = None
        if self._skills is not None:
            if name not in self._skills and reader.repair:
                meant = near_name(name, self._skills)
                if meant is not None:
                    reader.emit(Repaired(index, "skill_name", position))
                    name = meant
            skill = self._skills.get(name)
        call = OpenCall(index, name, reader, skill)
        self.all.append(call)
        reader.emit(CallOpened(index, name, position))
        return call

    def knows(self, name: str) -> bool:
        """Whether a skill of that name was offered."""
        return self._skills is not None and name in self._skills

    def close(self, call: OpenCall) -> None:
        """The call is complete. Raises Malformed where its arguments are no object."""
        if not isinstance(call.root, dict):
            raise Malformed(call.reader.position, "arguments_not_an_object", "the arguments are no object")
        text = "".join(call.json)
        call.state = "closed"
        call.reader.emit(CallClosed(call.index, call.name, call.root, text))

    def void_open(self, reason: str, only: OpenCall | None = None) -> None:
        """Whatever is open (or only that call) will not be completed."""
        for call in self.all if only is None else (only,):
            if call.state == "open":
                call.state = "void"
                call.reader.emit(CallVoided(call.index, reason))


def guarded(reader: Reader, calls: Calls, steps: Steps, only: OpenCall | None = None) -> Steps:
    """Runs the steps of one call (or of several). Returns their result, or None where the text breaks the format: the
    error is told and open calls are void. At the end of the text open calls are void and `Ended` goes on.
    """
    try:
        return (yield from steps)
    except Malformed as error:
        reader.reset()
        reader.emit(ParseError(error.position, error.code, error.message))
        calls.void_open(error.code, only)
        return None
    except Ended:
        reader.reset()
        calls.void_open("cut_off", only)
        raise
