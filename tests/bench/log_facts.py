"""What the log says about measured turns: when each delta was handed to the bus, and what a turn's own look-ups took.

Records carry their producer's wall clock in whole milliseconds, so a hop read off them is up to 1 ms too long.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from memory.opening import open_bus
from streams.codec import decode_as
from streams.events.calling import CallFired
from streams.events.generating import AnswerStarted, ModelAsked, PlanStarted
from streams.events.recalling import Recalled, SkillsDiscovered
from streams.events.turn import TurnAccepted
from streams.offsets import Cursor
from streams.settings import Settings
from streams.topology import EVENTS
from tests.bench.driving import MS, TurnTimes, clock
from tests.bench.figures import Spread, spread

HOPS: Final = {
    TurnAccepted.TYPE: "to_accepted",
    ModelAsked.TYPE: "to_asked",
    PlanStarted.TYPE: "to_started",
    AnswerStarted.TYPE: "to_started",
}


@dataclass(slots=True)
class LogFacts:
    """hop: worker → bus → gateway → client, of answer deltas. The others are the turns' own words, in milliseconds:
    embedding the question, recalling from Postgres, finding skills, from a closed argument to the request sent.
    Hops of a turn's beginning: client's send → `turn.accepted`, → the first model call is asked for, → its worker has
    started it."""

    hop: Spread = field(default_factory=lambda: spread(()))
    embed: Spread = field(default_factory=lambda: spread(()))
    recall: Spread = field(default_factory=lambda: spread(()))
    discover: Spread = field(default_factory=lambda: spread(()))
    fire: Spread = field(default_factory=lambda: spread(()))
    to_accepted: Spread = field(default_factory=lambda: spread(()))
    to_asked: Spread = field(default_factory=lambda: spread(()))
    to_started: Spread = field(default_factory=lambda: spread(()))

    @property
    def look_ups_ms(self) -> float:
        """What the medians of a turn's look-ups add up to."""
        discover = self.discover.p50 if self.discover.count else 0.0
        return self.embed.p50 + self.recall.p50 + discover


class LogMark:
    """Ends of the partitions of `events` now; `facts` reads what was written since."""

    def __init__(self, settings: Settings, starts: dict[int, int]) -> None:
        self._settings, self._starts = settings, starts

    @classmethod
    async def now(cls, settings: Settings) -> LogMark:
        async with open_bus(settings, "bench") as bus:
            reader = await bus.reader(EVENTS.name, {})
            try:
                return cls(settings, {number: await reader.end_offset(number) for number in range(bus.partitions)})
            finally:
                await reader.close()

    async def facts(self, turns: Sequence[TurnTimes]) -> LogFacts:
        """Of the turns' deltas, and of every turn in the log since the mark."""
        wall_s = time.time() - clock()
        arrived = {}
        steps: dict[bytes, dict[str, float]] = {}  # by conversation: when each of HOPS was first met
        for turn in turns:
            steps[Cursor.decode(turn.deltas[0][1]).conversation.encode()] = {"": (turn.began + wall_s) * MS}
            for at, cursor in turn.deltas:
                place = Cursor.decode(cursor)
                arrived[place.partition, place.offset] = (at + wall_s) * MS
        kinds: dict[str, list[float]] = {name: [] for name in LogFacts.__dataclass_fields__}
        async with open_bus(self._settings, "bench") as bus:
            reader = await bus.reader(EVENTS.name, self._starts)
            try:
                ends = {number: await reader.end_offset(number) for number in self._starts}
                while any(reader.position(number) < end for number, end in ends.items()):
                    for record in await reader.batch(max_records=5000):
                        at_ms = arrived.get((record.partition, record.offset))
                        met = steps.get(record.key or b"")
                        if met is not None and (hop := HOPS.get(record.type)) is not None:
                            met.setdefault(hop, record.timestamp_ms)
                        if at_ms is not None:
                            kinds["hop"].append(at_ms - record.timestamp_ms)
                        elif record.type == Recalled.TYPE:
                            recalled = decode_as(record, Recalled)
                            kinds["embed"].append(recalled.embed_ms)
                            kinds["recall"].append(recalled.took_ms)
                        elif record.type == SkillsDiscovered.TYPE:
                            kinds["discover"].append(decode_as(record, SkillsDiscovered).took_ms)
                        elif record.type == CallFired.TYPE:
                            kinds["fire"].append(decode_as(record, CallFired).closed_to_wire_ms)
            finally:
                await reader.close()
        for met in steps.values():
            for before, hop in (("", "to_accepted"), ("to_accepted", "to_asked"), ("to_asked", "to_started")):
                kinds[hop].append(met[hop] - met[before])
        return LogFacts(**{name: spread(values) for name, values in kinds.items()})
