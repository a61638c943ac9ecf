"""Applies memory/migrations/*.sql in the order of their names, each once, each in a transaction of its own.

A name and the SHA-256 of its text are kept in `schema_migrations`; a file that was changed after it was applied is
refused, since the schema would no longer be what the file says. An advisory lock makes a second process wait until the
first is done, after which it finds nothing to do. `{dimensions}` in a file stands for the length of the vectors.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Final

import asyncpg

from streams.errors import Misconfigured

FOLDER: Final = Path(__file__).with_name("migrations")
# Any number that no other application on the same database uses; this one is "headstar" in ASCII.
LOCK: Final = int.from_bytes(b"headstar", "big")
PRIVILEGES: Final = (
    "let it create roles, or have an administrator run once: CREATE ROLE headstart_app NOLOGIN; "
    "CREATE ROLE headstart_worker NOLOGIN; GRANT headstart_app, headstart_worker TO that user"
)
_LEDGER: Final = """
CREATE TABLE IF NOT EXISTS schema_migrations (
    name       text PRIMARY KEY,
    digest     bytea NOT NULL,
    dimensions integer NOT NULL
)
"""


async def migrate(dsn: str, dimensions: int) -> list[str]:
    """Gives the names it applied. Raises Misconfigured when the database was made by other files or for vectors of
    another length; everything applied before the error stays."""
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute("SELECT pg_advisory_lock($1)", LOCK)  # released with the session
        await connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
        await connection.execute(_LEDGER)
        rows = await connection.fetch("SELECT name, digest, dimensions FROM schema_migrations")
        applied = {row["name"]: bytes(row["digest"]) for row in rows}
        for made_for in {row["dimensions"] for row in rows} - {dimensions}:
            raise wrong_dimensions(made_for, dimensions)
        done: list[str] = []
        for path in sorted(FOLDER.glob("*.sql")):
            text = path.read_text()
            digest = hashlib.sha256(text.encode()).digest()
            if path.stem in applied:
                if applied[path.stem] != digest:
                    raise Misconfigured(
                        f"migration {path.stem} was applied with another text",
                        hint="migrations never change: add a new one",
                    )
                continue
            try:
                async with connection.transaction():
                    await connection.execute(text.replace("{dimensions}", str(dimensions)))
                    await connection.execute(
                        "INSERT INTO schema_migrations VALUES ($1, $2, $3)", path.stem, digest, dimensions
                    )
            except asyncpg.InsufficientPrivilegeError as error:
                raise Misconfigured(
                    f"the database's user may not apply {path.stem}: {error}", hint=PRIVILEGES
                ) from error
            done.append(path.stem)
        return done
    finally:
        await connection.close()


def wrong_dimensions(stored: int, wanted: int) -> Misconfigured:
    """What to raise when the vectors of the schema and of the embedder differ in length."""
    return Misconfigured(
        f"the database holds vectors of {stored} numbers and the embedder gives {wanted}",
        hint="use the embedder that the database was made with, or a new database",
        stored=stored,
        wanted=wanted,
    )
