"""The text as it comes in, and the small steps by which a grammar walks over it.

A grammar is a generator: it reads what is there, and yields when it needs more. Whoever drives it sends the next
chunk, or throws `Ended` when there will be none. Every step looks at a character once, apart from a few that are held
back because they may still become a marker, so the whole is linear in the text.

Facts go to `emit`, in order. A grammar raises `Malformed` where the text cannot be what its format allows.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator
from typing import Any, TypeAlias

from workers.toolcalls.facts import Fact, Limits, Path, Repaired

# Yields None when it needs more text. It may also yield other steps, which are then run in its place until they are
# through; it goes on with their result.
Steps: TypeAlias = Generator[Any, Any, Any]

_SPACE = re.compile(r"[ \t\n\r]*").match
# Reasons for which a model stops by itself. Anything else cut it off.
NATURAL_ENDS = frozenset({"stop", "tool_calls", "function_call", "end_turn", "stop_sequence", "tool_use", "eos"})


class Ended(Exception):
    """There is no more text. `natural` says whether the model stopped by itself."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.natural = reason in NATURAL_ENDS


class Malformed(Exception):
    """The text at `position` breaks the format. `code` is stable, `message` is for people."""

    def __init__(self, position: int, code: str, message: str) -> None:
        super().__init__(message)
        self.position = position
        self.code = code
        self.message = message


class Ahead:
    """Markers that may come next, behind a little space."""

    __slots__ = ("full", "half")

    def __init__(self, *strings: str) -> None:
        space = r"[ \t\r\n]{0,64}"
        halves = sorted({s[:n] for s in strings for n in range(1, len(s))}, key=len, reverse=True)
        self.full = re.compile(f"{space}({'|'.join(map(re.escape, strings))})").match
        self.half = re.compile(f"{space}(?:{'|'.join(map(re.escape, halves))})?\\Z").match


