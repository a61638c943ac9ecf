"""The demo skill service with a ledger that outlives it: `python -m tests.faults.skill_service`.

HEADSTART_TEST_LEDGER names the file. A line is one thing that happened, written and synced before the caller hears of
it, so that what a killed service did is known.
"""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec

from headstart.demo.notebook import Arrival, Ledger
from headstart.demo_service import demo_service
from memory.opening import open_bus
from streams.process import Running, run_process
from streams.settings import Settings

LEDGER = "HEADSTART_TEST_LEDGER"


class Line(msgspec.Struct, frozen=True, omit_defaults=True):
    """what: the skill. effect: it was carried out; else its request arrived."""

    what: str
    effect: bool
    detail: dict[str, Any] = {}
    turn: str = ""
    call: int = -1
    claim: int = -1


class WrittenLedger(Ledger):
    """`Ledger`, line by line in a file too."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self._lines = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def arrived(self, arrival: Arrival) -> None:
        super().arrived(arrival)
        self._write(Line(arrival.skill, False, turn=arrival.turn, call=arrival.call, claim=arrival.claim))

    def done(self, what: str, detail: dict[str, Any], tenant: str, user: str) -> int:
        self._write(Line(what, True, detail))
        return super().done(what, detail, tenant, user)

    def _write(self, line: Line) -> None:
        os.write(self._lines, msgspec.json.encode(line) + b"\n")
        os.fsync(self._lines)


def read_ledger(file: Path) -> list[Line]:
    """Every whole line so far; a line that a killed service left half is none."""
    if not file.exists():
        return []
    *lines, _ = file.read_bytes().split(b"\n")
    return [msgspec.json.decode(line, type=Line) for line in lines if line]


@asynccontextmanager
async def stage(settings: Settings) -> AsyncIterator[Running]:
    """The process (streams.process)."""
    async with open_bus(settings, "headstart-demo") as bus:
        service = demo_service(settings, WrittenLedger(Path(os.environ[LEDGER])))
        await service.start(bus)
        try:
            yield Running("demo service")
        finally:
            await service.stop()


if __name__ == "__main__":
    sys.exit(run_process(stage))
