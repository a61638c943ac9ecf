"""Apache Kafka started from a folder of jars: one KRaft node, or a quorum of several on one machine.

Only `libs/` of the installation is used; settings, format and start are done here. Data lives in `data_dir` and is
found again by the next start from it, whatever ended the last one. Tuned for small: no delay before a group's first
rebalance, short broker sessions so that a crashed node is back within seconds, one replica where there is one node.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import re
import shutil
import socket
import subprocess
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from streams.broker_access import OPEN, BrokerAccess
from streams.child import Child, start_child, until_listening
from streams.errors import PeerTimeout, PeerUnavailable

LOOPBACK: Final = "127.0.0.1"
OLDEST_JAVA: Final = 17
START_TIMEOUT_S: Final = 60.0
STOP_GRACE_S: Final = 15.0
_LOGGING: Final = """status = error
appender.file.type = File
appender.file.name = file
appender.file.fileName = ${sys:headstart.kafka.log}
appender.file.append = false
appender.file.layout.type = PatternLayout
appender.file.layout.pattern = %d{ISO8601} %p %c{1} %m%n
rootLogger.level = info
rootLogger.appenderRef.file.ref = file
"""


@dataclass(frozen=True, slots=True)
class KafkaInstallation:
    """A folder that holds `libs/` and a Java that can run it."""

    home: Path
    java: Path
    java_version: int


def find_kafka(home: Path, environment: Mapping[str, str]) -> KafkaInstallation | str:
    """The Apache Kafka under `home`, or, in words that fit after "because", why it cannot be used.

    Java is taken from JAVA_HOME of `environment`, else from its PATH. Runs `java -version`: 0.1 s, blocking.
    """
    if not any((home / "libs").glob("kafka-server-*.jar")) and not any((home / "libs").glob("kafka_*.jar")):
        return f"{home} holds no Apache Kafka (no libs/kafka_*.jar)"
    java_home = environment.get("JAVA_HOME")
    java = f"{java_home}/bin/java" if java_home else shutil.which("java", path=environment.get("PATH"))
    if java is None or not Path(java).is_file():
        return "Apache Kafka needs Java 17 or later and there is none in JAVA_HOME or on the PATH"
    printed = subprocess.run([java, "-version"], capture_output=True, text=True, check=False, timeout=30).stderr
    version = re.search(r'version "(\d+)', printed)
    if version is None:
        return f"{java} did not say its version"
    if int(version[1]) < OLDEST_JAVA:
        return f"Apache Kafka needs Java {OLDEST_JAVA} or later and {java} is {version[1]}"
    return KafkaInstallation(home.resolve(), Path(java), int(version[1]))


@dataclass(frozen=True, slots=True)
class Voter:
    """A node of the quorum: its number and the ports of its two listeners."""

    node_id: int
    port: int
    controller_port: int


def new_cluster_id() -> str:
    """22 characters of URL-safe base64, as Kafka writes a UUID; never with a leading dash, the mark of an option."""
    while True:
        text = base64.urlsafe_b64encode(uuid.uuid4().bytes)[:22].decode()
        if not text.startswith("-"):
            return text


def server_properties(voters: Sequence[Voter], own: Voter, data_dir: Path, overrides: Mapping[str, str]) -> str:
    """The settings of one node, as the text of a properties file; `overrides` win, and `{port}` and
    `{controller_port}` in them are this node's."""
    ports = {"{port}": str(own.port), "{controller_port}": str(own.controller_port)}
    replicas = str(min(3, len(voters)))
    in_sync = str(max(1, min(3, len(voters)) - 1))
    settings = {
        "process.roles": "broker,controller",
        "node.id": str(own.node_id),
        "controller.quorum.voters": ",".join(f"{v.node_id}@{LOOPBACK}:{v.controller_port}" for v in voters),
        "listeners": f"PLAINTEXT://{LOOPBACK}:{own.port},CONTROLLER://{LOOPBACK}:{own.controller_port}",
        "advertised.listeners": f"PLAINTEXT://{LOOPBACK}:{own.port}",
        "controller.listener.names": "CONTROLLER",
        "inter.broker.listener.name": "PLAINTEXT",
        "log.dirs": str(data_dir / "log"),
        "auto.create.topics.enable": "false",
        "default.replication.factor": replicas,
        "min.insync.replicas": in_sync,
        "offsets.topic.replication.factor": replicas,
        "offsets.topic.num.partitions": "4",
        "transaction.state.log.replication.factor": replicas,
        "transaction.state.log.min.isr": in_sync,
        "transaction.state.log.num.partitions": "4",
        "share.coordinator.state.topic.replication.factor": replicas,
        "share.coordinator.state.topic.min.isr": in_sync,
        "group.initial.rebalance.delay.ms": "0",
        "group.min.session.timeout.ms": "1000",
        "broker.session.timeout.ms": "1500",
        "broker.heartbeat.interval.ms": "300",
        **{name: _filled_in(value, ports) for name, value in overrides.items()},
    }
    return "".join(f"{name}={value}\n" for name, value in settings.items())


def _filled_in(text: str, values: Mapping[str, str]) -> str:
    for name, value in values.items():
        text = text.replace(name, value)
    return text


