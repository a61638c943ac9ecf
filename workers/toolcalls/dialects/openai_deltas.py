"""OpenAI's `delta.tool_calls`: calls that a server has already told apart, their arguments in fragments of JSON.

Fragments of several calls may be mixed; each call is told on its own. A call opens when its arguments begin, when the
next call does, or at the end: until then its name may still grow. Empty arguments mean none.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from workers.toolcalls.calls import Calls, OpenCall, guarded
from workers.toolcalls.dialects.base import Dialect, Session
from workers.toolcalls.envelope import read_arguments, read_closed_arguments
from workers.toolcalls.facts import Fact, Limits, ParseError, Reasoning, Text
from workers.toolcalls.prose import Prose, Stops
from workers.toolcalls.reader import NATURAL_ENDS, Malformed, Reader, Steps
from workers.toolcalls.stream import Stream

_NEVER = Stops("\x00")


class _Written(Stream):
    """One call of the server's: its name while that may grow, then its arguments."""

    def __init__(self, calls: Calls, *, limits: Limits, repair: bool, partial: bool, string_parts: bool = True) -> None:
        super().__init__(limits=limits, repair=repair, partial=partial, string_parts=string_parts)
        self._calls = calls
        self.name = ""
        self.key: object = None
        self.call: OpenCall | None = None
        self._refused = False

    def open(self) -> list[Fact]:
        """Opens the call under the name so far."""
        if self.call is None and not self._refused:
            try:
                self.call = self._calls.open(self.name, self._reader.position, reader=self._reader)
                self._start(self._grammar)
            except Malformed as error:
                self._refused = True
                self._reader.emit(ParseError(error.position, error.code, error.message))
        return self.take()

    def _grammar(self, reader: Reader) -> Steps:
        yield from guarded(reader, self._calls, self._arguments(reader), self.call)

    def _arguments(self, reader: Reader) -> Steps:
        assert self.call is not None
        yield from read_arguments(reader, self.call)
        self._calls.close(self.call)
        return True

    def arguments(self, fragment: str) -> list[Fact]:
        """More of the arguments."""
        facts = self.open()
        return facts if self.call is None else facts + self.feed(fragment)

    def end(self, reason: str) -> list[Fact]:
        """The server has nothing more to say about the call."""
        facts = self.open()
        call = self.call
        if call is None:
            return facts
        if call.root is None and reason in NATURAL_ENDS and call.state == "open" and not self._reader.position:
            read_closed_arguments(self._reader, call, "", 0)
            self._calls.close(call)
        return facts + self.take() + self.finish(reason)


class Deltas:
    """The deltas of one message, in order of arrival."""

    def __init__(self, calls: Calls, *, limits: Limits, repair: bool, partial: bool, string_parts: bool = True) -> None:
        self._calls = calls
        self._limits = limits
        self._repair = repair
        self._partial = partial
        self._string_parts = string_parts
        self._written: dict[object, _Written] = {}
        self._last: _Written | None = None

    def feed(self, delta: Mapping[str, Any]) -> list[Fact]:
        """The facts that a message delta completes (`content`, `reasoning_content` or `reasoning`, `tool_calls`)."""
        facts: list[Fact] = []
        reasoning = delta.get("reasoning_content") or delta.get("reasoning")
        if isinstance(reasoning, str) and reasoning:
            facts.append(Reasoning(reasoning))
        content = delta.get("content")
        if isinstance(content, str) and content:
            facts.append(Text(content))
        for fragment in delta.get("tool_calls") or ():
            facts += self._fragment(fragment)
        return facts

    def _fragment(self, fragment: Mapping[str, Any]) -> list[Fact]:
        facts: list[Fact] = []
        key = fragment.get("index")
        if key is None:
            # Servers that leave the index out give each call an id of its own.
            key = fragment.get("id") or (self._last.key if self._last is not None else 0)
        written = self._written.get(key)
        if written is None:
            if self._last is not None:
                facts += self._last.open()
            written = _Written(
                self._calls,
                limits=self._limits,
                repair=self._repair,
                partial=self._partial,
                string_parts=self._string_parts,
            )
            written.key = key
            self._written[key] = written
        self._last = written
        function = fragment.get("function") or {}
        name = function.get("name")
        if name and written.call is None and name != written.name:
            written.name += name
        arguments = function.get("arguments")
        if arguments:
            facts += written.arguments(arguments)
        return facts

    def finish(self, reason: str) -> list[Fact]:
        """The facts that the end of the message completes."""
        facts: list[Fact] = []
        for written in self._written.values():
            facts += written.end(reason)
        return facts


def _grammar(reader: Reader, session: Session) -> Steps:
    """Text fed as such is words."""
    yield from Prose(reader, Text, strip=False).until(_NEVER)


DIALECT = Dialect("openai_deltas", _grammar, models=(r"^gpt-[345]", r"^o[1345](?:-|$)", r"^chatgpt"))
