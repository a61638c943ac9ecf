"""The parts that one machine runs: they start, keep what they promise to keep, and never outlive their parent."""

from __future__ import annotations

import asyncio
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import asyncpg
import psutil
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError

from memory.embedded import LONGEST_SOCKET_PATH_BYTES, EmbeddedPostgres
from streams.apache_kafka import ApacheKafka, KafkaInstallation, find_kafka, kafka_quorum, new_cluster_id
from streams.child import start_child, until_listening
from streams.embedded import Broker, EmbeddedBroker, choose_broker, free_port
from streams.errors import PeerTimeout, PeerUnavailable
from streams.kafka_bus import KafkaBus

TOPIC = "things"
WAIT_S = 30


@pytest.fixture(scope="module")
def installation() -> KafkaInstallation:
    home = os.environ.get("KAFKA_HOME")
    if not home:
        pytest.skip("Apache Kafka: KAFKA_HOME is not set")
    found = find_kafka(Path(home), os.environ)
    if isinstance(found, str):
        pytest.skip(f"Apache Kafka: {found}")
    return found


async def create_topic(broker: Broker, replication: int = 1) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=broker.bootstrap)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(TOPIC, 1, replication)])
    finally:
        await admin.close()


async def send(broker: Broker, *values: bytes) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=broker.bootstrap, acks="all", enable_idempotence=broker.idempotent)
    await producer.start()
    try:
        for value in values:
            await producer.send_and_wait(TOPIC, value)
    finally:
        await producer.stop()


async def read(broker: Broker, count: int) -> list[bytes]:
    """The first `count` records of the topic; fails if they do not come."""
    consumer = AIOKafkaConsumer(bootstrap_servers=broker.bootstrap, fetch_max_wait_ms=broker.fetch_max_wait_ms)
    await consumer.start()
    try:
        partition = TopicPartition(TOPIC, 0)
        consumer.assign([partition])
        await consumer.seek_to_beginning(partition)
        async with asyncio.timeout(WAIT_S):
            return [(await consumer.getone()).value for _ in range(count)]
    finally:
        await consumer.stop()


# -- Tansu


@pytest.mark.asyncio
async def test_tansu_carries_records_and_says_what_it_cannot(tmp_path: Path) -> None:
    async with EmbeddedBroker(tmp_path) as broker:
        await create_topic(broker)
        await send(broker, b"one", b"two")
        assert await read(broker, 2) == [b"one", b"two"]
        producer = AIOKafkaProducer(bootstrap_servers=broker.bootstrap, enable_idempotence=True)
        with pytest.raises(KafkaError):
            await producer.start()
        await producer.stop()
    assert not broker.durable


@pytest.mark.asyncio
async def test_tansu_starts_again_after_a_crash(tmp_path: Path) -> None:
    broker = EmbeddedBroker(tmp_path)
    await broker.start()
    broker.kill()
    await broker.stop()
    await broker.start()
    try:
        await create_topic(broker)
        await send(broker, b"one")
        assert await read(broker, 1) == [b"one"]
    finally:
        await broker.stop()


def test_a_broker_has_no_address_before_it_was_started(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="not been started"):
        _ = EmbeddedBroker(tmp_path).bootstrap


# -- Apache Kafka


@pytest.mark.kafka
@pytest.mark.asyncio
async def test_apache_kafka_keeps_its_log_over_a_stop_and_a_crash(
    installation: KafkaInstallation, tmp_path: Path
) -> None:
    first = ApacheKafka(installation, tmp_path)
    await first.start()
    await create_topic(first)
    await send(first, b"before the stop")
    await first.stop()
    assert first.pid is None

    second = ApacheKafka(installation, tmp_path)  # other ports, as a later process would take
    await second.start()
    assert second.bootstrap != first.bootstrap
    await send(second, b"before the crash")
    second.kill()
    await second.stop()

    await second.start()
    try:
        assert await read(second, 2) == [b"before the stop", b"before the crash"]
    finally:
        await second.stop()


@pytest.mark.kafka
@pytest.mark.asyncio
async def test_apache_kafka_says_why_it_did_not_start(installation: KafkaInstallation, tmp_path: Path) -> None:
    broker = ApacheKafka(installation, tmp_path, overrides={"num.network.threads": "none"})
    with pytest.raises(PeerUnavailable, match=r"num\.network\.threads"):
        await broker.start()
    assert broker.pid is None


@pytest.mark.kafka
@pytest.mark.slow
@pytest.mark.asyncio
async def test_three_nodes_go_on_without_one(installation: KafkaInstallation, tmp_path: Path) -> None:
    nodes = kafka_quorum(installation, tmp_path)
    await asyncio.gather(*(node.start() for node in nodes))
    try:
        await create_topic(nodes[0], replication=3)
        await send(nodes[0], b"three")
        nodes[0].kill()
        await send(nodes[1], b"two")
        assert await read(nodes[2], 2) == [b"three", b"two"]
    finally:
        for node in nodes:
            node.kill()
        await asyncio.gather(*(node.stop() for node in nodes))


