"""A recording: turns' records as they stood on the topics, with every prompt, manifest and schema that they name.

As text it is JSON Lines: the head, then one line per record, then one per schema, each with its `kind`. A record's
value stands in its line byte for byte, so that what is read back is what was recorded. Nothing else is needed to run
the turns again: no broker, no database, no prompt files.

Pure: bytes in, bytes out. files.py compresses and keeps them.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final

import msgspec

from streams.codec import Record, decode
from streams.errors import InvalidInput
from streams.events.base import PromptRef
from streams.events.registering import PromptRegistered, SetupRegistered, SkillManifest, SkillRegistered
from streams.topology import EVENTS, PROMPTS, SKILLS, TURNS

FORMAT: Final = 1


class Head(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="recording"):
    """The first line. origin: where it was taken from. epoch: of that log; offsets mean something only with it.

    since_ms, until_ms: turns accepted in this span were taken, -1 where it was open. missing: what the turns name and
    the topics no longer had. redacted: personal data was masked (redaction.py). shadow: what was changed when the
    turns were run again, {} for turns as they were.
    """

    format: int = FORMAT
    made_at_ms: int = 0
    origin: str = ""
    epoch: int = 0
    partitions: int = 0
    since_ms: int = -1
    until_ms: int = -1
    turns: int = 0
    redacted: bool = False
    missing: tuple[str, ...] = ()
    shadow: dict[str, str] = msgspec.field(default_factory=dict)


class _RecordLine(msgspec.Struct, kw_only=True, omit_defaults=True, tag_field="kind", tag="record"):
    topic: str
    partition: int
    offset: int
    time_ms: int
    key: str = ""
    headers: dict[str, str] = msgspec.field(default_factory=dict)
    value: msgspec.Raw = msgspec.Raw(b"null")
    encoded: str | None = None


class _SchemaLine(msgspec.Struct, kw_only=True, tag_field="kind", tag="schema"):
    type: str
    schema: dict[str, Any]


_decoder: Final = msgspec.json.Decoder(Head | _RecordLine | _SchemaLine)
_encoder: Final = msgspec.json.Encoder()


@dataclass
class Recording:
    """records: of every topic; those of one partition of a topic stand in the order of their offsets."""

    head: Head
    records: list[Record]
    schemas: dict[str, dict[str, Any]] = field(default_factory=dict)

    def on(self, topic: str) -> Iterator[Record]:
        """The records of one topic."""
        return (record for record in self.records if record.topic == topic)

    @cached_property
    def manifests(self) -> dict[str, SkillManifest]:
        """Every version of every skill, by `name@version`."""
        found = (decode(record) for record in self.on(SKILLS.name) if record.type == SkillRegistered.TYPE)
        return {event.manifest.id: event.manifest for event in found if isinstance(event, SkillRegistered)}

    @cached_property
    def prompts(self) -> dict[PromptRef, str]:
        found = (decode(record) for record in self.on(PROMPTS.name) if record.type == PromptRegistered.TYPE)
        return {
            PromptRef(event.id, event.version): event.text for event in found if isinstance(event, PromptRegistered)
        }

    @cached_property
    def setups(self) -> dict[str, SetupRegistered]:
        found = (decode(record) for record in self.on(PROMPTS.name) if record.type == SetupRegistered.TYPE)
        return {event.id: event for event in found if isinstance(event, SetupRegistered)}

    @property
    def commands(self) -> Iterator[Record]:
        return self.on(TURNS.name)

    @property
    def events(self) -> Iterator[Record]:
        return self.on(EVENTS.name)


def lines(recording: Recording) -> Iterator[bytes]:
    """The recording as text, line by line, each with its newline."""
    yield _encoder.encode(recording.head) + b"\n"
    for record in recording.records:
        yield _encoder.encode(_line(record)) + b"\n"
    for kind, schema in sorted(recording.schemas.items()):
        yield _encoder.encode(_SchemaLine(type=kind, schema=schema)) + b"\n"


def parse(text: Iterable[bytes]) -> Recording:
    """A recording from its lines. Raises InvalidInput (`not_a_recording`, with the line's number) where they are
    something else, and when the format is newer than this build."""
    head: Head | None = None
    records: list[Record] = []
    schemas: dict[str, dict[str, Any]] = {}
    for number, line in enumerate(text, 1):
        if not line.strip():
            continue
        try:
            item = _decoder.decode(line)
            if isinstance(item, _RecordLine):
                records.append(_record(item))
            elif isinstance(item, _SchemaLine):
                schemas[item.type] = item.schema
            else:
                head = item
        except (msgspec.DecodeError, ValueError) as error:
            raise InvalidInput(f"line {number} is not of a recording", code="not_a_recording", line=number) from error
        if head is None:
            raise InvalidInput("a recording begins with its head", code="not_a_recording", line=number)
        if head.format > FORMAT:
            raise InvalidInput(
                f"the recording has format {head.format}, this build knows {FORMAT}", code="not_a_recording",
                hint="read it with the build that made it, or a newer one",
            )  # fmt: skip
    if head is None:
        raise InvalidInput("the recording is empty", code="not_a_recording")
    return Recording(head, records, schemas)


def _line(record: Record) -> _RecordLine:
    headers = {name: value.decode() for name, value in record.headers}
    line = _RecordLine(
        topic=record.topic, partition=record.partition, offset=record.offset, time_ms=record.timestamp_ms,
        key=(record.key or b"").decode(), headers=headers,
    )  # fmt: skip
    if _is_one_line_of_json(record.value):
        line.value = msgspec.Raw(record.value)
    else:
        line.encoded = base64.b64encode(record.value).decode()
    return line


def _record(line: _RecordLine) -> Record:
    value = bytes(line.value) if line.encoded is None else base64.b64decode(line.encoded)
    headers = tuple((name, text.encode()) for name, text in line.headers.items())
    return Record(line.topic, line.partition, line.offset, line.time_ms, line.key.encode() or None, headers, value)


def _is_one_line_of_json(value: bytes) -> bool:
    if b"\n" in value:
        return False
    try:
        msgspec.json.decode(value, type=msgspec.Raw)
    except msgspec.DecodeError:
        return False
    return True
