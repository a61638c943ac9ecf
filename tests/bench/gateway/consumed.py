"""What a consumer of the comparison is asked, and what it says: the same for ours and FastStream's."""

from __future__ import annotations

import os
import time

import msgspec

from streams.codec import Record, decode
from streams.events.generating import AnswerDelta


class Task(msgspec.Struct, frozen=True):
    """kind: which consumer; its group too. namespace: of the topic. records: how many to read from its beginning."""

    kind: str
    namespace: str
    records: int


class Consumed(msgspec.Struct, frozen=True):
    """records: handled. cpu_us: of the consumer's process, per record. Both from the first record to the last."""

    kind: str
    records: int
    per_second: float
    cpu_us: float


class Handler:
    """What is done with every record, whoever reads it: make the typed event, keep the order of its key in mind."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self.handled = 0
        self._began_s = self._began_cpu_s = 0.0
        self._last: dict[bytes, int] = {}

    def handle(self, record: Record) -> bool:
        """True when it was the last one."""
        if not self.handled:
            self._began_s, self._began_cpu_s = time.perf_counter(), time.process_time()
        event = decode(record)
        assert isinstance(event, AnswerDelta)
        key = record.key or b""
        assert self._last.get(key, -1) < event.index, "out of order"
        self._last[key] = event.index
        self.handled += 1
        return self.handled == self.task.records

    def consumed(self) -> Consumed:
        took_s = time.perf_counter() - self._began_s
        cpu_s = time.process_time() - self._began_cpu_s
        return Consumed(self.task.kind, self.handled, self.handled / took_s, cpu_s * 1e6 / self.handled)

    def say(self) -> None:
        """Gives the figures to whoever started this process."""
        os.write(1, msgspec.json.encode(self.consumed()) + b"\n")
