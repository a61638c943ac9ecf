"""Results that come before they are waited for, in time, twice, and after the end."""

from __future__ import annotations

import asyncio

import pytest

from streams.events.intake import CallResult
from workers.skills.awaited import EARLY_PER_TURN, Awaited

pytestmark = pytest.mark.asyncio
TURN = "turn_1"


def result(call: int = 0, key: str = "k", text: str = "1", claim: int = 1) -> CallResult:
    return CallResult(turn=TURN, call=call, claim=claim, at_ms=0, result=text, key=key)


class Done:
    def __init__(self) -> None:
        self.count = 0

    def __call__(self) -> None:
        self.count += 1


async def test_a_result_reaches_who_waits_and_its_record_is_held_until_the_outcome_stands() -> None:
    awaited, done = Awaited(), Done()
    awaited.expect(TURN, 0, "k", "owner")
    waiting = asyncio.create_task(awaited.next(TURN, 0, "k"))
    await asyncio.sleep(0)
    assert awaited.waits(TURN, 0, "k")
    assert awaited.take(result(), "e1", "owner", done) == "taken"
    assert (await waiting)[0].result == "1"
    assert done.count == 0
    awaited.settled(TURN, 0)
    assert done.count == 1


async def test_the_same_record_again_and_a_second_answer_repeat() -> None:
    awaited, first, again, late = Awaited(), Done(), Done(), Done()
    awaited.expect(TURN, 0, "k", "owner")
    awaited.take(result(), "e1", "owner", first)
    assert awaited.take(result(), "e1", "owner", again) == "repeated"
    assert again.count == 1
    await awaited.next(TURN, 0, "k")
    awaited.settled(TURN, 0)
    assert awaited.take(result(text="2"), "e2", "owner", late) == "repeated"
    assert (first.count, late.count) == (1, 1)


async def test_a_result_of_an_earlier_claim_waits_for_the_successor() -> None:
    awaited, done = Awaited(), Done()
    assert awaited.take(result(claim=1), "e1", "owner", done) == "early"
    awaited.expect(TURN, 0, "k", "owner")
    found, signer = await awaited.next(TURN, 0, "k")
    assert (found.claim, signer, done.count) == (1, "owner", 0)


async def test_another_key_is_another_call() -> None:
    awaited, old, new = Awaited(), Done(), Done()
    awaited.expect(TURN, 0, "whole", "owner")
    assert awaited.take(result(key="early"), "e1", "owner", old) == "early"
    assert awaited.take(result(key="whole", text="2"), "e2", "owner", new) == "taken"
    assert (await awaited.next(TURN, 0, "whole"))[0].result == "2"


async def test_a_cancelled_wait_loses_nothing() -> None:
    awaited = Awaited()
    awaited.expect(TURN, 0, "k", "owner")
    waiting = asyncio.create_task(awaited.next(TURN, 0, "k"))
    await asyncio.sleep(0)
    awaited.take(result(), "e1", "owner", Done())
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    assert (await awaited.next(TURN, 0, "k"))[0].result == "1"


async def test_the_end_of_a_turn_lets_go_of_all_but_what_is_waited_for() -> None:
    awaited, dropped, kept = Awaited(), Done(), Done()
    awaited.take(result(call=1), "e1", "owner", dropped)
    awaited.expect(TURN, 0, "undo", "owner")
    waiting = asyncio.create_task(awaited.next(TURN, 0, "undo"))
    await asyncio.sleep(0)
    awaited.forget(TURN)
    assert (dropped.count, len(awaited)) == (1, 1)
    assert awaited.take(result(key="undo"), "e2", "owner", kept) == "taken"
    await waiting
    awaited.settled(TURN, 0)
    assert (kept.count, len(awaited)) == (1, 0)


async def test_a_cancelled_wait_of_an_ended_turn_leaves_nothing_behind() -> None:
    awaited = Awaited()
    awaited.expect(TURN, 0, "k", "owner")
    waiting = asyncio.create_task(awaited.next(TURN, 0, "k"))
    await asyncio.sleep(0)
    awaited.forget(TURN)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    awaited.left(TURN, 0, "k")
    assert len(awaited) == 0


async def test_results_nobody_asked_for_are_bounded() -> None:
    awaited, over = Awaited(), Done()
    for number in range(EARLY_PER_TURN):
        assert awaited.take(result(call=number), f"e{number}", "owner", Done()) == "early"
    assert awaited.take(result(call=EARLY_PER_TURN), "e", "owner", over) == "unexpected"
    assert over.count == 1
