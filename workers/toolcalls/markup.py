"""Arguments written as raw text between markers: no quotes, no escapes, no types of their own."""

from __future__ import annotations

from workers.toolcalls.calls import OpenCall
from workers.toolcalls.coerce import STRING, coerce, types_of
from workers.toolcalls.facts import Repaired
from workers.toolcalls.prose import Stops
from workers.toolcalls.reader import Malformed, Reader, Steps
from workers.toolcalls.repair import loads as mend


class RawValue:
    """One argument being written. A string is told as it comes; any other type only when it closes.

    `types` are what the format itself says of the value's type; without them the skill's schema decides.
    """

    def __init__(self, reader: Reader, call: OpenCall, key: str, types: frozenset[str] | None = None) -> None:
        self._reader = reader
        self._call = call
        self._start = reader.position
        self._parts: list[str] = []
        self._size = 0
        self._key = call.parameter(key, self._start)
        self._types = types or types_of(call.properties.get(self._key))
        self._is_string = self._types == STRING
        if self._is_string:
            call.open_text(self._key)

    def put(self, text: str) -> None:
        """More of the value."""
        if not text:
            return
        self._size += len(text)
        limit = self._reader.limits.arguments_size
        if self._size > limit:
            raise Malformed(self._start + limit, "too_large", f"more than {limit} characters in an argument")
        self._parts.append(text)
        if self._is_string:
            self._call.text(text)

    def close(self) -> None:
        """The value is complete."""
        text = "".join(self._parts)
        if self._is_string:
            self._call.close_text(text)
            return
        value, rule = coerce(text, self._types)
        if rule == "value_type" and self._reader.repair and text.strip()[:1] in ("{", "["):
            reader = self._reader
            value = mend(text.strip(), self._start, self._call.index, reader.emit, reader.limits.depth)
            rule = None
        if rule is not None:
            self._reader.emit(Repaired(self._call.index, rule, self._start))
        self._call.argument(self._key, value)

    def until(self, stops: Stops) -> Steps:
        """The value's text up to the next marker, which is read and returned; the value stays open."""
        reader = self._reader
        while True:
            match = stops.find(reader.buf, reader.pos)
            if match is not None:
                self.put(reader.buf[reader.pos : match.start()])
                reader.pos = match.end()
                return match.group()
            hold = stops.held(reader.buf, reader.pos)
            self.put(reader.buf[reader.pos : hold])
            reader.pos = hold
            yield from reader.more()


def attribute(text: str) -> str:
    """An attribute's value with its escapes resolved."""
    for written, meant in (("&quot;", '"'), ("&lt;", "<"), ("&gt;", ">"), ("&apos;", "'"), ("&amp;", "&")):
        text = text.replace(written, meant)
    return text