class Reader:
    """`buf[pos:]` is what has come and was not consumed; `base` is the position of `buf[0]` in the whole text.

    `quiet` and `live` are the fast ways through long values; at most one of them is set, and only while a step waits.
    While `quiet` holds a character, a chunk without that character cannot end what is being read, so the driver only
    puts it into `waiting`. While `live` is set (call, path), an open string is told as it comes: a chunk of plain
    content is put into `waiting` too, and told by the driver itself. `hides_tokens` says that a chunk's token ids may
    stand for text, so that no chunk can be told unread.
    """

    __slots__ = (
        "_tape_base",
        "base",
        "bound",
        "buf",
        "emit",
        "hides_tokens",
        "limits",
        "live",
        "mended",
        "partial",
        "pos",
        "quiet",
        "repair",
        "rereads",
        "string_parts",
        "tape",
        "waiting",
    )

    def __init__(
        self,
        emit: Callable[[Fact], None],
        *,
        limits: Limits,
        repair: bool,
        partial: bool = True,
        string_parts: bool = True,
    ) -> None:
        self.emit = emit
        self.limits = limits
        self.repair = repair
        self.partial = partial
        self.string_parts = string_parts
        self.hides_tokens = False
        self.buf = ""
        self.pos = 0
        self.base = 0
        self.quiet: str | None = None
        self.waiting: list[str] = []
        self.live: tuple[int, Path | None] | None = None
        self.tape: list[str] | None = None
        self._tape_base = 0
        self.mended = False
        self.rereads = 0
        self.bound: int | None = None

    def mends_end(self, ended: Ended, call: int | None, *, quietly: bool = False) -> bool:
        """Whether the end of the text may stand for what is missing; if so it is told, unless `quietly`."""
        if not (self.repair and ended.natural):
            return False
        if not (quietly or self.mended):
            self.mended = True
            self.emit(Repaired(call, "missing_close", self.position))
        return True

    @property
    def position(self) -> int:
        """Where the next unread character stands in the whole text."""
        return self.base + self.pos

    def reset(self) -> None:
        """Leaves whatever value was being read."""
        self.quiet = self.live = self.tape = self.bound = None

    def bound_from_here(self) -> int:
        """The position that a value beginning here may not pass: the arguments' bound, or its own."""
        return self.position + self.limits.arguments_size if self.bound is None else self.bound

    def hold_to(self, bound: int) -> None:
        """Raises Malformed once the text has passed the bound."""
        if self.base + self.pos > bound:
            raise Malformed(bound, "too_large", f"more than {self.limits.arguments_size} characters")

    def malformed(self, buf: str, pos: int, base: int, code: str, message: str) -> Malformed:
        """The error at `buf[pos]`, where the reader stands from then on."""
        self.buf, self.pos, self.base = buf, pos, base
        return Malformed(base + pos, code, message)

    def more(self) -> Steps:
        """Waits for one more chunk; what was read is dropped. Raises Ended when there is none."""
        chunk = yield
        pos = self.pos
        if pos:
            self.base += pos
            self.buf = self.buf[pos:] + chunk
            self.pos = 0
        else:
            self.buf += chunk
        if self.tape is not None:
            self.tape.append(chunk)

    def chunk(self, quiet: str | None) -> Steps:
        """Waits for the next chunk and returns it, leaving `buf` alone. Until it holds `quiet`, chunks may be put
        aside.
        """
        if self.tape is None:
            self.quiet = quiet
            return (yield)
        chunk = yield
        self.tape.append(chunk)
        return chunk

    def record(self) -> None:
        """Keeps all text from here on, so that it can be read again."""
        self.tape = [self.buf[self.pos :]]
        self._tape_base = self.position

    def rewind(self) -> None:
        """Goes back to where `record` was called, and stops recording."""
        assert self.tape is not None
        self.buf = "".join(self.tape)
        self.base = self._tape_base
        self.pos = 0
        self.reset()

    def forget(self) -> None:
        """Stops recording."""
        self.tape = None

    def space(self) -> Steps:
        """Skips whitespace and waits for the character after it, which is returned unread."""
        while True:
            match = _SPACE(self.buf, self.pos)
            assert match is not None
            self.pos = match.end()
            if self.pos < len(self.buf):
                return self.buf[self.pos]
            yield from self.more()

    def literal(self, *options: str) -> Steps:
        """Reads one of the options if it stands here and returns it, else None. Waits only while one is still possible.

        Where one option begins another, the longer must come first and the shorter is taken only when the longer fails.
        """
        while True:
            rest = len(self.buf) - self.pos
            waits = False
            for option in options:
                if self.buf.startswith(option, self.pos):
                    if not waits:
                        self.pos += len(option)
                        return option
                elif rest < len(option) and option.startswith(self.buf[self.pos :]):
                    waits = True
            if not waits:
                return None
            yield from self.more()

    def expect(self, *options: str) -> Steps:
        """As `literal`, but raises Malformed where none of the options stands here."""
        found = yield from self.literal(*options)
        if found is None:
            raise Malformed(self.position, "unexpected_text", f"expected {' or '.join(map(repr, options))}")
        return found

    def past(self, mark: str) -> Steps:
        """Drops all text up to and with the mark (one character)."""
        while True:
            end = self.buf.find(mark, self.pos)
            if end >= 0:
                self.pos = end + 1
                return
            self.pos = len(self.buf)
            yield from self.more()

    def ahead(self, look: Ahead) -> Steps:
        """Which of `look` comes next, or None; nothing is read. Waits only while one is still possible."""
        while True:
            match = look.full(self.buf, self.pos)
            if match is not None:
                return match.group(1)
            if look.half(self.buf, self.pos) is None:
                return None
            yield from self.more()

    def name(self, stop: re.Pattern[str]) -> Steps:
        """The short text before the first match of `stop` (one character), which stays unread. Bounded by
        `name_size`.
        """
        start = self.position
        parts: list[str] = []
        size = 0
        while True:
            match = stop.search(self.buf, self.pos)
            end = len(self.buf) if match is None else match.start()
            parts.append(self.buf[self.pos : end])
            size += end - self.pos
            self.pos = end
            if size > self.limits.name_size:
                self.pos -= size - self.limits.name_size
                raise Malformed(start, "name_too_long", f"a name of more than {self.limits.name_size} characters")
            if match is not None:
                return "".join(parts)
            yield from self.more()
