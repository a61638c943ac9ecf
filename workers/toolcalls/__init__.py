"""Tool calls read out of a model's text while it streams. Pure: text in, facts out.

parser = Parser("hermes")
for chunk in chunks:
    for fact in parser.feed(chunk):
        ...
for fact in parser.finish("stop"):
    ...
"""

from __future__ import annotations

from workers.toolcalls import dialects
from workers.toolcalls.dialects import Dialect
from workers.toolcalls.facts import (
    ArgumentClosed,
    ArgumentsDelta,
    CallClosed,
    CallOpened,
    CallSnapshot,
    CallVoided,
    Fact,
    Limits,
    ParseError,
    Reasoning,
    Repaired,
    StringPart,
    Text,
    merge,
)
from workers.toolcalls.parser import Parser
from workers.toolcalls.push_json import PushJson

__all__ = [
    "ArgumentClosed",
    "ArgumentsDelta",
    "CallClosed",
    "CallOpened",
    "CallSnapshot",
    "CallVoided",
    "Dialect",
    "Fact",
    "Limits",
    "ParseError",
    "Parser",
    "PushJson",
    "Reasoning",
    "Repaired",
    "StringPart",
    "Text",
    "dialects",
    "merge",
]
