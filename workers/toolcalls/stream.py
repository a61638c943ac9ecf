"""Drives one grammar: chunks in, facts out."""

from __future__ import annotations

import codecs
from collections.abc import Callable, Sequence
from typing import Any

from workers.toolcalls.facts import ArgumentsDelta, Fact, Limits, StringPart
from workers.toolcalls.reader import Ended, Malformed, Reader, Steps

# Chunks put aside unread before the grammar looks at their size; bounds what a value beyond its limit can hold.
WAITING_MAX = 4096
# A grammar closes at least one open thing each time it hears of the end.
_ENDS_MAX = 100_000


class Stream:
    """A reader, the grammar that walks it, and the facts it has told since they were last taken.

    `feed` is the one function that runs for every token, so it is written flat.
    """

    def __init__(self, *, limits: Limits, repair: bool, partial: bool, string_parts: bool = True) -> None:
        self._out: list[Fact] = []
        self._reader = Reader(
            self._out.append, limits=limits, repair=repair, partial=partial, string_parts=string_parts
        )
        self._waiting = self._reader.waiting
        self._decoder: codecs.IncrementalDecoder | None = None
        self._done = False

    def _start(self, grammar: Callable[[Reader], Steps]) -> None:
        """Brings the grammar to its first wait."""
        self._outer = grammar(self._reader)
        self._inner: Steps | None = None
        self._send = self._outer.send
        self._run(self._send, None)

    def _run(self, resume: Callable[[Any], Any], value: Any) -> None:
        """Resumes the steps that are running, and then whatever they wait for or were waited for by, until some wait
        for text. The outermost may end, but not fail.
        """
        while True:
            try:
                wanted = resume(value)
            except (StopIteration, Malformed, Ended) as through:
                if self._inner is None:
                    if isinstance(through, Malformed):
                        raise
                    self._done = True
                    self._reader.quiet = self._reader.live = None
                    return
                # The inner steps are through, or failed: those around them go on.
                self._inner, self._send = None, self._outer.send
                if isinstance(through, StopIteration):
                    resume, value = self._send, through.value
                else:
                    resume, value = self._outer.throw, through
                continue
            if wanted is None:
                return
            # The outer steps wait for others, which run from here on.
            self._inner, self._send = wanted, wanted.send
            resume, value = self._send, None

    def feed(self, chunk: str | bytes, token_ids: Sequence[int] = ()) -> list[Fact]:
        """The facts that the chunk completes.

        Bytes are UTF-8 and may be cut anywhere; broken ones become U+FFFD. `token_ids` are the chunk's tokens, if
        known: a special token that the text leaves out is put back before the text if it comes before any other token
        of the chunk, else behind it.
        """
        reader = self._reader
        live = reader.live
        if (
            live is not None
            and chunk.__class__ is str
            and '"' not in chunk
            and "\\" not in chunk
            and chunk.isprintable()
            and chunk
            and len(waiting := self._waiting) < WAITING_MAX
        ):
            # Inside a string that is told as it comes: plain content needs no look by the grammar.
            waiting.append(chunk)
            index, path = live
            if path is None:
                return [ArgumentsDelta(index, chunk)]
            return [ArgumentsDelta(index, chunk), StringPart(index, path, chunk)]
        if chunk.__class__ is not str or token_ids:
            chunk = self._as_text(chunk, token_ids)
        quiet = reader.quiet
        if quiet is not None and quiet not in chunk:
            waiting = self._waiting
            if len(waiting) < WAITING_MAX:
                waiting.append(chunk)
                return []
        if not chunk or self._done:
            return []
        self._run(self._send, chunk)
        out = self._out
        if out:
            facts = out[:]
            out.clear()
            return facts
        return []

    def take(self) -> list[Fact]:
        """The facts told since they were last taken."""
        facts = self._out[:]
        self._out.clear()
        return facts

    def finish(self, reason: str = "stop") -> list[Fact]:
        """The facts that the end of the text completes. `reason` is the model's finish reason.

        Only where the model stopped by itself may repair mode close what is open; after any other reason (`length`,
        `abort`, …) open calls are void and their open values are never told. A second finish changes nothing.
        """
        facts: list[Fact] = []
        if self._decoder is not None:
            rest = self._decoder.decode(b"", True)
            self._decoder = None
            if rest:
                facts += self.feed(rest)
        for _ in range(_ENDS_MAX):
            if self._done:
                break
            self._run((self._inner or self._outer).throw, Ended(reason))
        self._reader.quiet = self._reader.live = None
        facts += self._out
        self._out.clear()
        return facts

    def _as_text(self, chunk: str | bytes, token_ids: Sequence[int]) -> str:
        if isinstance(chunk, bytes):
            if self._decoder is None:
                self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
            chunk = self._decoder.decode(chunk)
        return chunk
