"""gpt-oss (harmony): messages with a header, `<|message|>` and a body; a call is a message to `functions.NAME`.

The channel decides what other bodies are: `analysis` is reasoning, `final` and `commentary` are words. Inside a body
only its own end counts; every other marker there is text. Messages to built-in tools that were not offered are dropped.
"""

from __future__ import annotations

import re

from workers.toolcalls.calls import guarded
from workers.toolcalls.dialects.base import Dialect, Session, skip_past
from workers.toolcalls.envelope import read_arguments
from workers.toolcalls.facts import ParseError, Reasoning, Text
from workers.toolcalls.prose import Prose, Stops
from workers.toolcalls.reader import Reader, Steps

_START, _CHANNEL, _MESSAGE = "<|start|>", "<|channel|>", "<|message|>"
_END, _CALL, _RETURN = "<|end|>", "<|call|>", "<|return|>"
_BODY_ENDS = Stops(_END, _RETURN, _START + "assistant")
_CALL_ENDS = Stops(_CALL, _END, _RETURN, _START)
_HEADER_ENDS = Stops(_MESSAGE, _START)
_RECIPIENT = re.compile(r"to=([^\s<]+)").search
_CHANNEL_NAME = re.compile(r"<\|channel\|>\s*([A-Za-z]*)").findall
_FUNCTIONS = "functions."
# More text than this without `<|message|>` is no header; it is dropped as it comes.
_HEADER_MAX = 4096


def _header(reader: Reader) -> Steps:
    """The header up to `<|message|>`; a new `<|start|>` begins it anew."""
    text = ""
    while True:
        match = _HEADER_ENDS.find(reader.buf, reader.pos)
        if match is not None:
            text += reader.buf[reader.pos : match.start()]
            reader.pos = match.end()
            if match.group() == _MESSAGE:
                return text
            text = ""
            continue
        hold = _HEADER_ENDS.held(reader.buf, reader.pos)
        text = (text + reader.buf[reader.pos : hold])[-_HEADER_MAX:]
        reader.pos = hold
        yield from reader.more()


def _call(reader: Reader, session: Session, name: str, start: int) -> Steps:
    call = session.calls.open(name, start)
    yield from read_arguments(reader, call)
    session.calls.close(call)
    return True


def _grammar(reader: Reader, session: Session) -> Steps:
    words = Prose(reader, Text, strip=False)
    if (yield from reader.literal(_CHANNEL, _START, " to=", _END, _RETURN)) is None:
        # No header at all: plain words.
        marker = yield from words.until(Stops(_START, _CHANNEL))
        reader.pos -= len(marker)
    else:
        reader.pos = 0
    while True:
        start = reader.position
        header = yield from _header(reader)
        recipient = _RECIPIENT(header)
        channels = _CHANNEL_NAME(header)
        if recipient is not None and recipient.group(1).startswith(_FUNCTIONS):
            name = recipient.group(1)[len(_FUNCTIONS) :]
            yield from guarded(reader, session.calls, _call(reader, session, name, start))
            if (yield from skip_past(reader, _CALL_ENDS)) == _START:
                reader.pos -= len(_START)
        elif recipient is not None and recipient.group(1) not in ("assistant", "user"):
            reader.emit(ParseError(start, "unknown_recipient", f"a message to {recipient.group(1)[:80]!r}"))
            yield from skip_past(reader, _CALL_ENDS)
        else:
            kind = Reasoning if channels and channels[-1] == "analysis" else Text
            yield from Prose(reader, kind, strip=False).until(_BODY_ENDS)


DIALECT = Dialect(
    "gpt_oss",
    _grammar,
    models=(r"gpt-?oss",),
    special_tokens=(_START, _CHANNEL, _MESSAGE, _END, _CALL, _RETURN, "<|constrain|>"),
)
