"""What a dialect is, and the conversation that most of them share: reasoning, words, calls between markers."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeAlias

from workers.toolcalls.calls import Calls, Skills, guarded
from workers.toolcalls.facts import Reasoning, Text
from workers.toolcalls.prose import Prose, Stops
from workers.toolcalls.reader import Reader, Steps


@dataclass
class Session:
    """One model output being read: its calls, the skills that were offered, and the end of the prompt it continues."""

    calls: Calls
    skills: Skills | None
    prompt: str

    def opened(self, opening: str, closing: str) -> bool:
        """Whether the prompt has already opened what these markers enclose."""
        return self.prompt.rfind(opening) > self.prompt.rfind(closing)


Grammar: TypeAlias = Callable[[Reader, Session], Steps]


@dataclass(frozen=True)
class Dialect:
    """How one family of models writes calls.

    `models` are patterns searched in lower-case model names. `special_tokens` are the markers that an engine may hide
    from the text; where it does, their token ids stand for them (`Parser`).
    """

    name: str
    grammar: Grammar
    models: tuple[str, ...] = ()
    special_tokens: tuple[str, ...] = ()

    def speaks(self, model_name: str) -> bool:
        """Whether a model of this name is known to write this dialect."""
        return any(re.search(pattern, model_name.lower()) for pattern in self.models)


# Reads what stands behind a call's opening marker (given), up to and with its closing one. Runs guarded.
Body: TypeAlias = Callable[[Reader, Session, str], Steps]


@dataclass(frozen=True)
class Markers:
    """The conversation of one dialect as data.

    `openers` begin calls; `closer` ends what a broken call leaves behind (None: the next opener does). `think` are
    pairs of markers around reasoning. With `strip`, space that only separates words from markers is no content.
    """

    openers: tuple[str, ...]
    closer: str | None
    think: tuple[tuple[str, str], ...] = ()
    strip: bool = False
    # Marks that may stand in the words and mean nothing to a reader.
    silent: tuple[str, ...] = ()
    # An opener that ends open reasoning if `breaks_think` then reads True.
    stops: Stops = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "stops", Stops(*self.openers, *(pair[0] for pair in self.think), *self.silent))


def conversation(reader: Reader, session: Session, markers: Markers, body: Body) -> Steps:
    """Words, reasoning and calls, until the text ends."""
    words = Prose(reader, Text, strip=markers.strip)
    for opening, closing in markers.think:
        if session.opened(opening, closing):
            yield from reasoning(reader, closing, strip=markers.strip)
    closers = dict(markers.think)
    while True:
        marker = yield from words.until(markers.stops)
        if marker in closers:
            yield from reasoning(reader, closers[marker], strip=markers.strip)
        elif marker in markers.openers:
            done = yield from guarded(reader, session.calls, body(reader, session, marker))
            if done is None and markers.closer is not None:
                yield from skip_past(reader, Stops(markers.closer))
            elif done is None:
                yield from skip_to(reader, Stops(*markers.openers))


def reasoning(reader: Reader, closing: str, *, strip: bool) -> Steps:
    """Reasoning up to its closing marker."""
    yield from Prose(reader, Reasoning, strip=strip).until(Stops(closing))


def skip_past(reader: Reader, stops: Stops) -> Steps:
    """Drops all text up to and with the next marker, which is returned."""
    while True:
        match = stops.find(reader.buf, reader.pos)
        if match is not None:
            reader.pos = match.end()
            return match.group()
        reader.pos = stops.held(reader.buf, reader.pos)
        yield from reader.more()


def skip_to(reader: Reader, stops: Stops) -> Steps:
    """Drops all text up to the next marker, which stays unread."""
    marker = yield from skip_past(reader, stops)
    reader.pos -= len(marker)
