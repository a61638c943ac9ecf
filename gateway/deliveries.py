"""When clients had a turn to its end, by their own word (`headstart.ack`), for whoever looks at its time axis.

Written beside the log, on `deliveries`, after the turn's last frame was acknowledged: nothing waits for it, a record
that the bus does not take is dropped, and so are those beyond PENDING. A socket that never acknowledges costs nothing.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from gateway.axis import ACKNOWLEDGED, Mark
from streams import ids
from streams.bus import Bus
from streams.codec import decode_as
from streams.errors import HeadstartError
from streams.events.delivering import TurnAcknowledged
from streams.events.turn import TurnAccepted
from streams.topology import DELIVERIES

log = logging.getLogger(__name__)
PENDING: Final = 1_000


class Deliveries:
    """Writes them for one gateway. source: its name on the bus; entropy(n) gives n random bytes."""

    def __init__(
        self, bus: Bus, now_ms: Callable[[], int], entropy: Callable[[int], bytes], source: str
    ) -> None:  # fmt: skip
        self._bus, self._now_ms, self._entropy, self._source = bus, now_ms, entropy, source
        self._pending: set[asyncio.Task[None]] = set()
        self.dropped = 0

    def acknowledged(self, conversation: str, turn: str) -> None:
        """A socket's client has everything of this turn. Returns at once."""
        if len(self._pending) >= PENDING:
            self.dropped += 1
            return
        task = asyncio.create_task(self._publish(conversation, turn, self._now_ms()))
        self._pending.add(task)
        task.add_done_callback(self._pending.discard)

    async def stop(self) -> None:
        """Lets go of what is still on its way."""
        for task in self._pending:
            task.cancel()
        await asyncio.gather(*self._pending, return_exceptions=True)

    async def _publish(self, conversation: str, turn: str, at_ms: int) -> None:
        event = TurnAcknowledged(turn=turn, conversation=conversation, at_ms=at_ms)
        name = f"{turn}/acknowledged/{self._entropy(6).hex()}"
        try:
            _ = await self._bus.publish(DELIVERIES.name, _place(turn), conversation, event, name, self._source)
        except HeadstartError as error:
            self.dropped += 1
            log.debug("an acknowledgement was not written down: %s", error)


async def acknowledgements(bus: Bus, accepted: TurnAccepted) -> list[Mark]:
    """What clients said of a turn, as marks on its axis: one for each socket that acknowledged its last frame. Raises
    what the bus raises."""
    place = _place(accepted.turn)
    reader = await bus.reader(DELIVERIES.name, {})
    marks: list[Mark] = []
    try:
        begin = await reader.offset_for_time(place, accepted.at_ms)
        if begin is None:
            return marks
        await reader.add(place, begin)
        end = await reader.end_offset(place)
        while reader.position(place) < end:
            for record in await reader.batch():
                if record.type != TurnAcknowledged.TYPE or not record.event_id.startswith(accepted.turn + "/"):
                    continue
                at_ms = decode_as(record, TurnAcknowledged).at_ms - accepted.at_ms
                marks.append(Mark(lane=ACKNOWLEDGED, name=f"by a client of {record.source}", at_ms=float(at_ms)))
    finally:
        await reader.close()
    return marks


def _place(turn: str) -> int:
    return ids.partition_of(turn) % (DELIVERIES.partitions or 1)
