"""Forgetting somebody, whole: from every table, from the archive, and for every reader of the log from now on."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator

import asyncpg
import pytest
import pytest_asyncio

from headstart.members import expire_unused, forget_member, lines_of
from memory.postgres import PostgresStore
from memory.tables.forgetting import TABLES
from streams import ids
from streams.codec import decode
from streams.errors import PeerTimeout
from streams.events import Usage
from streams.events.conversation import ConversationDeleted, MemberForgotten
from streams.events.generating import MemoryFinished, MemoryStarted
from streams.events.intake import ConversationEdit, MemberForget
from streams.memory_bus import MemoryBroker, MemoryBus
from streams.signing import command_secret
from streams.topology import EVENTS, TURNS
from streams.writer import StageWriter
from tests.support.databases import fresh_database, postgres_server
from tests.support.told_lives import (
    DIMENSIONS,
    OF_NOBODY,
    T0_MS,
    TENANT,
    Teller,
    remembered,
    rows_with,
    tables_of,
    traces_of,
)
from tests.support.turn_world import world
from workers.planning.notes import note_of
from workers.planning.services import from_gateway

SIGNING_KEY = "a key of at least thirty-two characters"


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with postgres_server() as dsn:
        yield dsn


@pytest_asyncio.fixture
async def dsn(server: str) -> AsyncIterator[str]:
    async with fresh_database(server) as made:
        yield made


@pytest_asyncio.fixture
async def store(dsn: str) -> AsyncIterator[PostgresStore]:
    made = PostgresStore(dsn, DIMENSIONS)
    await made.migrate()
    await made.open()
    yield made
    await made.close()


@pytest_asyncio.fixture
async def bus() -> AsyncIterator[MemoryBus]:
    made = MemoryBus(MemoryBroker(partitions=2, now_ms=lambda: T0_MS))
    await made.start()
    yield made
    await made.stop()


async def both(bus: MemoryBus, store: PostgresStore) -> tuple[Teller, Teller]:
    """Two people who have told all of it, stored."""
    gone, kept = Teller(bus, "quillfeather", 1), Teller(bus, "brambleworth", 2)
    for teller in (gone, kept):
        await teller.tell()
    await remembered(bus.broker, store)
    for teller in (gone, kept):
        await teller.ask_the_store(store)
    return gone, kept


async def forgotten(bus: MemoryBus, teller: Teller, at_ms: int) -> None:
    home = ids.member_conversation(TENANT, teller.user, 2)
    await teller.note(home, MemberForgotten(tenant=TENANT, user=teller.user, at_ms=at_ms))


@pytest.mark.asyncio
async def test_nothing_of_a_forgotten_member_is_left_anywhere(bus: MemoryBus, store: PostgresStore, dsn: str) -> None:
    gone, kept = await both(bus, store)
    connection = await asyncpg.connect(dsn)
    every = set(await tables_of(connection))
    await connection.close()
    theirs, others = await traces_of(dsn, gone), await traces_of(dsn, kept)
    assert set(await rows_with(dsn, theirs)) == every - OF_NOBODY == set(TABLES), "every table has something of them"
    before = await rows_with(dsn, others)
    assert set(before) == set(TABLES)
    texts = {row.text for row in await store.memories(TENANT, kept.user, 99)}
    assert f"The invoice of {kept.mark} is paid." in texts

    await forgotten(bus, gone, T0_MS + 10_000)
    await remembered(bus.broker, store)

    assert await rows_with(dsn, theirs) == {}
    assert await rows_with(dsn, others) == before
    assert await store.held(TENANT, gone.user) == {}
    assert await store.forgotten_at_ms(TENANT, gone.user) == T0_MS + 10_000
    assert await store.forgotten_at_ms(TENANT, kept.user) == -1


@pytest.mark.asyncio
async def test_what_comes_late_or_is_built_again_brings_nothing_back(
    bus: MemoryBus, store: PostgresStore, dsn: str, server: str
) -> None:
    gone, kept = await both(bus, store)
    theirs, others = await traces_of(dsn, gone), await traces_of(dsn, kept)
    before = await rows_with(dsn, others)
    await forgotten(bus, gone, T0_MS + 10_000)
    # Said before and heard after: a model's word about a turn that it was given to read, two more turns, and a call.
    reader = StageWriter(bus, gone.conversations[0], gone.turns[0], "memory.facts", 1, "generation/test")
    await reader.write(MemoryStarted(model="m", engine="scripted", at_ms=T0_MS))
    facts = {"facts": [{"subject": "user", "attribute": "lives_in", "value": gone.mark}]}
    await reader.write(MemoryFinished(reason="stop", text=json.dumps(facts), usage=Usage(), at_ms=T0_MS + 11_000))
    late = Teller(bus, gone.mark, 3)
    assert await store.claim(late.turns[0], 0, f"hash-{gone.mark}", 1, 500, "turns/test", T0_MS)
    await late.tell()
    await remembered(bus.broker, store)
    theirs |= {*late.conversations, *late.turns}
    assert await rows_with(dsn, theirs) == {}
    assert await rows_with(dsn, others) == before

    async with fresh_database(server) as other:
        rebuilt = PostgresStore(other, DIMENSIONS)
        await rebuilt.migrate()
        await rebuilt.open()
        await remembered(bus.broker, rebuilt)
        assert await rows_with(other, theirs) == {}
        of_the_log = set(before) - {"api_keys", "service_quotas", "submit_claims", "call_claims"}
        assert await rows_with(other, others) == {table: before[table] for table in of_the_log}
        await rebuilt.close()

    conversation = await gone.come_back(T0_MS + 20_000)
    await remembered(bus.broker, store)
    assert [row.conversation for row in await store.conversations(TENANT, gone.user, 9)] == [conversation]


@pytest.mark.asyncio
async def test_an_export_holds_every_row_and_nobody_elses(bus: MemoryBus, store: PostgresStore, dsn: str) -> None:
    gone, kept = await both(bus, store)
    lines = [json.loads(line) async for line in lines_of(store, TENANT, gone.user, False, [])]
    held = await store.held(TENANT, gone.user)
    assert set(held) == set(TABLES)
    assert {table: sum(line["table"] == table for line in lines) for table in TABLES} == held
    text = json.dumps(lines)
    assert kept.mark not in text
    assert "embedding" not in text
    assert "key_hash" not in text, "a key's hash is no one's to carry away"
    said = {line["text"] for line in lines if line["table"] == "messages"}
    assert f"I shall remember {gone.mark}." in said
    memories = [line async for line in lines_of(store, TENANT, gone.user, True, []) if b'"memories"' in line]
    assert all(len(json.loads(json.loads(line)["embedding"])) == DIMENSIONS for line in memories)
    assert [line async for line in lines_of(store, "rival", gone.user, True, [])] == []


@pytest.mark.asyncio
async def test_the_command_is_obeyed_by_way_of_the_log(store: PostgresStore) -> None:
    """The command's own process, the owner of the partition, and the memory worker: nothing is played."""
    async with world(secret=command_secret(SIGNING_KEY), clock_ms=lambda: T0_MS + 10_000.0) as scene:
        gone, kept = await both(scene.bus, store)
        there = await store.held(TENANT, gone.user)
        await scene.owner()
        asked = asyncio.create_task(forget_member(scene.bus, store, TENANT, gone.user, SIGNING_KEY))
        logs = [scene.broker.log_of(EVENTS.name, partition) for partition in (0, 1)]
        while not any(record.type == MemberForgotten.TYPE for log in logs for record in log.records):
            assert not asked.done()
            await asyncio.sleep(0)
        await remembered(scene.broker, store)
        assert await asked == there
        assert await store.held(TENANT, gone.user) == {}
        assert set(await store.held(TENANT, kept.user)) == set(TABLES)
        assert await store.forgotten_at_ms(TENANT, gone.user) == T0_MS + 10_000, "by the owner's clock"


