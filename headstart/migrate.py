"""`headstart migrate`: brings the database that HEADSTART_POSTGRES names to this build's schema."""

from __future__ import annotations

import asyncio
import os
import sys
from typing import Annotated

import typer

from memory.opening import MINILM_DIMENSIONS
from memory.postgres import PostgresStore
from streams.settings import Settings


def register(app: typer.Typer) -> None:
    """Adds `headstart migrate`."""
    app.command()(migrate)


def migrate(
    dimensions: Annotated[int, typer.Option(help="length of the embedder's vectors")] = MINILM_DIMENSIONS,
) -> None:
    """Applies the migrations that are missing. Safe to run twice, and from several processes at once."""
    settings = Settings.from_env(os.environ)
    settings.require("postgres")
    applied = asyncio.run(PostgresStore(settings.postgres or "", dimensions).migrate())
    sys.stdout.write("".join(f"applied {name}\n" for name in applied) or "nothing to do\n")