class ApacheKafka:
    """One node of Apache Kafka on ports of 127.0.0.1, broker and controller in one.

    port: 0 takes a free one at the first start and keeps it as long as this object lives. quorum: all nodes, this one
    among them, where there are several (`kafka_quorum`); cluster_id must then be the same for all. overrides: server
    settings by name, in which `{port}` and `{controller_port}` are this node's. access: whose word it takes that it is
    ready, where its settings have it ask who somebody is. format_options: for Kafka's storage tool, such as users.
    """

    name = "Apache Kafka"
    durable = True
    fetch_max_wait_ms = 500  # it answers as soon as there is something, so a long wait costs nothing
    idempotent = True

    def __init__(
        self,
        installation: KafkaInstallation,
        data_dir: Path,
        port: int = 0,
        *,
        node_id: int = 1,
        quorum: Sequence[Voter] | None = None,
        cluster_id: str | None = None,
        overrides: Mapping[str, str] | None = None,
        access: BrokerAccess = OPEN,
        format_options: Sequence[str] = (),
    ) -> None:
        self._installation = installation
        self._data_dir = data_dir
        self._wanted_port = port
        self._node_id = node_id
        self._quorum = quorum
        self._cluster_id = cluster_id or new_cluster_id()
        self._overrides = dict(overrides or {})
        self._access = access
        self._format_options = tuple(format_options)
        self._child: Child | None = None

    @property
    def bootstrap(self) -> str:
        if self._quorum is None:
            raise RuntimeError("the broker has not been started")
        return f"{LOOPBACK}:{self._own.port}"

    @property
    def pid(self) -> int | None:
        """Its process, or None when it is not running."""
        return self._child.pid if self._child is not None and self._child.running else None

    async def start(self) -> None:
        if self._quorum is None:
            port, controller_port = _free_ports(2)
            self._quorum = (Voter(self._node_id, self._wanted_port or port, controller_port),)
        self._data_dir.mkdir(parents=True, exist_ok=True)
        properties = self._data_dir / "server.properties"
        properties.write_text(server_properties(self._quorum, self._own, self._data_dir, self._overrides))
        (self._data_dir / "log4j2.properties").write_text(_LOGGING)
        if not (self._data_dir / "log" / "meta.properties").exists():
            await self._format(properties)
        child = self._java("server", "kafka.Kafka", str(properties))
        try:
            await until_listening(child, LOOPBACK, self._own.port, START_TIMEOUT_S)
            await _until_answering(child, self.bootstrap, START_TIMEOUT_S, self._access)
        except BaseException:
            child.kill()
            raise
        self._child = child

    async def stop(self) -> None:
        if self._child is not None:
            await self._child.stop(STOP_GRACE_S)
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

    @property
    def _own(self) -> Voter:
        assert self._quorum is not None
        return next(voter for voter in self._quorum if voter.node_id == self._node_id)

    async def _format(self, properties: Path) -> None:
        arguments = ("format", "-t", self._cluster_id, "-c", str(properties), *self._format_options)
        child = self._java("format", "kafka.tools.StorageTool", *arguments)
        status = await child.wait()
        if status != 0:
            raise PeerUnavailable("Apache Kafka could not format its data folder", hint=child.log_tail(), status=status)

    def _java(self, what: str, main_class: str, *arguments: str) -> Child:
        command: list[str | Path] = [
            self._installation.java,
            "-Xms128m",
            "-Xmx512m",
            "-XX:+UseSerialGC",
            "-XX:TieredStopAtLevel=1",  # the optimising compiler takes a core of a laptop for minutes before it pays
            "-Xshare:auto",
            f"-Dlog4j2.configurationFile={self._data_dir / 'log4j2.properties'}",
            f"-Dheadstart.kafka.log={self._data_dir / f'{what}.log'}",
            "-cp",
            f"{self._installation.home / 'libs'}/*",
            main_class,
            *arguments,
        ]
        return start_child(f"{self.name} ({what})", command, log_path=self._data_dir / f"{what}.out")


def kafka_quorum(installation: KafkaInstallation, data_dir: Path, nodes: int = 3) -> list[ApacheKafka]:
    """A cluster of `nodes` on this machine, none started: start them side by side, the first waits for a majority.

    Data goes to `data_dir`/1 … `data_dir`/`nodes`; ports are fixed when this is called.
    """
    ports = _free_ports(2 * nodes)
    voters = [Voter(n + 1, ports[2 * n], ports[2 * n + 1]) for n in range(nodes)]
    cluster_id = new_cluster_id()
    return [
        ApacheKafka(
            installation, data_dir / str(voter.node_id), node_id=voter.node_id, quorum=voters, cluster_id=cluster_id
        )
        for voter in voters
    ]


async def _until_answering(child: Child, bootstrap: str, timeout_s: float, access: BrokerAccess) -> None:
    """Returns once the node hands out metadata that names a broker."""
    try:
        async with asyncio.timeout(timeout_s):
            while True:
                child.check()
                admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap, request_timeout_ms=2_000, **access.options())
                try:
                    await admin.start()
                    if (await admin.describe_cluster())["brokers"]:
                        return
                except KafkaError:
                    await asyncio.sleep(0.1)
                finally:
                    await admin.close()
    except TimeoutError:
        raise PeerTimeout(
            f"{child.name} listens on {bootstrap} but gave no metadata within {timeout_s:g} s",
            hint=child.log_tail() or None,
        ) from None


def _free_ports(count: int) -> list[int]:
    """Different ports of 127.0.0.1 on which nobody listens now."""
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind((LOOPBACK, 0))
        return [int(probe.getsockname()[1]) for probe in probes]
