"""The second wall between tenants: what a statement finds that has forgotten to ask for its tenant."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import asyncpg
import pytest
import pytest_asyncio

from memory.postgres import PostgresStore
from memory.tables.base import APP, WORKER
from streams.errors import Misconfigured
from streams.events.registering import SkillManifest
from streams.memory_bus import MemoryBroker, MemoryBus
from tests.support.databases import fresh_database, postgres_server
from tests.support.told_lives import DIMENSIONS, T0_MS, TENANT, Teller, remembered

RIVAL = "rival"
# Tables without a tenant, and what they hold instead.
OF_NO_TENANT = {
    "positions": "offsets", "forgotten_members": "hashes", "schema_migrations": "names of files",
    "call_claims": "locks, by the ids of turns", "service_records": "hashes", "service_quotas": "numbers, by keys",
}  # fmt: skip


class Rival(Teller):
    """The same person at another tenant."""

    tenant = RIVAL


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with postgres_server() as dsn:
        yield dsn


@asynccontextmanager
async def opened(dsn: str, pool_size: int = 2) -> AsyncIterator[PostgresStore]:
    store = PostgresStore(dsn, DIMENSIONS, pool_size)
    await store.migrate()
    await store.open()
    try:
        yield store
    finally:
        await store.close()


@pytest_asyncio.fixture
async def store(server: str) -> AsyncIterator[PostgresStore]:
    """Two tenants with a member of the same name each, who have told everything that there is a table for."""
    async with fresh_database(server) as dsn, opened(dsn) as made:
        bus = MemoryBus(MemoryBroker(partitions=2, now_ms=lambda: T0_MS))
        await bus.start()
        for number, kind in enumerate((Teller, Rival)):
            teller = kind(bus, "quillfeather", number)
            await teller.tell()
            await teller.ask_the_store(made)
        await remembered(bus.broker, made)
        for name, tenants in (("everybodys", ()), ("ours", (TENANT,)), ("theirs", (RIVAL,))):
            manifest = SkillManifest(name=name, version="1", description="d", parameters={}, owner="o", tenants=tenants)
            await made.upsert_skill(manifest, [1.0] * DIMENSIONS)
        await bus.stop()
        yield made


async def walled(store: PostgresStore) -> list[str]:
    """The tables that say whose each row is."""
    async with store._across() as connection:
        rows = await connection.fetch(
            "SELECT attrelid::regclass::text AS name FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid "
            "WHERE attname = 'tenant' AND relkind IN ('r', 'p') AND NOT relispartition"
        )
    return sorted(row["name"] for row in rows)


@pytest.mark.asyncio
async def test_a_forgotten_condition_finds_nothing_of_another_tenant(store: PostgresStore) -> None:
    tables = await walled(store)
    assert len(tables) == 10
    for table in tables:
        async with store._across() as connection:
            rows = await connection.fetch(f"SELECT tenant, count(*) AS rows FROM {table} GROUP BY tenant")
        there = {row["tenant"]: row["rows"] for row in rows}
        assert set(there) == {TENANT, RIVAL}, f"{table} has rows of both"
        for tenant in (TENANT, RIVAL):
            async with store._within(tenant) as connection:
                seen = await connection.fetch(f"SELECT tenant FROM {table}")
                assert [row["tenant"] for row in seen] == [tenant] * there[tenant], table
        for nobody in ("", "unknown", "' OR true --"):
            async with store._within(nobody) as connection:
                assert await connection.fetchval(f"SELECT count(*) FROM {table}") == 0
    async with store._within(TENANT) as connection:
        names = await connection.fetch("SELECT name FROM skills ORDER BY name")
        assert [row["name"] for row in names] == ["everybodys", "ours"]


@pytest.mark.asyncio
async def test_a_forgotten_condition_changes_nothing_of_another_tenant(store: PostgresStore) -> None:
    for table in await walled(store):
        async with store._across() as connection:
            asked = f"SELECT kept::text FROM {table} AS kept WHERE tenant = $1 ORDER BY 1"
            before = await connection.fetch(asked, RIVAL)
        async with store._within(TENANT) as connection:
            with pytest.raises(asyncpg.InsufficientPrivilegeError, match="row-level security"):
                await connection.execute(f"UPDATE {table} SET tenant = $1", RIVAL)
            await connection.execute(f"UPDATE {table} SET tenant = tenant")
        async with store._across() as connection:
            assert await connection.fetch(asked, RIVAL) == before
    async with store._within(TENANT) as connection:
        await connection.execute("DELETE FROM turns")  # with everything that hangs on them
        await connection.execute("DELETE FROM memories")
    async with store._across() as connection:
        for table in ("turns", "messages", "examples", "readings", "memories"):
            left = await connection.fetch(f"SELECT DISTINCT tenant FROM {table}")
            assert [row["tenant"] for row in left] == [RIVAL], table


@pytest.mark.asyncio
async def test_the_search_by_words_asks_for_the_tenant_of_the_session(store: PostgresStore) -> None:
    asked = "SELECT id FROM memories_by_words('user-quillfeather', 'quillfeather', 99, '', '{}', 500, 1500, 24)"
    found: dict[str, set[str]] = {}
    for tenant in (TENANT, RIVAL, ""):
        async with store._within(tenant) as connection:
            found[tenant] = {row["id"] for row in await connection.fetch(asked)}
        mine = {row.id for row in await store.memories(tenant, "user-quillfeather", 99) if not row.superseded_by}
        assert found[tenant] == mine
    assert found[TENANT]
    assert found[RIVAL]
    assert not found[TENANT] & found[RIVAL]
    assert found[""] == set()


@pytest.mark.asyncio
async def test_every_table_is_walled_and_the_roles_have_no_way_around(store: PostgresStore) -> None:
    async with store._across() as connection:
        roles = await connection.fetch(
            "SELECT rolname, rolsuper OR rolbypassrls OR rolcreaterole OR rolcanlogin AS mighty FROM pg_roles "
            "WHERE rolname IN ($1, $2)", APP, WORKER,
        )  # fmt: skip
        assert {row["rolname"]: row["mighty"] for row in roles} == {APP: False, WORKER: False}
        assert await connection.fetchval("SELECT current_user") == WORKER
        tables = await connection.fetch(
            "SELECT relname, relrowsecurity AS walled, relowner::regrole::text AS owner, relispartition AS part, "
            "has_table_privilege($1, oid, 'SELECT') AS app, has_table_privilege($2, oid, 'SELECT') AS worker, "
            "ARRAY(SELECT polroles[1]::regrole::text FROM pg_policy WHERE polrelid = pg_class.oid ORDER BY 1) AS ruled "
            "FROM pg_class WHERE relkind IN ('r', 'p') AND relnamespace = 'public'::regnamespace", APP, WORKER,
        )  # fmt: skip
    assert {row["relname"] for row in tables if not row["walled"] and not row["part"]} == set(OF_NO_TENANT)
    for row in tables:
        assert row["owner"] not in (APP, WORKER)
        if row["part"]:
            assert (row["app"], row["worker"]) == (False, False), "a part is asked through the whole"
        elif row["relname"] not in OF_NO_TENANT:
            assert row["ruled"] == [APP, WORKER]
    async with store._within(TENANT) as connection:
        assert await connection.fetchval("SELECT current_user") == APP
        for table in ("memories_0", "positions", "forgotten_members"):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.fetch(f"SELECT * FROM {table}")
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute("ALTER TABLE memories DISABLE ROW LEVEL SECURITY")


@pytest.mark.asyncio
async def test_what_runs_as_the_owner_is_not_led_astray(store: PostgresStore) -> None:
    """A caller's own table of the same name is not the one that is asked."""
    async with store._across() as connection:
        paths = await connection.fetch(
            "SELECT proname, proconfig FROM pg_proc WHERE prosecdef AND pronamespace = 'public'::regnamespace"
        )
    assert {row["proname"]: row["proconfig"] for row in paths} == {"memories_by_words": ["search_path=public, pg_temp"]}
    asked = "SELECT count(*) FROM memories_by_words('user-quillfeather', 'quillfeather', 99, '', '{}', 500, 1500, 24)"
    async with store._within(TENANT) as connection, connection.transaction():
        there = await connection.fetchval(asked)
        await connection.execute("CREATE TEMP TABLE memories (tenant text) ON COMMIT DROP")
        assert await connection.fetchval(asked) == there > 0


