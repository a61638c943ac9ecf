"""What every Store does with memories and skills, on the one in memory and on Postgres; and what only Postgres does."""

from __future__ import annotations

import asyncio
import sys

import asyncpg
import pytest

from memory.postgres import PostgresStore
from memory.rows import (
    Change,
    Edit,
)
from memory.store import Store
from streams.errors import Misconfigured, PeerUnavailable
from streams.events.conversation import MemberForgotten
from streams.events.registering import SkillManifest
from tests.support.databases import fresh_database
from tests.support.store_rows import (
    DIMENSIONS,
    EAST,
    NORTH,
    PARTITION,
    SOUTH,
    conversation_id,
    found,
    memory,
    opened,
    turn,
    turn_id,
)

# recall


@pytest.mark.asyncio
async def test_recall_finds_by_likeness_and_by_words_and_ranks_both(store: Store) -> None:
    changes = [
        memory("near", "the north star", NORTH), memory("worded", "Rex is a dog", SOUTH),
        memory("both", "a dog on a sledge", [0.1, 0.9, 0.0, 0.0]), memory("neither", "east wind", EAST),
    ]  # fmt: skip
    assert await store.project(PARTITION, 9, [opened(), *changes])
    candidates = {each.id: each for each in await store.recall("acme", "ada", NORTH, "where is the dog?", 2)}
    assert set(candidates) == {"near", "both", "worded"}
    assert (candidates["near"].vector_rank, candidates["near"].text_rank) == (1, 0)
    assert candidates["both"].vector_rank == 2
    assert {candidates["both"].text_rank, candidates["worded"].text_rank} == {1, 2}
    assert candidates["worded"].vector_rank == 0
    assert candidates["near"].similarity == pytest.approx(1.0)
    assert candidates["worded"].similarity == pytest.approx(-1.0)
    whole = candidates["near"]
    assert (whole.layer, whole.text, whole.at_ms, whole.speaker) == ("conversation", "the north star", 1_000, "user")
    assert (whole.conversation, whole.turn, whole.valid_from_ms) == (conversation_id(1), turn_id(1), 1_000)
    assert (whole.valid_to_ms, whole.superseded_by, whole.confidence) == (None, "", 1.0)


@pytest.mark.asyncio
async def test_recall_honours_tenant_user_and_the_excluded_conversation(store: Store) -> None:
    changes = [
        memory("mine", "the code is 1", NORTH), memory("hers", "the code is 2", NORTH, user="eve"),
        memory("theirs", "the code is 3", NORTH, tenant="rival"),
        memory("here", "the code is 4", NORTH, conversation=2),
    ]  # fmt: skip
    assert await store.project(PARTITION, 9, changes)
    assert await found(store, text="code") == ["here", "mine"]
    assert await found(store, tenant="rival", text="code") == ["theirs"]
    assert await found(store, user="nobody", text="code") == []
    kept = await store.recall("acme", "ada", NORTH, "code", 9, exclude_conversation=conversation_id(2))
    assert [candidate.id for candidate in kept] == ["mine"]


@pytest.mark.asyncio
@pytest.mark.parametrize("text", ["", "?!", "the of and", "a & b | !c", "' OR 1=1 --", "x" * 3_000])
async def test_a_question_of_any_text_is_answered_by_likeness(store: Store, text: str) -> None:
    assert await store.project(PARTITION, 9, [memory("m1", "the north star", NORTH)])
    assert await found(store, text=text) == ["m1"]


@pytest.mark.asyncio
async def test_a_memory_is_forgotten_by_its_owner_only(store: Store) -> None:
    assert await store.project(PARTITION, 9, [memory("m1", "one", NORTH), memory("m2", "two", NORTH)])
    assert [(row.id, row.text, row.similarity) for row in await store.memories("acme", "ada", 1)] == [
        ("m2", "two", None)
    ]
    assert [row.id for row in await store.memories("acme", "ada", 5, conversation_id(1))] == ["m2", "m1"]
    assert await store.memories("acme", "ada", 5, conversation_id(2)) == await store.memories("acme", "eve", 5) == []
    assert [row.id for row in await store.known_memories("acme", "ada", ["m1", "m1", "m9"])] == ["m1"]
    assert await store.known_memories("acme", "eve", ["m1"]) == await store.known_memories("rival", "ada", ["m1"]) == []
    for position, (tenant, user) in enumerate((("acme", "eve"), ("rival", "ada"))):
        edit = Edit(tenant=tenant, user=user, item="m1", at_ms=5, forget=True)
        assert await store.project(PARTITION, 10 + position, [Change(10 + position, edit)])
        assert await found(store) == ["m1", "m2"]
    edit = Edit(tenant="acme", user="ada", item="m1", at_ms=5, forget=True)
    assert await store.project(PARTITION, 12, [Change(12, edit)])
    assert await found(store) == ["m2"]


