"""Records, identities, stage writers, and what they do when the log does not take a fact."""

from __future__ import annotations

import asyncio

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams import ids, topology
from streams.codec import Identity, Record, decode, decode_as, encode, identity
from streams.dead_letters import DeadLetter
from streams.errors import InvalidInput, PeerUnavailable, UnknownEvent
from streams.events import REGISTRY
from streams.events.generating import AnswerDelta, AnswerStarted
from streams.events.intake import FactPublish
from streams.events.turn import TurnHeartbeat
from streams.fence import Fence
from streams.memory_bus import MemoryBroker, MemoryBus, range_assignment
from streams.writer import StageWriter

CONVERSATION = ids.conversation_id(1, 1_000, bytes(10))


def record(headers: list[tuple[str, bytes]], value: bytes) -> Record:
    return Record("events", 1, 0, 0, b"key", tuple(headers), value)


def test_an_event_comes_back_as_it_went_with_four_attributes() -> None:
    event = AnswerDelta(text="Größe £", index=4, ids=(1, 2))
    headers, value = encode(event, "t/answer/1/5", "generation/x", [("traceparent", b"00-1")])
    assert [name for name, _ in headers] == ["ce_specversion", "ce_type", "ce_id", "ce_source", "traceparent"]
    made = record(headers, value)
    assert decode(made) == event
    assert decode_as(made, AnswerDelta) == event
    assert identity(made) == Identity("t", "answer", 1, 5)
    assert (made.type, made.source, made.header("nothing")) == (AnswerDelta.TYPE, "generation/x", None)
    with pytest.raises(InvalidInput):
        decode_as(made, AnswerStarted)


def test_every_type_has_a_topic_that_exists() -> None:
    names = {topic.name for topic in topology.TOPICS}
    for name, kind in REGISTRY.items():
        assert kind.TOPICS, name
        assert set(kind.TOPICS) <= names


@pytest.mark.parametrize(
    ("kind", "code"),
    [(b"headstart.answer.delta.v9", "unknown_version"), (b"somebody.else", "unknown_event"), (b"", "unknown_event")],
)
def test_an_unknown_type_is_named(kind: bytes, code: str) -> None:
    with pytest.raises(UnknownEvent) as unknown:
        decode(record([("ce_type", kind)], b"{}"))
    assert unknown.value.code == code


@pytest.mark.parametrize("value", [b"", b"{", b"[]", b'{"text": 1, "index": 0}', b'{"index": 0}'])
def test_a_value_that_is_not_its_type_is_refused_without_quoting_it(value: bytes) -> None:
    with pytest.raises(InvalidInput) as refused:
        decode(record([("ce_type", AnswerDelta.TYPE.encode())], value))
    assert refused.value.code == "invalid_event"


def test_what_is_nested_beyond_reading_is_refused_both_ways() -> None:
    value = b'{"conversation":"c","tenant":"t","user":"u","kind":"k","text":"t","at_ms":1,"data":'
    value += b'{"a":' * 5_000 + b"1" + b"}" * 5_001
    with pytest.raises(InvalidInput) as caught:
        decode(record([("ce_type", FactPublish.TYPE.encode())], value))
    assert caught.value.code == "nested_too_deeply"
    deep: dict[str, object] = {}
    for _ in range(5_000):
        deep = {"a": deep}
    fact = FactPublish(conversation="c", tenant="t", user="u", kind="k", text="t", at_ms=1, data=deep)
    with pytest.raises(InvalidInput):
        encode(fact, "x", "y")


def test_headers_are_read_whatever_their_bytes_are() -> None:
    made = record([("ce_type", b"\xff"), ("ce_id", None), ("a", b"b")], b"")  # type: ignore[list-item]
    assert (made.type, made.event_id, made.header("a")) == ("\ufffd", "", "b")


def test_a_field_of_tomorrow_is_passed_over() -> None:
    assert decode(record([("ce_type", TurnHeartbeat.TYPE.encode())], b'{"at_ms": 1, "mood": "calm"}')) == TurnHeartbeat(
        at_ms=1
    )


PART = st.text(st.characters(exclude_characters="/", codec="utf-8"), max_size=8)


@given(PART, PART, st.integers(0, 1 << 40), st.integers(0, 1 << 40))
def test_an_identity_is_its_text(subject: str, stage: str, epoch: int, seq: int) -> None:
    made = Identity(subject, stage, epoch, seq)
    assert Identity.parse(made.text()) == made


@pytest.mark.parametrize("text", ["", "a/b/c", "a/b/1/x", "a/b/1/2/3", "a/b//"])
def test_what_is_no_identity_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        Identity.parse(text)
    assert refused.value.code == "invalid_identity"


def writer_on(bus: MemoryBus) -> StageWriter:
    return StageWriter(bus, CONVERSATION, "turn_x", "answer", 2, "generation/a")


async def log_of(bus: MemoryBus) -> list[Record]:
    reader = await bus.reader("events", {1: "earliest"})
    return await reader.batch(wait_ms=0)


