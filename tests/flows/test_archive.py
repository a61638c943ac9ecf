"""The log in Parquet files: read by the same commands when the topic has forgotten, and forgetting a member at once."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

pytest.importorskip("pyarrow", reason="pyarrow is not installed (extra 'archive')")

from headstart.archive_commands import Keeper
from headstart.replay.archive import ArchiveWriter, day_of, forget, read_archive
from headstart.replay.compare import compare
from headstart.replay.finding import Wanted, find
from headstart.replay.recorder import Selection, choose, record
from headstart.replay.recording import Recording
from headstart.replay.sources import open_source
from headstart.replay.stub import replay_stub
from headstart.replay.turns import conversations, turn_logs
from streams.codec import Record, encode
from streams.events.conversation import MemberForgotten
from streams.memory_bus import MemoryBroker, MemoryBus
from streams.settings import Settings
from streams.topology import EVENTS
from tests.support.recordings import recorded_traffic
from tests.support.traffic import T0_MS
from tests.support.traffic_cases import BY_NAME

DAY_MS = 86_400_000


@pytest.fixture(scope="module")
def recording() -> Recording:
    cases = tuple(BY_NAME[name] for name in ("two_calls", "chat", "cancelled_plan"))
    return recorded_traffic(14, seed=6, cases=cases)


async def broker_with(recording: Recording) -> MemoryBroker:
    """A log that holds the recording."""
    broker = MemoryBroker(4, now_ms=lambda: T0_MS)
    bus = MemoryBus(broker)
    await bus.start()
    for one in recording.records:
        broker.now_ms = lambda at_ms=one.timestamp_ms: at_ms  # type: ignore[misc]
        broker.append(one.topic, one.partition, one.key, one.value, one.headers)
    return broker


async def opened(broker: MemoryBroker) -> MemoryBus:
    bus = MemoryBus(broker)
    await bus.start()
    return bus


def members(recording: Recording) -> set[str]:
    return {turn.accepted.user for turn in turn_logs(recording.events)}


def test_turns_outlive_the_topic_and_run_again(recording: Recording, tmp_path: Path) -> None:
    async def walk() -> None:
        broker = await broker_with(recording)
        await Keeper(await opened(broker), tmp_path).run(once=True)
        for partition in range(4):
            broker.trim(EVENTS.name, partition, broker.log_of(EVENTS.name, partition).end)
        gone = await record(await opened(broker), Selection(), now_ms=0)
        assert gone.head.turns == 0
        kept = await open_source(str(tmp_path), Selection(), Settings.from_env({}))
        assert kept.head.turns == recording.head.turns
        assert kept.head.missing == ()
        again = await replay_stub(kept)
        found = compare(conversations(kept.events), again)
        assert [one.text() for one in found] == []
        wanted = Wanted(skill="get_weather")
        before = {turn.turn for turn, _ in find(turn_logs(recording.events), wanted)}
        assert {turn.turn for turn, _ in find(turn_logs(kept.events), wanted)} == before

    asyncio.run(walk())


def test_a_crash_between_file_and_commit_repeats_and_loses_nothing(recording: Recording, tmp_path: Path) -> None:
    events = list(recording.events)
    first, second = ArchiveWriter(tmp_path, 10), ArchiveWriter(tmp_path, 10)
    for one in events:
        assert first.add(one) == []
        if first.full:
            first.flush()  # and dies before it commits
    first.flush()
    for one in events[len(events) // 3 :]:
        second.add(one)
    reached = second.flush()
    assert reached == {
        one.partition: max(other.offset for other in events if other.partition == one.partition) + 1
        for one in events[len(events) // 3 :]
    }
    kept = list(read_archive(tmp_path).events)
    assert kept == sorted(events, key=lambda one: (one.partition, one.offset))


def test_only_the_days_that_are_asked_for_are_read(recording: Recording, tmp_path: Path) -> None:
    writer = ArchiveWriter(tmp_path)
    for one in recording.events:
        writer.add(one)
    writer.flush()
    assert (tmp_path / "events" / f"day={day_of(T0_MS)}").is_dir()
    assert list(read_archive(tmp_path, since_ms=T0_MS).events)
    assert not list(read_archive(tmp_path, since_ms=T0_MS + 3 * DAY_MS).events)
    assert not list(read_archive(tmp_path, until_ms=T0_MS - 3 * DAY_MS).events)
    assert {one.partition for one in read_archive(tmp_path, partitions={1}).events} <= {1}


def forgetting(recording: Recording, user: str) -> Record:
    """The fact that a member is forgotten, behind everything that was recorded."""
    last = max(recording.events, key=lambda one: one.timestamp_ms)
    event = MemberForgotten(tenant="acme", user=user, at_ms=last.timestamp_ms + 1)
    key = (last.key or b"").decode()
    headers, value = encode(event, f"{key}/note/0/77", "turns/test")
    offset = max(one.offset for one in recording.events if one.partition == last.partition) + 1
    return Record(EVENTS.name, last.partition, offset, last.timestamp_ms + 1, last.key, headers, value)


def test_a_forgotten_member_is_forgotten_here_at_once(recording: Recording, tmp_path: Path) -> None:
    async def walk() -> None:
        user = sorted(members(recording))[0]
        told = Recording(recording.head, [*recording.records, forgetting(recording, user)])
        assert members(choose(told, Selection())) == members(recording) - {user}  # also where nothing was rewritten
        broker = await broker_with(told)
        await Keeper(await opened(broker), tmp_path, flush_records=20).run(once=True)
        kept = await open_source(str(tmp_path), Selection(), Settings.from_env({}))
        assert members(kept) == members(recording) - {user}
        theirs = {
            turn.accepted.conversation.encode() for turn in turn_logs(recording.events) if turn.accepted.user == user
        }
        raw = list(read_archive(tmp_path).events)
        assert not any(one.key in theirs and one.type != MemberForgotten.TYPE for one in raw)
        assert forget(tmp_path, "acme", user) == 0  # nothing is left to be forgotten

    asyncio.run(walk())
