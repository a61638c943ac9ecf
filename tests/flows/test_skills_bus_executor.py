"""Calls over a bus in memory, with the skill's owner played by the test."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from streams import ids
from streams.bus import Reader
from streams.codec import Record, decode
from streams.errors import NotPermitted, OurError, PeerError
from streams.events.calling import CallAbandoned, CallRequested
from streams.events.intake import CallResult
from streams.events.registering import SkillManifest
from streams.memory_bus import MemoryBroker, MemoryBus
from workers.skills.bus_executor import CONTEXT_HEADER, BusExecutor
from workers.skills.context import CallContext, verify
from workers.skills.failures import in_doubt

pytestmark = pytest.mark.asyncio
SECRET = "a-signing-key-for-tests"
NOW_MS = 1_763_700_000_000
CONVERSATION = ids.conversation_id(1, NOW_MS, bytes(10))
TURN = ids.turn_id(CONVERSATION, NOW_MS, bytes(10))
OWNER = "directory"


def manifest(**more: Any) -> SkillManifest:
    parameters = {"type": "object", "properties": {"title": {"type": "string"}}, "required": ["title"]}
    values: dict[str, Any] = {
        "name": "search", "version": "1", "description": "finds", "parameters": parameters, "owner": OWNER, "bus": True,
        "timeout_ms": 5_000,
    } | more  # fmt: skip
    return SkillManifest(**values)


def context(**more: Any) -> CallContext:
    values: dict[str, Any] = {
        "turn": TURN, "call": 0, "tenant": "acme", "user": "ada", "key": "key-1", "conversation": CONVERSATION,
    } | more  # fmt: skip
    return CallContext(**values)


class Expiring:
    """`asyncio.timeout` whose time the test decides."""

    def __init__(self) -> None:
        self.scopes: list[asyncio.Timeout] = []

    def __call__(self, seconds: float) -> asyncio.Timeout:
        self.scopes.append(asyncio.timeout(None))
        return self.scopes[-1]

    def expire(self) -> None:
        self.scopes[-1].reschedule(0)


class World:
    def __init__(self, bus: MemoryBus, executor: BusExecutor, reader: Reader, time: Expiring) -> None:
        self.bus, self.executor, self.time = bus, executor, time
        self._reader = reader
        self.done = 0

    async def heard(self) -> tuple[Record, Any]:
        """The next record of `calls`."""
        while True:
            for record in await self._reader.batch(max_records=1):
                return record, decode(record)

    def answer(self, request: CallRequested, signer: str = OWNER, event_id: str = "", **more: Any) -> str:
        values: dict[str, Any] = {"result": '{"n": 1}'} if "error" not in more else {}
        said = CallResult(
            turn=request.turn, call=request.call, claim=request.claim, at_ms=NOW_MS, key=request.key,
            tenant=request.tenant, **(values | more),
        )  # fmt: skip
        return self.executor.take(said, event_id or f"{request.attempt}/result", signer, self._count)

    def _count(self) -> None:
        self.done += 1


@asynccontextmanager
async def world() -> AsyncIterator[World]:
    bus = MemoryBus(MemoryBroker(partitions=2))
    await bus.start()
    time = Expiring()

    async def no_pause(seconds: float) -> None:
        await asyncio.sleep(0)

    executor = BusExecutor(
        bus, signing_key=SECRET, source="turns/1", clock_ms=lambda: NOW_MS, timeout=time, sleep=no_pause
    )  # fmt: skip
    reader = await bus.reader("calls", {1: "earliest"})
    async with asyncio.timeout(30):
        yield World(bus, executor, reader, time)
    await reader.close()
    await bus.stop()


async def test_a_request_says_who_it_is_for_and_its_result_comes_back() -> None:
    async with world() as scene:
        sent: list[bool] = []
        calling = asyncio.create_task(
            scene.executor.call(manifest(), {"title": "cook"}, context(), lambda: sent.append(True))
        )  # fmt: skip
        record, request = await scene.heard()
        assert isinstance(request, CallRequested)
        assert (record.partition, record.key, record.header("ce_subject")) == (1, CONVERSATION.encode(), "search@1")
        assert record.event_id == f"{TURN}/call.0/1/1"
        assert (request.arguments, request.tenant, request.user, request.key) == (
            {"title": "cook"}, "acme", "ada", "key-1",
        )  # fmt: skip
        assert request.deadline_at_ms == NOW_MS + 5_000
        verified = verify(record.header(CONTEXT_HEADER) or "", "search", record.value, "key-1", NOW_MS, SECRET)
        assert (verified.tenant, verified.turn) == ("acme", TURN)
        assert sent == [True]
        assert scene.answer(request) == "taken"
        outcome = await calling
        assert (outcome.result, outcome.status, outcome.attempts) == ('{"n": 1}', 200, 1)
        assert scene.done == 0
        scene.executor.settled(TURN, 0)
        assert scene.done == 1


async def test_a_result_that_is_there_already_is_used_and_nothing_is_sent() -> None:
    """A worker that took the turn over: the one before asked, under another claim."""
    async with world() as scene:
        asked = CallRequested(
            conversation=CONVERSATION, turn=TURN, call=0, claim=1, skill="search@1", arguments={}, tenant="acme",
            user="ada", key="key-1", at_ms=NOW_MS, deadline_at_ms=NOW_MS,
        )  # fmt: skip
        assert scene.answer(asked) == "early"
        outcome = await scene.executor.call(manifest(), {"title": "cook"}, context(claim=2))
        assert outcome.result == '{"n": 1}'
        assert await (await scene.bus.reader("calls", {1: "earliest"})).end_offset(1) == 0


async def test_what_may_have_been_sent_before_is_only_waited_for() -> None:
    async with world() as scene:
        skill = manifest(effect="irreversible")
        calling = asyncio.create_task(scene.executor.call(skill, {"title": "x"}, context(claim=2, sent_before=True)))
        for _ in range(10):
            await asyncio.sleep(0)
        assert scene.executor.awaits(CallResult(turn=TURN, call=0, claim=1, at_ms=0, key="key-1"))
        scene.time.expire()
        with pytest.raises(OurError) as caught:
            await calling
        assert caught.value.code == "call_in_doubt"
        assert await (await scene.bus.reader("calls", {1: "earliest"})).end_offset(1) == 0


async def test_silence_ends_with_the_time_out_and_the_skill_is_told() -> None:
    async with world() as scene:
        skill = manifest(effect="irreversible")
        calling = asyncio.create_task(scene.executor.call(skill, {"title": "x"}, context()))
        _, request = await scene.heard()
        scene.time.expire()
        with pytest.raises(PeerError) as caught:
            await calling
        assert caught.value.code == "skill_timeout"
        assert in_doubt(skill, caught.value)
        record, abandoned = await scene.heard()
        assert isinstance(abandoned, CallAbandoned)
        assert (abandoned.turn, abandoned.call, abandoned.key) == (TURN, 0, "key-1")
        assert record.header("ce_subject") == "search@1"
        scene.executor.settled(TURN, 0)
        assert scene.answer(request) == "repeated"
        assert scene.done == 1


async def test_a_call_that_is_aborted_tells_its_skill_and_one_that_is_let_go_does_not() -> None:
    async with world() as scene:
        for told in (False, True):
            calling = asyncio.create_task(scene.executor.call(manifest(), {"title": "x"}, context()))
            await scene.heard()
            calling.cancel()
            if told:
                scene.executor.abandon(TURN, 0)
            await asyncio.gather(calling, return_exceptions=True)
            assert calling.cancelled()
        _, abandoned = await scene.heard()
        assert isinstance(abandoned, CallAbandoned)


@pytest.mark.parametrize(
    ("error", "retriable", "code"),
    [("refused", False, "skill_refused"), ("failed", False, "skill_failed"), ("anything", False, "skill_failed")],
)
async def test_a_services_word_is_an_error_by_name(error: str, retriable: bool, code: str) -> None:
    async with world() as scene:
        calling = asyncio.create_task(scene.executor.call(manifest(), {"title": "x"}, context()))
        _, request = await scene.heard()
        scene.answer(request, error=error, retriable=retriable)
        with pytest.raises(PeerError) as caught:
            await calling
        assert (caught.value.code, caught.value.facts["sent"]) == (code, True)


@pytest.mark.parametrize("error", ["busy", "failed"])
async def test_a_harmless_call_goes_again_and_another_does_not(error: str) -> None:
    async with world() as scene:
        calling = asyncio.create_task(scene.executor.call(manifest(retries=1), {"title": "x"}, context()))
        _, first = await scene.heard()
        scene.answer(first, error=error, retriable=True)
        record, second = await scene.heard()
        assert (second.attempt, record.event_id) == (2, f"{TURN}/call.0/1/2")
        scene.answer(first, error=error, retriable=True)  # the first one's again: a repeat
        scene.answer(second)
        assert (await calling).attempts == 2
        effect = manifest(effect="irreversible", retries=3)
        calling = asyncio.create_task(scene.executor.call(effect, {"title": "x"}, context(call=1, key="key-2")))
        _, request = await scene.heard()
        scene.answer(request, error=error, retriable=True)
        with pytest.raises(PeerError):
            await calling


async def test_only_the_owner_may_answer() -> None:
    async with world() as scene:
        calling = asyncio.create_task(scene.executor.call(manifest(), {"title": "x"}, context()))
        _, request = await scene.heard()
        with pytest.raises(NotPermitted) as caught:
            scene.answer(request, signer="mallory")
        assert caught.value.code == "not_the_owner"
        assert not calling.done()
        scene.answer(request, event_id="right")
        assert (await calling).result == '{"n": 1}'
        assert scene.executor.results["not_the_owner"] == 1


async def test_a_strangers_early_result_is_dropped() -> None:
    async with world() as scene:
        calling = asyncio.create_task(scene.executor.call(manifest(), {"title": "x"}, context()))
        await scene.heard()
        calling.cancel()
        await asyncio.gather(calling, return_exceptions=True)
        executor = BusExecutor(scene.bus, signing_key=None, source="turns/2", clock_ms=lambda: NOW_MS)
        stranger = CallResult(turn=TURN, call=0, claim=1, at_ms=0, result='{"n": 6}', key="key-1")
        assert executor.take(stranger, "e0", "mallory", lambda: None) == "early"
        calling = asyncio.create_task(executor.call(manifest(), {"title": "x"}, context(claim=2)))
        await scene.heard()
        executor.take(
            CallResult(turn=TURN, call=0, claim=2, at_ms=0, result="7", key="key-1"), "e1", OWNER, lambda: None
        )
        assert (await calling).result == "7"


async def test_results_are_held_to_what_was_declared_and_cut() -> None:
    async with world() as scene:
        promised = manifest(returns={"type": "object"}, result_bytes=64)
        for text, code in (("[1]", "skill_lied"), ("not json", "skill_lied")):
            calling = asyncio.create_task(scene.executor.call(promised, {"title": "x"}, context(key=text)))
            _, request = await scene.heard()
            scene.answer(request, result=text)
            with pytest.raises(PeerError) as caught:
                await calling
            assert caught.value.code == code
        calling = asyncio.create_task(scene.executor.call(promised, {"title": "x"}, context(key="long")))
        _, request = await scene.heard()
        scene.answer(request, result='{"a": "' + "é" * 100 + '"}')
        outcome = await calling
        assert (outcome.cut, len(outcome.result.encode()) <= 64, outcome.size_bytes) == (True, True, 209)


async def test_a_turn_past_its_deadline_sends_nothing() -> None:
    async with world() as scene:
        with pytest.raises(PeerError) as caught:
            await scene.executor.call(manifest(), {"title": "x"}, context(deadline_at_ms=NOW_MS - 1))
        assert (caught.value.code, caught.value.facts["sent"]) == ("turn_deadline", False)
        assert await (await scene.bus.reader("calls", {1: "earliest"})).end_offset(1) == 0
