"""The parts that most processes share, as the settings ask for them: the bus, the store, the embedder."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from memory.embed import Embedder, MiniLMEmbedder, UrlEmbedder
from memory.postgres import PostgresStore
from memory.store import Store
from streams.bus import Bus
from streams.kafka_bus import KafkaBus
from streams.settings import Settings

MINILM_DIMENSIONS = 384


@dataclass(frozen=True, slots=True)
class Parts:
    """Open for as long as the context that gave them."""

    settings: Settings
    bus: Bus
    store: Store
    embedder: Embedder


def embedder_from(settings: Settings) -> Embedder:
    """A server where HEADSTART_EMBEDDINGS_URL names one, else MiniLM in this process. Not started."""
    if settings.embeddings_url is not None:
        model = settings.embeddings_model or ""
        return UrlEmbedder(settings.embeddings_url, model, api_key=settings.embeddings_key or "")
    return MiniLMEmbedder()


@asynccontextmanager
async def open_store(settings: Settings, dimensions: int = MINILM_DIMENSIONS) -> AsyncIterator[PostgresStore]:
    """Postgres at HEADSTART_POSTGRES, migrated and open. Raises Misconfigured when the variable is not set."""
    settings.require("postgres")
    store = PostgresStore(settings.postgres or "", dimensions)
    await store.migrate()
    await store.open()
    try:
        yield store
    finally:
        await store.close()


@asynccontextmanager
async def open_bus(settings: Settings, client: str) -> AsyncIterator[KafkaBus]:
    """Kafka at HEADSTART_KAFKA, its topics made. client: what the broker is told about who connects."""
    settings.require("kafka")
    bus = KafkaBus.from_settings(settings, client=client)
    await bus.start()
    try:
        yield bus
    finally:
        await bus.stop()


@asynccontextmanager
async def open_parts(settings: Settings, client: str, *, embeds: bool = True) -> AsyncIterator[Parts]:
    """All of them; the store follows the bus's log. Raises Misconfigured, naming each variable that is not set.

    embeds: load an embedding model of this process now, which takes seconds; else on its first use.
    """
    settings.require("kafka", "postgres")
    async with AsyncExitStack() as stack:
        embedder = embedder_from(settings)
        if embeds or settings.embeddings_url is not None:
            await embedder.start()
        stack.push_async_callback(embedder.close)
        store = await stack.enter_async_context(open_store(settings, embedder.dimensions))
        bus = await stack.enter_async_context(open_bus(settings, client))
        store.follow(bus.epoch)
        yield Parts(settings, bus, store, embedder)