@pytest.mark.asyncio
async def test_a_forgotten_member_leaves_nothing_and_takes_nothing_old(store: Store) -> None:
    key = await store.create_key("acme", "ada", "laptop", [], now_ms=100)
    other = await store.create_key("acme", "eve", "laptop", [], now_ms=100)
    await store.claim_submit("acme", "ada", "e1", conversation_id(1), 1)
    assert await store.claim(turn_id(1), 0, "h", 1, 500, "one", now_ms=1_000)
    said = [
        opened(), turn(1, 2, 9, "secret", "Noted."), memory("m1", "secret", NORTH),
        memory("hers", "secret", NORTH, user="eve", conversation=5), opened(5, user="eve"),
    ]  # fmt: skip
    assert await store.project(PARTITION, 9, [Change(max(1, change.offset), change.row) for change in said])
    gone = Change(10, MemberForgotten(tenant="acme", user="ada", at_ms=5_000))
    assert await store.project(PARTITION, 10, [gone])
    assert await store.verify_key(key) is None
    assert await store.verify_key(other) is not None
    assert await store.conversation(conversation_id(1)) is None
    assert await store.turn(turn_id(1)) is None
    assert await store.claimed(turn_id(1), 0) is None
    assert await found(store, text="secret") == []
    assert await found(store, user="eve", text="secret") == ["hers"]
    assert await store.claim_submit("acme", "ada", "e1", conversation_id(2), 1) == conversation_id(2)
    late = [
        opened(6, 4_000), turn(2, 2, 9, "secret", "x", conversation=6, at_ms=4_900), memory("m2", "secret", NORTH),
        turn(3, 10, 11, "hello again", "Hi.", conversation=7, at_ms=6_000),
        memory("m3", "hello again", NORTH, conversation=7, at_ms=6_000),
    ]  # fmt: skip
    assert await store.project(PARTITION + 1, 11, [Change(max(1, change.offset), change.row) for change in late])
    assert await store.conversation(conversation_id(6)) is None
    assert await store.turn(turn_id(2)) is None
    assert await store.turn(turn_id(3)) is not None
    assert await found(store, text="secret hello") == ["m3"]


@pytest.mark.asyncio
async def test_a_vector_of_another_length_is_refused(store: Store) -> None:
    with pytest.raises(ValueError, match="2 numbers where 4"):
        await store.project(PARTITION, 9, [memory("m1", "one", [1.0, 0.0])])
    with pytest.raises(ValueError, match="2 numbers where 4"):
        await store.recall("acme", "ada", [1.0, 0.0], "one", 5)
    assert await store.position(PARTITION) == -1, "nothing was stored"


# skills


@pytest.mark.asyncio
async def test_skills_are_found_by_likeness_within_their_tenants(store: Store) -> None:
    def skill(name: str, version: str = "1", tenants: tuple[str, ...] = ()) -> SkillManifest:
        return SkillManifest(name=name, version=version, description="d", parameters={}, owner="o", tenants=tenants)

    await store.upsert_skill(skill("compass"), EAST)
    await store.upsert_skill(skill("compass", "2"), NORTH)
    await store.upsert_skill(skill("weather"), EAST)
    await store.upsert_skill(skill("secret", tenants=("rival",)), NORTH)
    [(best, score), (second, _)] = await store.nearest_skills("acme", NORTH, 5)
    assert (best, second) == ("compass@2", "weather@1")
    assert score == pytest.approx(1.0)
    assert [name for name, _ in await store.nearest_skills("rival", NORTH, 2)] == ["compass@2", "secret@1"]
    await store.withdraw_skill("compass")
    await store.withdraw_skill("unknown")
    assert [name for name, _ in await store.nearest_skills("acme", NORTH, 5)] == ["weather@1"]


