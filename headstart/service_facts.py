"""Facts of the log for a service: a handler by type, at least once and in order; and one turn, awaited by its id."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

import msgspec

from headstart.service_consumer import Delivery, set_aside
from memory.records import TurnProjector
from streams import ids
from streams.bus import Bus
from streams.codec import Identity, decode, identity
from streams.errors import HeadstartError, PeerTimeout
from streams.events import Event
from streams.events.turn import TERMINAL_TYPES, TurnEnd
from streams.fence import Fence
from streams.topology import EVENTS

log = logging.getLogger("headstart.service")
RETRY_PAUSES_S: Final = (0.1, 0.5, 2.0)  # a handler that raises is called again this often, then its record set aside
CLOCK_SKEW_MS: Final = 60_000
ANSWER_TIMEOUT_S: Final = 120.0


class Fact(msgspec.Struct, frozen=True, kw_only=True):
    """One fact of the log. identity: its place in its stage; the same fact, should it come twice, has the same one.
    conversation: where it stands. at_ms: the broker's time of the record."""

    event: Event
    identity: Identity
    conversation: str
    source: str
    offset: int
    at_ms: int


OnFact = Callable[[Fact], Awaitable[None]]


class FactFace:
    """Calls the handlers of one service. Its `take` is what a Consumer of `events` is made with."""

    def __init__(
        self, bus: Bus, name: str, handlers: Mapping[str, OnFact],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:  # fmt: skip
        """handlers: by CloudEvents type."""
        self._bus, self._name, self._handlers, self._sleep = bus, name, handlers, sleep

    async def take(self, delivery: Delivery) -> None:
        """One record of `events`; those of other types are passed over unparsed."""
        record = delivery.record
        handler = self._handlers.get(record.type)
        if handler is None:
            return
        try:
            fact = Fact(
                event=decode(record), identity=identity(record), conversation=(record.key or b"").decode(),
                source=record.source, offset=record.offset, at_ms=record.timestamp_ms,
            )  # fmt: skip
            await self._handle(handler, fact)
        except Exception as error:
            log.error("a %s was set aside: %r", record.type, error)
            await set_aside(self._bus, record, error, f"service/{self._name}")

    async def _handle(self, handler: OnFact, fact: Fact) -> None:
        for pause_s in RETRY_PAUSES_S:
            try:
                return await handler(fact)
            except Exception as error:
                log.warning("a handler of %s failed and is called again: %r", fact.event.TYPE, error)
                await self._sleep(pause_s)
        await handler(fact)


class Ended(msgspec.Struct, frozen=True, kw_only=True):
    """A turn's end. status: completed | incomplete | cancelled | failed. text: what was delivered of the answer.
    end: the terminal fact; of a failed turn its `code`, `message` and `hint` say why."""

    turn: str
    status: str
    text: str
    end: TurnEnd
    facts: tuple[Event, ...]


async def turn_ended(bus: Bus, turn: str, timeout_s: float = ANSWER_TIMEOUT_S) -> Ended:
    """Waits for a turn's end in the log, judged as every reader judges it. Reads the turn's partition from the time
    that its id carries: of a keyed turn the time at which its conversation began.

    Raises ValueError on a malformed id, PeerTimeout when the end does not come in time, and what the bus raises.
    """
    partition = ids.partition_of(turn)
    reader = await bus.reader(EVENTS.name, {})
    fence, projector, facts = Fence(), TurnProjector(), list[Event]()
    try:
        async with asyncio.timeout(timeout_s):
            end = await reader.end_offset(partition)  # asked first: the turn may begin while the other is asked
            since = await reader.offset_for_time(partition, ids.time_of(turn) - CLOCK_SKEW_MS)
            await reader.add(partition, end if since is None else since)
            while True:
                for record in await reader.batch():
                    try:
                        fact = identity(record)
                        if fact.subject != turn or fence.judge(fact, record.source, record.type) != "counts":
                            continue
                        event = decode(record)
                    except HeadstartError:
                        continue  # every reader skips what it can not read
                    facts.append(event)
                    projector.feed(fact, event, record.offset)
                    if record.type in TERMINAL_TYPES and isinstance(event, TurnEnd):
                        return _ended(turn, event, projector, tuple(facts))
    except TimeoutError:
        raise PeerTimeout(f"{turn} did not end within {timeout_s:g} s", code="turn_not_ended", turn=turn) from None
    finally:
        await reader.close()


def _ended(turn: str, end: TurnEnd, projector: TurnProjector, facts: tuple[Event, ...]) -> Ended:
    record = projector.record()
    said = [message.text for message in record.messages if message.name == "answer"]
    return Ended(turn=turn, status=record.status, text="".join(said), end=end, facts=facts)
