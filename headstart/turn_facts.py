"""One turn's facts as every reader of the log counts them, and the moment from which they are remembered."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from typing import Final, TypeVar

from memory.rows import TurnRow
from memory.store import Store
from streams import ids
from streams.bus import Bus
from streams.codec import decode, identity
from streams.errors import PeerTimeout
from streams.events import Event
from streams.events.turn import TERMINAL_TYPES
from streams.fence import Fence
from streams.topology import EVENTS

REMEMBER_TIMEOUT_S: Final = 60.0
READ_TIMEOUT_S: Final = 30.0
E = TypeVar("E", bound=Event)


async def until_remembered(store: Store, turn: str, timeout_s: float = REMEMBER_TIMEOUT_S) -> TurnRow:
    """Waits until a turn that has ended is stored to its end, with what it gave to remember. Raises PeerTimeout."""
    deadline = time.monotonic() + timeout_s
    while True:
        row = await store.turn(turn)
        if row is not None and row.end_offset >= 0:
            return row
        if time.monotonic() > deadline:
            raise PeerTimeout(f"{turn} was not remembered within {timeout_s:g} s", hint="see the memory worker's log")
        await asyncio.sleep(0.05)


async def facts_of(bus: Bus, turn: str, offset: int, timeout_s: float = READ_TIMEOUT_S) -> list[Event]:
    """The facts of a turn that begins at `offset`, to its end, in the log's order; what no reader counts is left out.
    Raises PeerTimeout when the end is not in the log within `timeout_s`."""
    facts: list[Event] = []
    fence = Fence()
    reader = await bus.reader(EVENTS.name, {ids.partition_of(turn): offset})
    try:
        async with asyncio.timeout(timeout_s):
            while True:
                for record in await reader.batch():
                    fact = identity(record)
                    if fact.subject != turn or fence.judge(fact, record.source, record.type) != "counts":
                        continue
                    facts.append(decode(record))
                    if record.type in TERMINAL_TYPES:
                        return facts
    except TimeoutError:
        raise PeerTimeout(f"{turn} did not end in the log within {timeout_s:g} s", facts=len(facts)) from None
    finally:
        await reader.close()


def of_type(facts: Iterable[Event], kind: type[E]) -> list[E]:
    """Those of one type, in order."""
    return [fact for fact in facts if isinstance(fact, kind)]
