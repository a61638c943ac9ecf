"""Dead letters: found, shown, put back."""

from __future__ import annotations

import pytest

from headstart.dead import find, letters, put_back
from streams import ids
from streams.bus import Bus
from streams.codec import decode
from streams.dead_letters import dead_letter
from streams.errors import HeadstartError, InvalidInput, NotFound, Refused
from streams.events.base import InputItem
from streams.events.intake import TurnCancel, TurnSubmit
from streams.events.turn import TurnHeartbeat
from streams.memory_bus import MemoryBus
from streams.signing import KEY_HEADER

CONVERSATION = ids.conversation_id(3, 1_000, bytes(10))
TURN = ids.turn_id(CONVERSATION, 2_000, bytes(10))
SUBMIT = TurnSubmit(turn=TURN, conversation=CONVERSATION, tenant="t", user="u", input=(InputItem(text="hi"),), at_ms=1)
CANCEL = TurnCancel(turn=TURN, tenant="t", user="u", at_ms=1)


async def bury(bus: Bus, topic: str, event: TurnSubmit | TurnCancel | TurnHeartbeat, *more: tuple[str, bytes]) -> str:
    """Publish an event, let somebody give it up; the name of its letter."""
    extra = [("traceparent", b"00-1-2-01"), *more]
    offset = await bus.publish(topic, 3, CONVERSATION, event, "id-1", "gateway/1", extra)
    reader = await bus.reader(topic, {3: offset})
    (record,) = await reader.batch()
    return f"3:{await dead_letter(bus, record, InvalidInput('no', code='odd'), 'turns')}"


@pytest.mark.asyncio
async def test_a_submit_goes_back_as_a_new_turn_which_is_always_the_same() -> None:
    bus = MemoryBus(partitions=4)
    await bus.start()
    place = await bury(bus, "turns", SUBMIT)
    ((record, why),) = await letters(bus)
    assert (why.code, why.stage, why.topic, why.partition, why.offset) == ("odd", "turns", "turns", 3, 0)
    assert (await find(bus, place))[0] == record
    assert await put_back(bus, place) == ("turns", 3, 1)
    assert await put_back(bus, place) == ("turns", 3, 2)
    reader = await bus.reader("turns", {3: "earliest"})
    original, first, second = await reader.batch()
    again = decode(first)
    assert isinstance(again, TurnSubmit)
    assert again.turn != TURN
    assert ids.partition_of(again.turn) == 3
    assert (again.input, again.conversation) == (SUBMIT.input, CONVERSATION)
    assert decode(second) == again
    assert first.event_id == again.turn
    assert (first.key, first.header("traceparent")) == (original.key, "00-1-2-01")
    assert first.header("dead_retry") == place
    assert len(await letters(bus)) == 1  # it stays


@pytest.mark.parametrize(("event", "more"), [(CANCEL, []), (SUBMIT, [(KEY_HEADER, b"key-1")])])
@pytest.mark.asyncio
async def test_other_commands_and_signed_ones_go_back_as_they_were(
    event: TurnSubmit | TurnCancel, more: list[tuple[str, bytes]]
) -> None:
    bus = MemoryBus(partitions=4)
    await bus.start()
    await put_back(bus, await bury(bus, "turns", event, *more))
    reader = await bus.reader("turns", {3: "earliest"})
    original, again = await reader.batch()
    assert again.value == original.value
    assert list(again.headers) == [*original.headers, ("dead_retry", b"3:0")]


@pytest.mark.asyncio
async def test_a_fact_is_not_appended_again() -> None:
    bus = MemoryBus(partitions=4)
    await bus.start()
    with pytest.raises(Refused):
        await put_back(bus, await bury(bus, "events", TurnHeartbeat(at_ms=1)))


@pytest.mark.parametrize(
    ("place", "error"), [("3:9", NotFound), ("9:0", NotFound), ("three", InvalidInput), ("3:-1", InvalidInput)]
)
@pytest.mark.asyncio
async def test_a_letter_that_is_not_there(place: str, error: type[HeadstartError]) -> None:
    bus = MemoryBus(partitions=4)
    await bus.start()
    with pytest.raises(error):
        await find(bus, place)