def test_cluster_ids_are_different_and_no_options() -> None:
    ids = {new_cluster_id() for _ in range(2_000)}
    assert len(ids) == 2_000
    assert all(len(text) == 22 and not text.startswith("-") for text in ids)


# -- which broker


def java_that_says(folder: Path, line: str) -> dict[str, str]:
    java = folder / "jdk" / "bin" / "java"
    java.parent.mkdir(parents=True)
    java.write_text(f"#!/bin/sh\necho '{line}' >&2\n")
    java.chmod(java.stat().st_mode | stat.S_IXUSR)
    return {"JAVA_HOME": str(folder / "jdk")}


def kafka_folder(folder: Path) -> Path:
    (folder / "libs").mkdir()
    (folder / "libs" / "kafka_2.13-4.3.1.jar").touch()
    return folder


def test_without_kafka_home_the_log_is_said_to_be_forgotten() -> None:
    choice = choose_broker(None, {})
    assert not choice.durable
    assert "forgotten" in choice.sentence


@pytest.mark.parametrize(
    ("line", "durable", "said"),
    [
        ('openjdk version "21.0.2" 2024-01-16', True, "outlives a restart"),
        ('openjdk version "17" 2021-09-14', True, "Java 17"),
        ('java version "1.8.0_392"', False, "is 1"),
        ('openjdk version "11.0.2" 2019-01-15', False, "needs Java 17 or later"),
        ("something else", False, "did not say its version"),
    ],
)
def test_apache_kafka_is_taken_where_java_is_new_enough(tmp_path: Path, line: str, durable: bool, said: str) -> None:
    choice = choose_broker(kafka_folder(tmp_path), java_that_says(tmp_path, line))
    assert choice.durable is durable
    assert said in choice.sentence


def test_the_sentence_says_why_kafka_home_was_passed_over(tmp_path: Path) -> None:
    assert "holds no Apache Kafka" in choose_broker(tmp_path, {}).sentence
    assert "there is none" in choose_broker(kafka_folder(tmp_path), {"PATH": str(tmp_path)}).sentence
    assert "there is none" in choose_broker(tmp_path, {"JAVA_HOME": "/nowhere"}).sentence


# -- Postgres


@pytest.mark.asyncio
async def test_postgres_keeps_its_rows_over_a_stop_and_a_crash(tmp_path: Path) -> None:
    server = EmbeddedPostgres(tmp_path / "postgres")
    rows: list[asyncpg.Record] = []
    for end in ("stop", "kill", "stop"):
        await server.start()
        connection = await asyncpg.connect(server.dsn)
        await connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
        await connection.execute("CREATE TABLE IF NOT EXISTS notes (ended text, place vector(3))")
        await connection.execute("INSERT INTO notes VALUES ($1, '[1,2,3]')", end)
        rows = await connection.fetch("SELECT ended FROM notes")
        if end == "kill":
            server.kill()
        await server.stop()
        connection.terminate()
    assert [row["ended"] for row in rows] == ["stop", "kill", "stop"]


@pytest.mark.asyncio
async def test_postgres_starts_again_while_a_session_of_the_crashed_one_still_computes(tmp_path: Path) -> None:
    server = EmbeddedPostgres(tmp_path / "postgres")
    await server.start()
    busy = await asyncpg.connect(server.dsn)
    await busy.execute("SET max_parallel_workers_per_gather = 0")
    computing = asyncio.create_task(busy.execute("SELECT sum(sqrt(x)) FROM generate_series(1, 10000000) x"))
    watcher = await asyncpg.connect(server.dsn)
    state = ""
    while state != "active":
        state = await watcher.fetchval("SELECT state FROM pg_stat_activity WHERE pid = $1", busy.get_server_pid())
    server.kill()
    await server.stop()
    await server.start()
    try:
        connection = await asyncpg.connect(server.dsn)
        assert await connection.fetchval("SELECT 1") == 1
        await connection.close()
    finally:
        await server.stop()
        await asyncio.gather(computing, return_exceptions=True)  # it may have had its answer, or not
        watcher.terminate()
        busy.terminate()


@pytest.mark.asyncio
async def test_a_second_postgres_on_the_same_folder_is_refused(tmp_path: Path) -> None:
    async with EmbeddedPostgres(tmp_path / "postgres") as first:
        with pytest.raises(PeerUnavailable, match="lock file"):
            await EmbeddedPostgres(tmp_path / "postgres").start()
        connection = await asyncpg.connect(first.dsn)
        assert await connection.fetchval("SELECT 1") == 1
        await connection.close()


