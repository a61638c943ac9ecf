"""What every group of tables needs: connections with their codecs, and a database's errors as ours."""

from __future__ import annotations

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
_DIMENSIONS: Final = "SELECT DISTINCT dimensions FROM schema_migrations"


class Tables:
    """The pool. A connection keeps its settings for life: nothing here sets anything outside a transaction."""

    def __init__(
        self, dsn: str, dimensions: int = 384, pool_size: int = 10, *, connect_timeout_s: float = CONNECT_TIMEOUT_S,
        command_timeout_s: float = COMMAND_TIMEOUT_S,
    ) -> None:  # fmt: skip
        self.dimensions = dimensions
        self._connect_timeout_s, self._command_timeout_s = connect_timeout_s, command_timeout_s
        self._dsn = dsn
        self._pool_size = pool_size
        self._pool: asyncpg.Pool[asyncpg.Record] | None = None
        self._epoch = 0

    async def open(self) -> None:
        if self._pool is not None:
            raise RuntimeError("the store is open")
        async with _typed_errors():
            pool = await asyncpg.create_pool(
                self._dsn, min_size=0, max_size=self._pool_size, init=_prepare, reset=_keep,
                timeout=self._connect_timeout_s, command_timeout=self._command_timeout_s, server_settings=SETTINGS,
            )  # fmt: skip
        try:
            async with _typed_errors(), pool.acquire() as connection:
                stored = await connection.fetchval(_DIMENSIONS)
        except BaseException:
            pool.terminate()
            raise
        if stored != self.dimensions:
            pool.terminate()
            raise wrong_dimensions(stored, self.dimensions)
        self._pool = pool

    async def close(self) -> None:
        if self._pool is not None:
            pool, self._pool = self._pool, None
            await pool.close()

    async def migrate(self) -> list[str]:
        async with _typed_errors():
            return await migrate(self._dsn, self.dimensions)

    def follow(self, topic_epoch: int) -> None:
        self._epoch = topic_epoch

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[Connection]:
        if self._pool is None:
            raise RuntimeError("the store is not open")
        async with _typed_errors(), self._pool.acquire(timeout=self._command_timeout_s) as connection:
            try:
                yield connection
            except TimeoutError:
                await self._give_up(connection)
                raise
            except asyncpg.InternalClientError:
                connection.terminate()  # it would go back to the pool as it is, and fail whoever gets it next
                raise

    @asynccontextmanager
    async def _transaction(self) -> AsyncIterator[Connection]:
        async with self._connection() as connection, connection.transaction():
            yield connection

    async def _give_up(self, connection: Connection) -> None:
        """A connection that did not answer in time is not asked again, not even to cancel; the others of the pool go
        when they are next given back or taken, since what one of them met the others will meet too."""
        connection.terminate()
        if self._pool is not None:
            await self._pool.expire_connections()

    def _check(self, vector: Vector) -> None:
        if len(vector) != self.dimensions:
            raise ValueError(f"a vector of {len(vector)} numbers where {self.dimensions} are stored")


def storable(text: str) -> str:
    """Postgres can not hold U+0000 in text; it becomes U+FFFD, the sign for what can not be shown."""
    return text.replace("\x00", "\ufffd")


async def _prepare(connection: asyncpg.Connection[asyncpg.Record]) -> None:
    try:
        await register_vector(connection)
    except ValueError as error:  # asyncpg: unknown type: public.vector
        raise Misconfigured("the database has no schema yet", hint="run `headstart migrate`") from error
    await connection.set_type_codec("jsonb", schema="pg_catalog", encoder=_to_json, decoder=orjson.loads, format="text")


def _to_json(value: Any) -> str:
    return orjson.dumps(value).decode()


async def _keep(connection: Any) -> None:
    """A connection goes back as it is: asyncpg's own reset is one more round trip per call, and has nothing to do."""


@asynccontextmanager
async def _typed_errors() -> AsyncIterator[None]:
    try:
        yield
    except asyncpg.UndefinedTableError as error:
        raise Misconfigured("the database has no schema yet", hint="run `headstart migrate`") from error
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
