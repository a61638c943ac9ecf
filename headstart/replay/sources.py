"""Where turns come from: a recording's file, or the log itself.

FILE                         a recording, compressed or not
log                          every turn of the log, as far as --since, --until and --conversation say
conv_… | turn_… | resp_…     one conversation, or one turn, from the log
"""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import msgspec

from headstart.replay.access import authorised
from headstart.replay.archive import read_archive
from headstart.replay.files import read_recording
from headstart.replay.recorder import Selection, choose, record
from headstart.replay.recording import Recording
from memory.opening import open_bus
from streams import ids
from streams.errors import InvalidInput
from streams.settings import Settings

LOG: Final = "log"
_UNITS_MS: Final = {"s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}


def is_log(source: str) -> bool:
    """The source is read from the broker, and so belongs to people who may be somebody else."""
    return source == LOG or _named(source) is not None


async def open_source(source: str, selection: Selection, settings: Settings, command: str = "read") -> Recording:
    """The turns of a source that the selection takes; of the log what the reader may see (access.py). Raises NotFound
    or InvalidInput for a file; NotPermitted, and Misconfigured without HEADSTART_KAFKA, for the log."""
    named = _named(source)
    if source != LOG and named is None and Path(source).is_dir():
        span = read_archive(Path(source), selection.since_ms, selection.until_ms, selection.partitions)
        return choose(span, selection)
    if source != LOG and named is None:
        recording = read_recording(Path(source))
        return recording if selection == Selection() else choose(recording, selection)
    if named is not None:
        selection = _also(selection, named)
    selection = await authorised(settings, command, selection)
    async with open_bus(settings, "headstart-replay") as bus:
        return await record(bus, selection, now_ms=_now_ms(), origin=settings.kafka or "")


def selection(
    *, since: str = "", until: str = "", conversations: list[str] | None = None, turns: list[str] | None = None,
    tenant: str = "", user: str = "",
) -> Selection:  # fmt: skip
    """What the options of a command choose. Raises InvalidInput for a time or an id that is none."""
    for conversation in conversations or []:
        if not ids.is_id(ids.CONVERSATION, conversation):
            raise InvalidInput("that is not a conversation's id", hint="it begins with conv_ and has 36 hex digits")
    named = [turn_id(turn) for turn in turns or []]
    return Selection(
        since_ms=moment_ms(since), until_ms=moment_ms(until), conversations=frozenset(conversations or ()),
        turns=frozenset(named), tenant=tenant, user=user,
    )  # fmt: skip


def turn_id(text: str) -> str:
    """A turn's id from its own or its response's. Raises InvalidInput."""
    if text.startswith(f"{ids.RESPONSE}_") and ids.is_id(ids.RESPONSE, text):
        return ids.turn_of(text)
    if not ids.is_id(ids.TURN, text):
        raise InvalidInput("that is not a turn's id", hint="it begins with turn_ or resp_ and has 36 hex digits")
    return text


def moment_ms(text: str) -> int:
    """A wall-clock time in milliseconds: `10m` ago, or an ISO date and time (UTC unless it says otherwise); -1 for "".
    Raises InvalidInput."""
    if not text:
        return -1
    if re.fullmatch(r"\d+[smhd]", text):
        return _now_ms() - duration_ms(text)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise InvalidInput(
            f"{text!r} is not a time", hint="how long ago (90s, 10m, 2h, 1d), or a date such as 2026-02-03T14:00"
        ) from error
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)


def duration_ms(text: str) -> int:
    """`90s`, `10m`, `2h`, `1d` in milliseconds. Raises InvalidInput."""
    if not re.fullmatch(r"\d+[smhd]", text):
        raise InvalidInput(f"{text!r} is not a duration", hint="a number and s, m, h or d: 90s, 10m, 2h, 1d")
    return int(text[:-1]) * _UNITS_MS[text[-1]]


def _named(source: str) -> Selection | None:
    if ids.is_id(ids.CONVERSATION, source):
        return Selection(conversations=frozenset({source}))
    if ids.is_id(ids.TURN, source) or ids.is_id(ids.RESPONSE, source):
        return Selection(turns=frozenset({turn_id(source)}))
    return None


def _also(one: Selection, other: Selection) -> Selection:
    return msgspec.structs.replace(
        one, conversations=one.conversations | other.conversations, turns=one.turns | other.turns
    )  # fmt: skip


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