@pytest.mark.asyncio
async def test_a_connection_that_is_used_again_sees_its_next_tenant_only(server: str) -> None:
    """One connection for two tenants at once, with calls that are cancelled at each of their awaits."""
    async with fresh_database(server) as dsn, opened(dsn, pool_size=1) as store:
        for tenant in (TENANT, RIVAL):
            await store.claim_submit(tenant, "ada", "e1", f"of-{tenant}", 1)

        async def seen(tenant: str) -> list[str]:
            async with store._within(tenant) as connection:
                return [row[0] for row in await connection.fetch("SELECT conversation FROM submit_claims")]

        for steps in range(40):
            tenant = (TENANT, RIVAL)[steps % 2]
            cut = asyncio.create_task(seen(tenant))
            for _ in range(steps // 2):
                await asyncio.sleep(0)
            cut.cancel()
            await asyncio.gather(cut, return_exceptions=True)
            answers = await asyncio.gather(*(seen(name) for name in (TENANT, RIVAL, TENANT, TENANT, RIVAL)))
            assert answers == [[f"of-{name}"] for name in (TENANT, RIVAL, TENANT, TENANT, RIVAL)]


@pytest.mark.asyncio
async def test_a_user_who_is_no_superuser_is_told_what_is_missing_and_then_served(server: str) -> None:
    name = f"plain_{uuid4().hex}"
    async with fresh_database(server) as dsn:
        admin = await asyncpg.connect(dsn)
        await PostgresStore(dsn, DIMENSIONS).migrate()  # whoever was first on this server has made the roles
        await admin.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'p'; DROP SCHEMA public CASCADE")
        await admin.execute(f"CREATE SCHEMA public AUTHORIZATION {name}; CREATE EXTENSION vector")
        try:
            place = urlsplit(dsn)
            plain = urlunsplit(place._replace(netloc=f"{name}:p@{place.netloc.rpartition('@')[2]}"))
            store = PostgresStore(plain, DIMENSIONS, 2)
            with pytest.raises(Misconfigured, match="headstart_app") as refused:
                await store.migrate()
            assert "GRANT headstart_app, headstart_worker" in str(refused.value.hint)
            await admin.execute(f"GRANT headstart_app, headstart_worker TO {name}")
            async with opened(plain) as store:
                key = await store.create_key(TENANT, "ada", "laptop", [], 1)
                assert await store.verify_key(key) is not None
                async with store._within(RIVAL) as connection:
                    assert await connection.fetch("SELECT * FROM api_keys") == []
        finally:
            await admin.execute(f"DROP OWNED BY {name} CASCADE; DROP ROLE {name}")
            await admin.close()
