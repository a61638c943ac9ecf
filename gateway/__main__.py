"""`python -m gateway`: one gateway process, until it is told to stop."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys

from gateway.server import Gateway
from memory.postgres import PostgresStore
from streams.errors import HeadstartError
from streams.kafka_bus import KafkaBus
from streams.settings import Settings


async def run(settings: Settings, stop: asyncio.Event | None = None) -> None:
    """Runs a gateway on the bus and the database that the settings name until `stop` is set, or SIGTERM or SIGINT.

    Raises Misconfigured when a setting is missing, PeerUnavailable when a part can not be reached.
    """
    settings.require("kafka", "postgres")
    if not settings.dev:
        settings.require("signing_key")
    stopping = stop or asyncio.Event()
    if stop is None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stopping.set)
    bus, store = KafkaBus(settings), PostgresStore(settings)
    await bus.start()
    try:
        store.follow(bus.epoch)
        await store.open()
        try:
            gateway = Gateway(settings, bus, store)
            await gateway.start()
            print(f"gateway listens on {settings.host}:{gateway.port}", flush=True)  # what `up` and people wait for
            await stopping.wait()
            await gateway.stop()
        finally:
            await store.close()
    finally:
        await bus.stop()


def main() -> int:
    try:
        settings = Settings.from_env(os.environ)
        logging.basicConfig(level=settings.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s %(message)s")
        asyncio.run(run(settings))
    except HeadstartError as error:
        print(f"gateway: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
