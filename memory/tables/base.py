"""What every group of tables needs: connections with their codecs, and a database's errors as ours.

A connection has one of two roles for life (migration 0011). As APP it sees one tenant's rows, those of the tenant that
`_within` names, whatever a statement forgets to ask; as WORKER it sees all: for what is known by its own id alone (a
key, a conversation, a turn), and for the projection of the log, which is about everybody.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

import asyncpg
import orjson
from pgvector.asyncpg import register_vector

from memory.migrate import migrate, wrong_dimensions
from memory.rows import Vector
from streams.errors import InvalidInput, Misconfigured, PeerTimeout, PeerUnavailable

if TYPE_CHECKING:
    from asyncpg.pool import PoolConnectionProxy

    Connection = PoolConnectionProxy[asyncpg.Record]
    Pool = asyncpg.Pool[asyncpg.Record]

COMMAND_TIMEOUT_S: Final = 30.0
CONNECT_TIMEOUT_S: Final = 10.0
# An index scan goes on until enough rows pass the filter; without this a tenant's share of 10 % would get 4 rows of 10.
# Order within the scan may be relaxed, since the rows are sorted again. 100 candidates give recall@10 above 0.95.
# A plan is made for each question (under a millisecond): the one for every tenant, which Postgres would take after five
# questions on a connection, compares all memories of a large one.
SETTINGS: Final = {
    "hnsw.iterative_scan": "relaxed_order", "hnsw.ef_search": "100", "jit": "off",
    "plan_cache_mode": "force_custom_plan",
}  # fmt: skip
APP: Final = "headstart_app"
WORKER: Final = "headstart_worker"
_DIMENSIONS: Final = "SELECT DISTINCT dimensions FROM schema_migrations"
_BECOME: Final = "SELECT set_config('role', $1, false)"
# For the session and not for a transaction: that is one round trip less, and none where the tenant is the same. Whoever
# takes a connection says its tenant before anything else, so what the one before has left is never met.
_WITHIN: Final = "SELECT set_config('headstart.tenant', $1, false)"


class Tables:
    """A pool for each role, of at most `pool_size` connections each, opened as they are needed."""

    def __init__(
        self, dsn: str, dimensions: int = 384, pool_size: int = 10, *, connect_timeout_s: float = CONNECT_TIMEOUT_S,
        command_timeout_s: float = COMMAND_TIMEOUT_S,
    ) -> None:  # fmt: skip
        self.dimensions = dimensions
        self._connect_timeout_s, self._command_timeout_s = connect_timeout_s, command_timeout_s
        self._dsn = dsn
        self._pool_size = pool_size
        self._pools: dict[str, Pool] = {}
        self._tenants: dict[int, str] = {}  # by the server's process of a connection: whose rows it sees
        self._epoch = 0

    async def open(self) -> None:
        if self._pools:
            raise RuntimeError("the store is open")
        pools: dict[str, Pool] = {}
        try:
            async with _typed_errors():
                for role in (APP, WORKER):
                    pools[role] = await self._pool(role)
                async with pools[WORKER].acquire() as connection:
                    stored = await connection.fetchval(_DIMENSIONS)
            if stored != self.dimensions:
                raise wrong_dimensions(stored, self.dimensions)
        except BaseException:
            for pool in pools.values():
                pool.terminate()
            raise
        self._pools = pools

    async def close(self) -> None:
        pools, self._pools = self._pools, {}
        await asyncio.gather(*[_say_goodbye(pool, self._connect_timeout_s) for pool in pools.values()])

    async def migrate(self) -> list[str]:
        async with _typed_errors():
            return await migrate(self._dsn, self.dimensions)

    def follow(self, topic_epoch: int) -> None:
        self._epoch = topic_epoch

    async def _pool(self, role: str) -> Pool:
        async def prepare(connection: asyncpg.Connection[asyncpg.Record]) -> None:
            self._tenants.pop(connection.get_server_pid(), None)
            await _prepare(connection, role)

        return await asyncpg.create_pool(
            self._dsn, min_size=0, max_size=self._pool_size, init=prepare, reset=_keep,
            timeout=self._connect_timeout_s, command_timeout=self._command_timeout_s, server_settings=SETTINGS,
        )  # fmt: skip

    @asynccontextmanager
    async def _within(self, tenant: str) -> AsyncIterator[Connection]:
        """A connection that sees the rows of this tenant and of nobody else."""
        async with self._taken(APP) as connection:
            process = connection.get_server_pid()
            if self._tenants.get(process) != tenant:
                self._tenants.pop(process, None)  # if this is cancelled, nobody knows what it sees
                await connection.execute(_WITHIN, tenant)
                self._tenants[process] = tenant
            yield connection

    @asynccontextmanager
    async def _across(self) -> AsyncIterator[Connection]:
        """A connection that sees every tenant's rows."""
        async with self._taken(WORKER) as connection:
            yield connection

    @asynccontextmanager
    async def _transaction(self) -> AsyncIterator[Connection]:
        """`_across`, in a transaction."""
        async with self._across() as connection, connection.transaction():
            yield connection

    @asynccontextmanager
    async def _taken(self, role: str) -> AsyncIterator[Connection]:
        pool = self._pools.get(role)
        if pool is None:
            raise RuntimeError("the store is not open")
        async with _typed_errors(), pool.acquire(timeout=self._command_timeout_s) as connection:
            try:
                yield connection
            except TimeoutError:
                await self._give_up(connection)
                raise
            except asyncpg.InternalClientError:
                connection.terminate()  # it would go back to the pool as it is, and fail whoever gets it next
                raise

    async def _give_up(self, connection: Connection) -> None:
        """A connection that did not answer in time is not asked again, not even to cancel; the others go when they are
        next given back or taken, since what one of them met the others will meet too."""
        connection.terminate()
        for pool in self._pools.values():
            await pool.expire_connections()

    def _check(self, vector: Vector) -> None:
        if len(vector) != self.dimensions:
            raise ValueError(f"a vector of {len(vector)} numbers where {self.dimensions} are stored")


