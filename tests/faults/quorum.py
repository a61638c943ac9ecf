"""Three nodes of Apache Kafka as one broker, of which the leader of a partition can be hit."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from types import TracebackType
from typing import Self

from aiokafka.admin import AIOKafkaAdminClient

from streams.apache_kafka import ApacheKafka, KafkaInstallation, kafka_quorum


class Quorum:
    """A `Broker` (streams/embedded.py) of three nodes; a topic has three replicas, of which two must have a record."""

    name = "Apache Kafka, three nodes"
    durable = True
    fetch_max_wait_ms = ApacheKafka.fetch_max_wait_ms
    idempotent = True

    def __init__(self, installation: KafkaInstallation, folder: Path) -> None:
        self.nodes = kafka_quorum(installation, folder)

    @property
    def bootstrap(self) -> str:
        return ",".join(node.bootstrap for node in self.nodes)

    async def start(self) -> None:
        await asyncio.gather(*(node.start() for node in self.nodes))

    async def stop(self) -> None:
        await asyncio.gather(*(node.stop() for node in self.nodes))

    def kill(self) -> None:
        for node in self.nodes:
            node.kill()

    def check(self) -> None:
        for node in self.nodes:
            node.check()

    async def leader(self, topic: str, partition: int) -> ApacheKafka:
        """The node that leads a partition."""
        admin = AIOKafkaAdminClient(bootstrap_servers=self.bootstrap.split(","))
        await admin.start()
        try:
            while True:
                [found] = await admin.describe_topics([topic])
                number: int = next(part["leader"] for part in found["partitions"] if part["partition"] == partition)
                if number > 0:
                    return self.nodes[number - 1]
                await asyncio.sleep(0.1)  # it is being elected
        finally:
            await admin.close()

    async def until_in_sync(self, topic: str) -> None:
        """Returns once every replica of the topic is in sync."""
        admin = AIOKafkaAdminClient(bootstrap_servers=self.bootstrap.split(","))
        await admin.start()
        try:
            while True:
                [found] = await admin.describe_topics([topic])
                if all(len(part["isr"]) == len(self.nodes) for part in found["partitions"]):
                    return
                await asyncio.sleep(0.2)
        finally:
            await admin.close()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()


def pause(node: ApacheKafka) -> int:
    """SIGSTOP; gives the process, which `os.kill(pid, SIGCONT)` lets go on."""
    assert node.pid is not None
    os.kill(node.pid, signal.SIGSTOP)
    return node.pid
