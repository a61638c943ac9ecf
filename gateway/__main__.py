"""`python -m gateway`: one gateway process, until it is told to stop."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from gateway.server import Gateway
from memory.opening import open_bus, open_store
from streams.process import Running, run_process
from streams.settings import Settings


@asynccontextmanager
async def serve(settings: Settings) -> AsyncIterator[Running]:
    """A gateway on the bus and the database that the settings name, listening for as long as the context is open.

    Raises Misconfigured when a setting is missing and PeerUnavailable when a part can not be reached.
    """
    settings.require("kafka", "postgres")
    if not settings.dev:
        settings.require("signing_key")
    async with open_bus(settings, "headstart-gateway") as bus, open_store(settings) as store:
        store.follow(bus.epoch)
        gateway = Gateway(settings, bus, store)
        await gateway.start()
        try:
            yield Running(f"gateway on {settings.host}:{gateway.port}", gateway.failed)
        finally:
            await gateway.stop()


if __name__ == "__main__":
    sys.exit(run_process(serve))