# what only a database can do


@pytest.mark.asyncio
async def test_two_processes_migrate_at_once(server: str) -> None:
    program = (
        "import asyncio, sys; from memory.postgres import PostgresStore;"
        "print(len(asyncio.run(PostgresStore(sys.argv[1], 4).migrate())))"
    )
    async with fresh_database(server) as dsn:
        running = [
            await asyncio.create_subprocess_exec(sys.executable, "-c", program, dsn, stdout=asyncio.subprocess.PIPE)
            for _ in range(2)
        ]
        printed = await asyncio.gather(*(process.communicate() for process in running))
        applied = sorted(int(out) for out, _ in printed)
        assert [process.returncode for process in running] == [0, 0]
        assert applied[0] == 0
        assert applied[1] > 0
        store = PostgresStore(dsn, 4)
        assert await store.migrate() == []
        await store.open()
        await store.close()


@pytest.mark.asyncio
async def test_a_schema_that_does_not_fit_is_refused(server: str) -> None:
    async with fresh_database(server) as dsn:
        with pytest.raises(Misconfigured, match="no schema"):
            await PostgresStore(dsn, 4).open()
        await PostgresStore(dsn, 4).migrate()
        with pytest.raises(Misconfigured, match="vectors of 4 numbers"):
            await PostgresStore(dsn, 5).open()
        with pytest.raises(Misconfigured, match="vectors of 4 numbers"):
            await PostgresStore(dsn, 5).migrate()
        connection = await asyncpg.connect(dsn)
        await connection.execute("UPDATE schema_migrations SET digest = 'other'")
        await connection.close()
        with pytest.raises(Misconfigured, match="another text"):
            await PostgresStore(dsn, 4).migrate()


@pytest.mark.asyncio
async def test_a_database_that_is_gone_is_a_typed_error() -> None:
    with pytest.raises(PeerUnavailable):
        await PostgresStore("postgresql://nobody@127.0.0.1:1/none", 4).open()


@pytest.mark.asyncio
async def test_the_graph_finds_what_the_exact_search_finds(server: str) -> None:
    """One user's 300 memories among 3,000 of others, by the branch that large users take."""
    async with fresh_database(server) as dsn:
        store = PostgresStore(dsn, DIMENSIONS)
        await store.migrate()
        await store.open()
        spread = [
            memory(f"m{n}", f"text {n}", [n % 7 - 3.0, n % 11 - 5.0, n % 13 - 6.5, 1.0],
                   user="ada" if n % 11 == 0 else f"u{n % 11}")
            for n in range(3_300)
        ]  # fmt: skip
        assert await store.project(PARTITION, 9, spread)
        exact = {each.id for each in await store.recall("acme", "ada", [0.3, 1.0, 0.2, 0.5], "", 10)}
        store.exact_rows = 0
        graph = {each.id for each in await store.recall("acme", "ada", [0.3, 1.0, 0.2, 0.5], "", 10)}
        assert len(exact) == len(graph) == 10
        assert len(exact & graph) >= 9
        await store.close()


@pytest.mark.asyncio
async def test_a_projection_cancelled_anywhere_has_happened_whole_or_not_at_all(server: str) -> None:
    batch = [opened(), turn(1, 2, 9, "one", "1"), memory("m1", "one", NORTH)]
    outcomes: set[bool] = set()
    async with fresh_database(server) as dsn:
        store = PostgresStore(dsn, DIMENSIONS, pool_size=2)
        await store.migrate()
        await store.open()
        for partition in range(60):
            work = asyncio.create_task(store.project(100 + partition, 9, batch))
            for _ in range(partition):  # one more turn of the loop each time, until it is through
                await asyncio.sleep(0)
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)
            stored = await store.position(100 + partition)
            assert stored in (-1, 9)
            outcomes.add(stored == 9)
        assert await store.project(PARTITION, 9, batch)
        assert [message.text for message in (await store.history(conversation_id(1), 10)).messages] == ["one", "1"]
        assert False in outcomes
        await store.close()