@pytest.mark.asyncio
async def test_a_folder_with_a_long_name_gets_its_socket_elsewhere(tmp_path: Path) -> None:
    folder = tmp_path / ("long" * 30)
    server = EmbeddedPostgres(folder)
    async with server:
        socket_dir = Path(server.dsn.partition("host=")[2])
        assert len(os.fsencode(socket_dir)) < LONGEST_SOCKET_PATH_BYTES
        connection = await asyncpg.connect(server.dsn)
        await connection.close()
    assert not socket_dir.exists()


# -- children


PARENT = """
import asyncio, os, sys, time
from pathlib import Path
from memory.embedded import EmbeddedPostgres
from streams.embedded import EmbeddedBroker
async def main():
    broker, database = EmbeddedBroker(Path(sys.argv[1])), EmbeddedPostgres(Path(sys.argv[1]) / "postgres")
    await broker.start()
    await database.start()
    print("started", flush=True)
asyncio.run(main())
if sys.argv[2] == "stay":
    time.sleep(600)
"""


def children_of(parent: subprocess.Popen[str]) -> list[psutil.Process]:
    return psutil.Process(parent.pid).children(recursive=True)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child that its parent was killed")
def test_parts_end_when_their_parent_is_killed(tmp_path: Path) -> None:
    command = [sys.executable, "-c", PARENT, str(tmp_path), "stay"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == "started\n"
        parts = children_of(parent)
        assert {"tansu", "postgres"} <= {process.name().partition("-")[0] for process in parts}
        parent.kill()
    _, alive = psutil.wait_procs(parts, timeout=WAIT_S)
    assert alive == []


def test_parts_end_when_their_parent_exits_without_stopping_them(tmp_path: Path) -> None:
    command = [sys.executable, "-c", PARENT, str(tmp_path), "leave"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, timeout=WAIT_S)
    left = [
        p for p in psutil.process_iter(["cmdline"]) if any(str(tmp_path) in word for word in p.info["cmdline"] or [])
    ]
    assert left == []
    assert not (tmp_path / "postgres" / "postmaster.pid").exists(), "Postgres was not ended in order"


@pytest.mark.asyncio
async def test_a_program_that_cannot_be_started_says_so(tmp_path: Path) -> None:
    child = start_child("ghost", ["/nowhere/ghost"], log_path=tmp_path / "log")
    assert await child.wait() != 0
    with pytest.raises(PeerUnavailable, match="No such file"):
        child.check()


@pytest.mark.asyncio
async def test_a_program_that_ends_before_it_listens_says_what_it_printed(tmp_path: Path) -> None:
    child = start_child("hasty", [sys.executable, "-c", "raise SystemExit('out of luck')"], log_path=tmp_path / "log")
    with pytest.raises(PeerUnavailable, match="out of luck"):
        await until_listening(child, "127.0.0.1", free_port(), timeout_s=WAIT_S)


@pytest.mark.asyncio
async def test_a_program_that_never_listens_is_waited_for_in_bounds(tmp_path: Path) -> None:
    child = start_child("deaf", ["/bin/sleep", "600"], log_path=tmp_path / "log")
    try:
        with pytest.raises(PeerTimeout, match="deaf did not listen"):
            await until_listening(child, "127.0.0.1", free_port(), timeout_s=0.05)
        assert child.running
    finally:
        child.kill()
        assert await child.stop() == -signal.SIGKILL


STUBBORN = """
import signal, socket, sys
signal.signal(signal.SIGTERM, signal.SIG_IGN)
with socket.create_server(("127.0.0.1", int(sys.argv[1]))) as server:
    while True:
        server.accept()[0].close()
"""


@pytest.mark.asyncio
async def test_a_program_that_ignores_the_signal_is_killed(tmp_path: Path) -> None:
    port = free_port()
    child = start_child("stubborn", [sys.executable, "-c", STUBBORN, str(port)], log_path=tmp_path / "log")
    await until_listening(child, "127.0.0.1", port, timeout_s=WAIT_S)
    assert await child.stop(grace_s=0.1) == -signal.SIGKILL
    assert await child.stop() == -signal.SIGKILL, "stopping again is safe"


@pytest.mark.asyncio
async def test_records_of_one_batch_are_no_gap(tmp_path: Path) -> None:
    """This broker says an end of 1 after a batch of six records; a reader that has read them stays where it is."""
    async with EmbeddedBroker(tmp_path) as broker:
        bus = KafkaBus(
            broker.bootstrap, partitions=1, replication=1, idempotent=False, fetch_max_wait_ms=broker.fetch_max_wait_ms
        )
        await bus.start()
        reader = await bus.reader("events", {0: "earliest"})
        try:
            await asyncio.gather(*[await bus.post_raw("events", 0, b"key", b"{}", []) for _ in range(6)])
            while reader.position(0) < 6:
                await reader.batch()
            await reader._look_for_lag()
            assert (reader.gaps, reader.position(0)) == ([], 6)
        finally:
            await reader.close()
            await bus.stop()
