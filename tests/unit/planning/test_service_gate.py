"""Quotas and replays, with the time in the test's hands; signatures and tenants are in flows/test_service_trust.py."""

from __future__ import annotations

import pytest

from memory.memory_store import MemoryStore
from streams import ids
from streams.codec import Record, encode
from streams.errors import InvalidInput, NotPermitted, Refused
from streams.events.intake import CallResult, FactPublish
from streams.signing import signed
from streams.topology import DAY_MS
from workers.planning.service_gate import AGE_MS, AHEAD_MS, KEPT_MS, ServiceGate

pytestmark = pytest.mark.asyncio
T0 = 1_763_700_000_000
CONVERSATION = ids.conversation_id(1, T0, bytes(10))
TURN = ids.turn_id(CONVERSATION, T0, bytes(10))


class World:
    def __init__(self) -> None:
        self.store = MemoryStore(dimensions=4)
        self.now_ms, self.log = float(T0), 7
        self.gate = self.another()
        self._offset = 0

    def another(self, quota: int = 2) -> ServiceGate:
        """A gate of a further worker."""
        return ServiceGate(lambda: self.log, lambda: self.now_ms, quota_per_minute=quota)

    async def key(self, *scopes: str) -> str:
        return await self.store.create_key("acme", "desk", "test", ("service", *scopes), T0)

    def record(self, key: str, event_id: str, event: FactPublish | CallResult | None = None) -> Record:
        """At the next offset."""
        fact = event or FactPublish(conversation=CONVERSATION, tenant="acme", user="u", kind="k", text="x", at_ms=T0)
        headers, value = encode(fact, event_id, "service/x", signed(fact, event_id, "turns", CONVERSATION, key))
        self._offset += 1
        return Record("turns", 1, self._offset, T0, CONVERSATION.encode(), headers, value)

    async def refused(self, record: Record, gate: ServiceGate | None = None) -> str:
        """The code of the refusal, "" when it passes."""
        try:
            assert await (gate or self.gate)(self.store, record, "acme") == "desk"
        except (NotPermitted, InvalidInput, Refused) as error:
            return error.code
        return ""


async def test_a_quota_fills_again_with_time() -> None:
    world = World()
    key = await world.key()
    said = [await world.refused(world.record(key, f"e{number}")) for number in range(4)]
    assert said == ["", "", "over_quota", "over_quota"]
    world.now_ms += 29_999
    assert await world.refused(world.record(key, "e4")) == "over_quota"
    world.now_ms += 2
    assert await world.refused(world.record(key, "e5")) == ""
    world.now_ms += 3_600_000
    said = [await world.refused(world.record(key, f"f{number}")) for number in range(3)]
    assert said == ["", "", "over_quota"], "a minute's worth at once, however long it was silent"


async def test_a_key_has_its_own_quota_and_its_own_bucket() -> None:
    world = World()
    one, other, odd = await world.key("quota=1"), await world.key(), await world.key("quota=many")
    assert [await world.refused(world.record(one, f"a{number}")) for number in range(2)] == ["", "over_quota"]
    assert [await world.refused(world.record(other, f"b{number}")) for number in range(2)] == ["", ""]
    assert [await world.refused(world.record(odd, f"c{number}")) for number in range(3)] == ["", "", "over_quota"]


async def test_a_record_read_again_passes_and_costs_nothing_and_one_put_again_does_not() -> None:
    world = World()
    key = await world.key()
    record = world.record(key, "e1")
    assert [await world.refused(record) for _ in range(5)] == [""] * 5
    assert await world.refused(record, world.another()) == "", "the worker that takes the partition over reads it too"
    assert await world.refused(world.record(key, "e1")) == "replayed"
    world.now_ms += 86_400_000
    assert await world.refused(world.record(key, "e1"), world.another()) == "replayed", "a day later"
    assert await world.refused(world.record(await world.key(), "e1")) == "", "ids are each key's own"
    world.log = 8
    assert await world.refused(record) == "replayed", "the same offset of another log is another place"


async def test_all_workers_share_a_keys_quota() -> None:
    world = World()
    key = await world.key("quota=4")
    gates = [world.gate, world.another(), world.another()]
    said = [await world.refused(world.record(key, f"e{number}"), gates[number % 3]) for number in range(6)]
    assert said == [""] * 4 + ["over_quota"] * 2


async def test_what_was_refused_for_its_quota_stays_refused() -> None:
    world = World()
    key = await world.key("quota=1")
    first, second = world.record(key, "e1"), world.record(key, "e2")
    assert [await world.refused(first), await world.refused(second)] == ["", "over_quota"]
    world.now_ms += 60_000
    assert await world.refused(second, world.another()) == "over_quota", "its turn was told so"
    assert await world.refused(world.record(key, "e3")) == "", "and it has cost nothing"


async def test_a_record_is_taken_near_its_own_time_only() -> None:
    world = World()
    key = await world.key("quota=100")
    times = {T0 - AGE_MS: "", T0 - AGE_MS - 1: "out_of_time", T0 + AHEAD_MS: "", T0 + AHEAD_MS + 1: "out_of_time"}
    for number, (at_ms, code) in enumerate(times.items()):
        fact = FactPublish(conversation=CONVERSATION, tenant="acme", user="u", kind="k", text="x", at_ms=at_ms)
        assert await world.refused(world.record(key, f"e{number}", fact)) == code


async def test_what_was_taken_is_forgotten_once_it_can_not_come_again() -> None:
    """At every moment of a record's life either the store knows it or its time is out of bounds."""
    world = World()
    key = await world.key("quota=100")
    ahead = FactPublish(conversation=CONVERSATION, tenant="acme", user="u", kind="k", text="x", at_ms=T0 + AHEAD_MS)
    assert await world.refused(world.record(key, "e1", ahead)) == ""
    for day in range(1, 30):
        world.now_ms = T0 + day * DAY_MS
        code = await world.refused(world.record(key, "e1", ahead))
        assert code == ("replayed" if day <= 14 else "out_of_time")
        today = FactPublish(
            conversation=CONVERSATION, tenant="acme", user="u", kind="k", text="x", at_ms=int(world.now_ms)
        )
        assert await world.refused(world.record(key, f"day {day}", today)) == ""
    assert KEPT_MS > AGE_MS + AHEAD_MS
    assert await world.store.forget_records(int(world.now_ms) + 1) == KEPT_MS // DAY_MS + 1, "older ones were gone"


async def test_results_are_told_apart_by_the_call_they_answer() -> None:
    world = World()
    key = await world.key("quota=1")
    result = CallResult(turn=TURN, call=0, claim=1, at_ms=T0, result="1", key="k", tenant="acme")
    said = [await world.refused(world.record(key, "r", result)) for _ in range(3)]
    assert said == ["", "", ""]