@pytest.mark.asyncio
async def test_a_writer_numbers_its_facts_and_gives_their_offsets() -> None:
    bus = MemoryBus()
    await bus.start()
    writer = writer_on(bus)
    offsets = [await writer.write(TurnHeartbeat(at_ms=number)) for number in range(3)]
    assert offsets == [0, 1, 2]
    assert (writer.seq, writer.broken) == (3, False)
    assert [found.event_id for found in await log_of(bus)] == [writer.identity(n).text() for n in range(3)]


@pytest.mark.asyncio
async def test_after_a_failure_nothing_more_is_written() -> None:
    broker = MemoryBroker()
    bus = MemoryBus(broker)
    await bus.start()
    writer = writer_on(bus)
    await writer.write(TurnHeartbeat(at_ms=0))
    broker.refuse = 1
    posted = await writer.post(TurnHeartbeat(at_ms=1))
    await asyncio.sleep(0)
    with pytest.raises(PeerUnavailable) as broken:
        _ = await writer.post(TurnHeartbeat(at_ms=2))
    assert broken.value.code == "stage_broken"
    with pytest.raises(PeerUnavailable):
        await posted
    assert writer.broken
    assert len(await log_of(bus)) == 1


@pytest.mark.asyncio
async def test_a_fact_that_was_written_twice_counts_once() -> None:
    broker = MemoryBroker()
    bus = MemoryBus(broker)
    await bus.start()
    writer = writer_on(bus)
    broker.repeat = 2
    for number in range(4):
        await writer.write(TurnHeartbeat(at_ms=number))
    fence = Fence()
    verdicts = [fence.judge(identity(found), found.source, found.type) for found in await log_of(bus)]
    assert verdicts == ["counts", "repeat", "counts", "repeat", "counts", "counts"]


@pytest.mark.asyncio
async def test_a_lost_acknowledgement_is_an_error_about_a_record_that_is_there() -> None:
    broker = MemoryBroker()
    bus = MemoryBus(broker)
    await bus.start()
    broker.lose_acknowledgements = 1
    with pytest.raises(PeerUnavailable):
        await bus.publish("events", 1, "k", TurnHeartbeat(at_ms=1), "t/s/1/0", "w")
    assert len(await log_of(bus)) == 1
    with pytest.raises(PeerUnavailable):
        await bus.publish("events", 99, "k", TurnHeartbeat(at_ms=1), "t/s/1/0", "w")


@pytest.mark.asyncio
async def test_records_that_aged_out_are_a_gap() -> None:
    broker = MemoryBroker()
    bus = MemoryBus(broker)
    await bus.start()
    for number in range(5):
        await bus.publish("events", 1, "k", TurnHeartbeat(at_ms=number), f"t/s/1/{number}", "w")
    reader = await bus.reader("events", {1: "earliest"})
    await reader.batch(max_records=1)
    broker.trim("events", 1, 3)
    assert [found.offset for found in await reader.batch()] == [3, 4]
    assert [(gap.wanted, gap.resumed_at) for gap in reader.gaps] == [(1, 3)]
    assert await reader.start_offset(1) == 3


@given(st.integers(1, 9), st.lists(st.integers(0, 40), min_size=1, max_size=4))
def test_a_range_gives_every_partition_to_one_member_alike_over_topics(members: int, counts: list[int]) -> None:
    names = [f"m{number}" for number in range(members)]
    share = range_assignment(names, {f"t{number}": count for number, count in enumerate(counts)})
    held = [place for places in share.values() for place in places]
    assert len(held) == len(set(held)) == sum(counts)
    for number, count in enumerate(counts):
        sizes = [sum(place.topic == f"t{number}" for place in share[name]) for name in names]
        assert max(sizes) - min(sizes) <= 1
        assert sizes == sorted(sizes, reverse=True)
        assert sum(sizes) == count


def test_a_record_without_a_reason_is_no_dead_letter() -> None:
    with pytest.raises(InvalidInput) as refused:
        DeadLetter.of(record([], b""))
    assert refused.value.code == "not_a_dead_letter"
    letter = DeadLetter(
        topic="turns", partition=1, offset=2, stage="turns", code="c", fault="ours", reason="r", at_ms=3, trace="t"
    )
    assert DeadLetter.of(record(letter.headers(), b"")) == letter
    assert msgspec.structs.asdict(letter)["offset"] == 2


def test_topics_that_hold_conversations_have_equally_many_partitions() -> None:
    shared = {topic.name for topic in topology.TOPICS if topic.partitions is None}
    assert shared == {"turns", "generations", "calls", "events"}
    assert topology.by_name("events").config()["retention.ms"] == str(7 * topology.DAY_MS)
    assert "retention.ms" not in topology.by_name("skills").config()
    assert topology.DEAD_LETTERS.record_size_bytes == 2 * topology.RECORD_SIZE_BYTES
    with pytest.raises(KeyError, match="no topic"):
        topology.by_name("nothing")
    assert (topology.prefixed("events", ""), topology.prefixed("events", "shadow")) == ("events", "shadow.events")
