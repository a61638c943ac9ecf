"""The words between calls: passed on as they come, up to a marker. Only what may still become a marker is held back."""

from __future__ import annotations

import re

from workers.toolcalls.facts import Reasoning, Text
from workers.toolcalls.reader import Ended, Reader, Steps

_SPACES = " \t\r\n"


class Stops:
    """A set of markers to look for."""

    __slots__ = ("_longest", "find", "half", "strings")

    def __init__(self, *strings: str) -> None:
        self.strings = strings
        # The longer marker wins where two begin at the same place.
        self.find = re.compile("|".join(re.escape(s) for s in sorted(strings, key=len, reverse=True))).search
        halves = sorted({s[:n] for s in strings for n in range(1, len(s))}, key=len, reverse=True)
        self._longest = len(halves[0]) if halves else 0
        self.half = re.compile("(?:" + "|".join(re.escape(h) for h in halves) + r")\Z").search if halves else None

    def held(self, text: str, start: int) -> int:
        """Where the end of `text[start:]` begins that may become a marker; the text's length if none may."""
        if self.half is None:
            return len(text)
        match = self.half(text, max(start, len(text) - self._longest))
        return len(text) if match is None else match.start()


class Prose:
    """One kind of words. With `strip`, space that only separates them from markers is left out; space inside them
    stays.
    """

    def __init__(self, reader: Reader, kind: type[Text] | type[Reasoning], *, strip: bool) -> None:
        self._reader = reader
        self._kind = kind
        self._strip = strip
        self._spaces: list[str] = []
        self._started = False  # words were told before
        self._inside = False  # words were told since the last marker

    def put(self, text: str) -> None:
        """Words that are certain."""
        if not text:
            return
        if self._strip:
            solid = text.rstrip(_SPACES)
            if not solid:
                self._spaces.append(text)
                return
            if not self._inside and not self._started:
                solid = solid.lstrip(_SPACES)
                self._spaces.clear()
            self._spaces.append(solid)
            tail = text[len(text.rstrip(_SPACES)) :]
            text = "".join(self._spaces)
            self._spaces = [tail] if tail else []
        self._started = self._inside = True
        self._reader.emit(self._kind(text))

    def mark(self) -> None:
        """A marker stands here: the space before it only separates."""
        self._spaces.clear()
        self._inside = False

    def until(self, stops: Stops) -> Steps:
        """Passes words on up to the next marker, which is read and returned. At the end of the text all words are
        told.
        """
        reader = self._reader
        while True:
            buf, pos = reader.buf, reader.pos
            match = stops.find(buf, pos)
            if match is not None:
                self.put(buf[pos : match.start()])
                reader.pos = match.end()
                self.mark()
                return match.group()
            hold = stops.held(buf, pos)
            self.put(buf[pos:hold])
            reader.pos = hold
            try:
                yield from reader.more()
            except Ended:
                self.put(reader.buf[reader.pos :])
                reader.pos = len(reader.buf)
                if self._inside and self._spaces:
                    reader.emit(self._kind("".join(self._spaces)))
                self._spaces.clear()
                raise
