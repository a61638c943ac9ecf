"""A JSON document read as it comes.

Strict mode accepts exactly RFC 8259, as Python's `json` reads it (decode.py has the details). Repair mode mends, each
time with a `Repaired` fact: trailing_comma, missing_comma, extra_comma, equals_sign, wrong_bracket, single_quotes,
curly_quotes, inner_quotes, unquoted_key, unquoted_value, python_literal, not_a_number, control_character,
invalid_escape, lone_surrogate, duplicate_key, comment (inside a list or object of an object) and, when the model
stopped by itself, missing_close.
"""

from __future__ import annotations

from typing import Any, Literal

from workers.toolcalls.facts import ArgumentClosed, Limits, ParseError
from workers.toolcalls.json_values import read_value
from workers.toolcalls.reader import Ended, Malformed, Reader, Steps
from workers.toolcalls.stream import Stream


class _Document:
    """A JSON document that stands alone."""

    def __init__(self) -> None:
        self.index = 0
        self.json: list[str] = []
        self.root: Any = None
        self.open_string: tuple[Any, list[str]] | None = None
        self.known: frozenset[str] | None = None

    def parameter(self, key: str, position: int) -> str:
        return key


class PushJson(Stream):
    """One JSON document, pushed in chunks of any cut; facts come back with `call` 0.

    Values down to `depth` containers deep are reported when they close, the document itself last, with the empty path.
    After a `ParseError` the rest of the text is ignored.
    """

    def __init__(
        self,
        *,
        mode: Literal["strict", "repair"] = "strict",
        depth: int = 1,
        limits: Limits | None = None,
        partial: bool = True,
    ) -> None:
        super().__init__(limits=limits or Limits(), repair=mode == "repair", partial=partial)
        self._depth = depth
        self._start(self._grammar)

    def _grammar(self, reader: Reader) -> Steps:
        closed = False
        try:
            yield from reader.space()
            value = yield from read_value(reader, _Document(), self._depth)
            closed = True
            reader.emit(ArgumentClosed(0, (), value))
            extra = yield from reader.space()
            reader.emit(ParseError(reader.position, "unexpected_text", f"{extra!r} behind the end"))
        except Malformed as error:
            reader.emit(ParseError(error.position, error.code, error.message))
        except Ended as ended:
            if not closed:
                reader.emit(ParseError(reader.position, "cut_off", f"the text ends early ({ended.reason})"))
