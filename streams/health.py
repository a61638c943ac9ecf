"""Is the worker of a stage on this host alive? `python -m streams.health STAGE` for a container's health check.

A worker that works says so on the topic `workers` every half second. So what is asked is the log and not the process:
a worker that has lost the broker, or whose event loop stands still, is not alive however many of its threads are.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from typing import Final

from aiokafka.errors import KafkaError

from streams.broker_access import BrokerAccess
from streams.codec import decode
from streams.errors import HeadstartError, UnknownEvent
from streams.events.registering import WorkerAlive
from streams.kafka_readers import KafkaConnection, KafkaReader
from streams.settings import Settings
from streams.topology import WORKERS

# Eight heartbeats: one that is late is no illness, and Docker's own limit for a check is above it.
LISTEN_S: Final = 4.0


async def heard(settings: Settings, stage: str, host: str, listen_s: float = LISTEN_S) -> bool:
    """Whether a worker of `stage` on `host` speaks within `listen_s` seconds. Raises KafkaError without a broker."""
    settings.require("kafka")
    assert settings.kafka is not None
    access = BrokerAccess.from_settings(settings)
    connection = KafkaConnection(settings.kafka, "", settings.fetch_max_wait_ms, "headstart-health", access)
    reader = KafkaReader(connection, WORKERS.name)
    try:
        await reader.open({0: "latest"})
        async with asyncio.timeout(listen_s):
            while True:
                for record in await reader.batch(wait_ms=500):
                    try:
                        event = decode(record)
                    except UnknownEvent:
                        continue  # of a newer build; it is not ours to judge
                    if isinstance(event, WorkerAlive) and event.worker.startswith(f"{stage}/{host}-"):
                        return not event.leaving
    except TimeoutError:
        return False
    finally:
        await reader.close()


def main(arguments: list[str]) -> int:
    """0: alive, 1: not, 2: not asked properly."""
    if len(arguments) != 1:
        sys.stderr.write("usage: python -m streams.health STAGE\n")
        return 2
    try:
        alive = asyncio.run(heard(Settings.from_env(os.environ), arguments[0], socket.gethostname()))
    except (HeadstartError, KafkaError) as error:
        sys.stderr.write(f"no answer from the bus: {error}\n")
        return 1
    sys.stdout.write("alive\n" if alive else f"no word from a {arguments[0]} worker of this host in {LISTEN_S:g} s\n")
    return 0 if alive else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
