"""What could not be processed is kept whole: its bytes and headers as they were, with the reason beside them.

A dead letter is the record itself on `dead_letters`, plus headers whose names begin with `dead_`. So nothing is
re-encoded, a record of any size fits (the topic takes twice the size of the others), and it can be put back as it was.
"""

from __future__ import annotations

import time
import traceback

import msgspec

from streams.bus import Bus
from streams.codec import Record
from streams.errors import HeadstartError, InvalidInput
from streams.topology import DEAD_LETTERS

PREFIX = "dead_"
TRACE_CHARACTERS = 8_000  # the end of a traceback says what happened; all of it could outgrow the record


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True):
    """Why a record was set aside and where it came from. at_ms: wall clock."""

    topic: str
    partition: int
    offset: int
    stage: str
    code: str
    fault: str
    reason: str
    at_ms: int
    trace: str = ""

    def headers(self) -> list[tuple[str, bytes]]:
        return [(PREFIX + name, str(value).encode()) for name, value in msgspec.structs.asdict(self).items()]

    @staticmethod
    def of(record: Record) -> DeadLetter:
        """Raises InvalidInput (`not_a_dead_letter`) when the record does not say why it is there."""
        values = {name[len(PREFIX) :]: value.decode() for name, value in record.headers if name.startswith(PREFIX)}
        try:
            return msgspec.convert(values, DeadLetter, strict=False)
        except msgspec.ValidationError as error:
            raise InvalidInput("the record does not say why it is a dead letter", code="not_a_dead_letter") from error


def original_headers(record: Record) -> list[tuple[str, bytes]]:
    """The headers that the record had before it was set aside."""
    return [(name, value) for name, value in record.headers if not name.startswith(PREFIX)]


async def dead_letter(bus: Bus, record: Record, error: BaseException, stage: str) -> int:
    """Keep a record that could not be processed; gives its offset on `dead_letters`.

    stage: who gave up on it. Returns when it is kept, so the record may be committed afterwards. Raises what
    `Bus.publish` raises; the record is then not kept and must not be committed.
    """
    typed = error if isinstance(error, HeadstartError) else None
    letter = DeadLetter(
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        stage=stage,
        code=typed.code if typed else "defect",
        fault=typed.fault if typed else "ours",
        reason=(str(error) or type(error).__name__)[:TRACE_CHARACTERS],
        at_ms=time.time_ns() // 1_000_000,
        trace="".join(traceback.format_exception(error))[-TRACE_CHARACTERS:],
    )
    headers = [*original_headers(record), *letter.headers()]
    partition = record.partition % await bus.partitions_of(DEAD_LETTERS.name)
    return await (await bus.post_raw(DEAD_LETTERS.name, partition, record.key, record.value, headers))