@pytest.mark.asyncio
async def test_a_command_that_nobody_obeys_says_so_and_stands(bus: MemoryBus, store: PostgresStore) -> None:
    with pytest.raises(PeerTimeout, match="nothing was erased"):
        await forget_member(bus, store, TENANT, "nobody", None, wait_s=0)
    reader = await bus.reader(TURNS.name, {0: "earliest", 1: "earliest"})
    assert [record.type for record in await reader.batch()] == [MemberForget.TYPE]
    await reader.close()


@pytest.mark.asyncio
async def test_what_is_unused_expires_by_the_log(bus: MemoryBus, store: PostgresStore) -> None:
    gone, kept = await both(bus, store)
    recent = await kept.come_back(T0_MS + 1_000_000)
    await remembered(bus.broker, store)
    assert await expire_unused(bus, store, T0_MS + 500_000, "rival", None) == (0, 0)
    deleted, claims = await expire_unused(bus, store, T0_MS + 500_000, "", SIGNING_KEY)
    assert (deleted, claims) == (4, 4)
    reader = await bus.reader(TURNS.name, {0: "earliest", 1: "earliest"})
    for record in await reader.batch():
        command = decode(record)
        assert isinstance(command, ConversationEdit)
        assert from_gateway(record, command_secret(SIGNING_KEY))
        fact = note_of(command, record.source, T0_MS + 2_000_000.0)
        assert isinstance(fact, ConversationDeleted)
        await kept.note(command.conversation, fact)
    await reader.close()
    await remembered(bus.broker, store)
    assert await store.conversations(TENANT, gone.user, 9) == []
    assert [row.conversation for row in await store.conversations(TENANT, kept.user, 9)] == [recent]
    assert await store.unused(T0_MS + 500_000, 9) == []