def storable(text: str) -> str:
    """Postgres can not hold U+0000 in text; it becomes U+FFFD, the sign for what can not be shown."""
    return text.replace("\x00", "\ufffd")


async def _prepare(connection: asyncpg.Connection[asyncpg.Record], role: str) -> None:
    try:
        await register_vector(connection)
    except ValueError as error:  # asyncpg: unknown type: public.vector
        raise _no_schema() from error
    await connection.set_type_codec("jsonb", schema="pg_catalog", encoder=_to_json, decoder=orjson.loads, format="text")
    try:
        await connection.execute(_BECOME, role)
    except asyncpg.InvalidParameterValueError as error:  # there is no such role
        raise _no_schema() from error
    except asyncpg.InsufficientPrivilegeError as error:
        raise Misconfigured(f"the database's user may not be {role}", hint=f"GRANT {role} TO that user") from error


async def _say_goodbye(pool: Pool, within_s: float) -> None:
    """A connection whose far side is gone without a word never answers a goodbye: then the pool hangs up."""
    try:
        async with asyncio.timeout(within_s):
            await pool.close()
    except TimeoutError:
        pool.terminate()


def _no_schema() -> Misconfigured:
    return Misconfigured("the database has no schema yet", hint="run `headstart migrate`")


def _to_json(value: Any) -> str:
    return orjson.dumps(value).decode()


async def _keep(connection: Any) -> None:
    """A connection goes back as it is: asyncpg's own reset is one more round trip per call, and has nothing to do."""


@asynccontextmanager
async def _typed_errors() -> AsyncIterator[None]:
    try:
        yield
    except asyncpg.UndefinedTableError as error:
        raise _no_schema() from error
    except TimeoutError as error:
        raise PeerTimeout("the database did not answer in time", code="database_timeout") from error
    except (asyncpg.DataError, asyncpg.IntegrityConstraintViolationError, asyncpg.ProgramLimitExceededError) as error:
        raise InvalidInput(
            f"the database can not hold this: {error}", code="not_storable", cause=type(error).__name__
        ) from error
    except (
        OSError,
        asyncpg.PostgresConnectionError,
        asyncpg.InterfaceError,
        asyncpg.InternalClientError,  # the server said goodbye between two queries and the socket is still open
        asyncpg.OperatorInterventionError,
        asyncpg.InsufficientResourcesError,
    ) as error:
        raise PeerUnavailable(
            "the database can not be reached", code="database_unavailable", cause=type(error).__name__
        ) from error
