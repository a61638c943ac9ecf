"""A turn that is carried: what goes before what."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from streams import ids
from streams.bus import Bus
from streams.events.calling import CallArguments, CallVoided
from streams.events.turn import TurnAccepted
from streams.memory_bus import MemoryBroker, MemoryBus
from tests.support.written_plans import BOOK, FIND, T0, TURN
from workers.planning.commands import AbortCall, Command, Fire, Publish
from workers.planning.live import LiveTurn
from workers.planning.outbox import Outbox

pytestmark = pytest.mark.asyncio
CONVERSATION = ids.conversation_id(1, int(T0), bytes(10))


class Doing:
    """Effects and their calls: notes what is sent."""

    def __init__(self, order: list[str]) -> None:
        self.order, self.calls = order, self

    async def fire(self, accepted: TurnAccepted, item: Fire, *_: object) -> None:
        self.order.append(f"sent {item.manifest.name} {item.claim}")

    def abort(self, turn: str, call: int) -> None:
        self.order.append("aborted")


def fire(manifest: Any, claim: int = 1) -> Fire:
    return Fire(
        call=0, claim=claim, manifest=manifest, arguments={}, key="k", token=0, written=True, closed_at_ms=T0
    )  # fmt: skip


async def done(*commands: Command) -> list[str]:
    order: list[str] = []
    bus = MemoryBus(MemoryBroker(partitions=2))
    await bus.start()
    outbox = Outbox()
    pump = asyncio.create_task(outbox.run())
    await asyncio.sleep(0)
    put, put_acknowledged = outbox.put, outbox.put_acknowledged

    def noted(post: Any) -> Any:
        def posted() -> Any:
            order.append("written")
            return post()

        return posted

    outbox.put = lambda post: put(noted(post))  # type: ignore[method-assign]
    outbox.put_acknowledged = lambda post: put_acknowledged(noted(post))  # type: ignore[method-assign]
    accepted = TurnAccepted(
        turn=TURN, conversation=CONVERSATION, tenant="t", user="u", input=(), at_ms=int(T0), deadline_at_ms=int(T0) * 2
    )  # fmt: skip
    live = LiveTurn(
        accepted, 1, bus=cast(Bus, bus), outbox=outbox, effects=cast(Any, Doing(order)), writer="turns/test",
        place=lambda _: 0, clock_ms=lambda: T0, ended=lambda _: None,
    )  # fmt: skip
    live.carry_out(list(commands))
    for _ in range(20):
        await asyncio.sleep(0)
    pump.cancel()
    await bus.stop()
    return order


ARGUMENTS = Publish(CallArguments(call=0, text="{}"))


async def test_a_pure_call_leaves_before_its_facts_are_written() -> None:
    assert await done(ARGUMENTS, fire(FIND)) == ["sent find 1", "written"]


async def test_any_other_call_follows_what_was_said_before_it() -> None:
    assert (await done(ARGUMENTS, fire(BOOK)))[0] == "written"


async def test_a_call_that_goes_again_is_stopped_first() -> None:
    voided = Publish(CallVoided(call=0, reason="late_argument", at_ms=int(T0), refire=True))
    order = await done(fire(FIND), voided, AbortCall(0), fire(FIND, 2))
    assert "sent find 1" not in order, "it was stopped before it began"
    assert "sent find 2" in order
