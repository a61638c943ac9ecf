"""compose.yaml's own Apache Kafka, with its users and its authorizer: what each may do, and a turn by all of them."""

from __future__ import annotations

import asyncio
import contextlib
import shlex
import shutil
import subprocess
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import pytest_asyncio
from aiokafka.errors import TopicAuthorizationFailedError

from memory.embed import HashEmbedder
from memory.embedded import EmbeddedPostgres
from memory.opening import MINILM_DIMENSIONS, open_store
from streams.access import Rule, rules
from streams.acls import apply
from streams.apache_kafka import ApacheKafka
from streams.broker_access import BrokerAccess
from streams.child import Child
from streams.codec import decode
from streams.embedded import free_port
from streams.errors import NotPermitted, PeerUnavailable
from streams.events import Event
from streams.events.calling import CallAnswered
from streams.events.generating import AnswerDelta
from streams.events.turn import TurnAccepted, TurnCompleted, TurnHeartbeat
from streams.kafka_bus import KafkaBus
from streams.settings import Settings
from streams.topology import EVENTS, TOPICS, USERS
from tests.real.test_compose_processes import Service
from tests.support.buses import kafka_broker
from tests.support.compose import dev_environment, services
from tests.support.openai_server import OpenAIServer, serve
from workers.generation.scripted_engine import Rule as Say
from workers.generation.scripted_engine import ScriptedEngine, When

pytestmark = [pytest.mark.kafka, pytest.mark.slow, pytest.mark.asyncio(loop_scope="module")]
STAGES = ("gateway", "turns", "generation", "memory", "skills")
# Where compose's broker listens, and its data: here both belong to this machine.
HERE = {
    "listeners": "BUS://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}",
    "advertised.listeners": "BUS://127.0.0.1:{port}",
    "controller.quorum.voters": "1@127.0.0.1:{controller_port}",
}
PLAN = '[{"name":"get_weather","arguments":{"city":"Berlin"}}]'
ANSWER = "It is fine in Berlin."


SCRAM_PASSWORD = "shown-to-nobody"


@dataclass(frozen=True)
class Running:
    """Compose's broker, and a further listener of it on `secure_port`, with TLS by `ca` and a user of SCRAM."""

    broker: ApacheKafka
    secure_port: int
    ca: Path


def certificate(folder: Path) -> Path:
    """A certificate that signs itself, with its key before it: a key store and, for clients, what to trust."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed, so there is no certificate to serve with")
    command = (
        "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext "
        "subjectAltName=IP:127.0.0.1,DNS:localhost -keyout key.pem -out ca.pem"
    )
    subprocess.run(shlex.split(command), cwd=folder, check=True, capture_output=True)
    (folder / "store.pem").write_text((folder / "key.pem").read_text() + (folder / "ca.pem").read_text())
    return folder / "ca.pem"


def secured(settings: dict[str, str], port: int, ca: Path) -> dict[str, str]:
    """The settings with a further listener: TLS and SCRAM, as for brokers that are not in a network of one's own."""
    further = f",SECURE://127.0.0.1:{port}"
    return settings | {
        "listeners": settings["listeners"] + further,
        "advertised.listeners": settings["advertised.listeners"] + further,
        "listener.security.protocol.map": settings["listener.security.protocol.map"] + ",SECURE:SASL_SSL",
        "listener.name.secure.sasl.enabled.mechanisms": "SCRAM-SHA-512",
        "listener.name.secure.scram-sha-512.sasl.jaas.config":
            "org.apache.kafka.common.security.scram.ScramLoginModule required;",
        "listener.name.secure.ssl.keystore.type": "PEM",
        "listener.name.secure.ssl.keystore.location": str(ca.with_name("store.pem")),
    }  # fmt: skip


def compose_settings() -> dict[str, str]:
    """The broker's settings, as the image makes them of its environment: KAFKA_A_B is a.b."""
    told = services()["kafka"]["environment"]
    named = {key[6:].lower().replace("_", "."): str(value) for key, value in told.items() if key.startswith("KAFKA_")}
    del named["log.dirs"]
    return named | HERE


def access(user: str) -> BrokerAccess:
    return BrokerAccess(user, dev_environment()[f"KAFKA_{user.upper()}_PASSWORD"], "PLAIN")


def settings(broker: ApacheKafka, user: str) -> Settings:
    return Settings.from_env({
        "HEADSTART_KAFKA": broker.bootstrap, "HEADSTART_PARTITIONS": "4", "HEADSTART_REPLICATION": "1",
        "HEADSTART_KAFKA_MECHANISM": "plain", "HEADSTART_KAFKA_USER": user,
        "HEADSTART_KAFKA_PASSWORD": dev_environment()[f"KAFKA_{user.upper()}_PASSWORD"],
    })  # fmt: skip


@contextlib.asynccontextmanager
async def bus_of(broker: ApacheKafka, user: str) -> AsyncIterator[KafkaBus]:
    bus = KafkaBus.from_settings(settings(broker, user))
    await bus.start()
    try:
        yield bus
    finally:
        await bus.stop()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Running]:
    """Started with compose's settings; its topics and rules are there."""
    folder = tmp_path_factory.mktemp("kafka")
    port, ca = free_port(), certificate(folder)
    broker = kafka_broker(
        folder / "data", overrides=secured(compose_settings(), port, ca), access=access("admin"),
        format_options=["--add-scram", f"SCRAM-SHA-512=[name=turns,password={SCRAM_PASSWORD}]"],
    )  # fmt: skip
    async with broker:
        assert await apply(settings(broker, "admin")) == (sorted(rules()), [])
        yield Running(broker, port, ca)


@pytest.fixture(scope="module")
def broker(running: Running) -> ApacheKafka:
    return running.broker


async def may_write(bus: KafkaBus, topic: str) -> bool:
    try:
        _ = await bus.publish(topic, 0, "key", TurnHeartbeat(at_ms=0), "t/s/1/0", "tester")
    except NotPermitted:
        return False
    return True


async def may_read(bus: KafkaBus, topic: str) -> bool:
    reader = await bus.reader(topic, {0: "earliest"})
    try:
        _ = await reader.batch(wait_ms=100)
    except TopicAuthorizationFailedError:
        return False
    finally:
        await reader.close()
    return True


async def test_every_user_may_do_what_the_topology_says_and_nothing_else(broker: ApacheKafka) -> None:
    said, found = {}, {}
    for role, user in USERS.items():
        async with bus_of(broker, user) as bus:
            for topic in TOPICS:
                said[user, topic.name] = (role in topic.producers, role in topic.consumers)
                found[user, topic.name] = (await may_write(bus, topic.name), await may_read(bus, topic.name))
    assert found == said
    assert found["service", EVENTS.name] == (False, True)
    assert found["turns", EVENTS.name] == (True, True)


async def test_rules_are_mended_and_what_is_right_stays(broker: ApacheKafka) -> None:
    """A rule too many and one too few, made as an administrator would: by another table, applied."""
    generous = {"service": ("service", "turns")}
    assert (await apply(settings(broker, "admin"), users=generous)).added, "a turns worker that may be a service too"
    mended = await apply(settings(broker, "admin"))
    assert mended.added == []
    assert Rule("turns", "Read", "group", "service.", prefix=True) in mended.removed
    assert await apply(settings(broker, "admin")) == ([], [])


async def test_a_wrong_password_and_a_user_without_rights(broker: ApacheKafka, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streams.kafka_bus.START_TIMEOUT_S", 2.0)
    bus = KafkaBus.from_settings(settings(broker, "turns").but(kafka_password="wrong"))
    with pytest.raises(PeerUnavailable):
        await bus.start()
    async with bus_of(broker, "service") as service:
        with pytest.raises(RuntimeError, match="may not read prompts"):
            _ = service.epoch


async def test_over_tls_with_a_user_of_scram(running: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = {
        "HEADSTART_KAFKA": f"127.0.0.1:{running.secure_port}", "HEADSTART_KAFKA_USER": "turns",
        "HEADSTART_KAFKA_PASSWORD": SCRAM_PASSWORD, "HEADSTART_KAFKA_TLS": "true",
        "HEADSTART_KAFKA_CA": str(running.ca), "HEADSTART_REPLICATION": "1",
    }  # fmt: skip
    bus = KafkaBus.from_settings(Settings.from_env(told))
    await bus.start()
    try:
        assert await may_write(bus, EVENTS.name)
        assert await may_read(bus, "turns")
        assert not await may_read(bus, "calls")
    finally:
        await bus.stop()
    monkeypatch.setattr("streams.kafka_bus.START_TIMEOUT_S", 2.0)
    (tmp_path / "other").mkdir()
    wrong = (("HEADSTART_KAFKA_CA", str(certificate(tmp_path / "other"))), ("HEADSTART_KAFKA_PASSWORD", "wrong"))
    for name, text in wrong:
        with pytest.raises(PeerUnavailable):
            await KafkaBus.from_settings(Settings.from_env({**told, name: text})).start()


async def ask(text: str, url: str, key: str) -> str:
    """Asks the agent that tells the weather; gives its answer."""
    async with httpx.AsyncClient(base_url=url, timeout=90) as client:
        answer = await client.post(
            "/v1/chat/completions", headers={"Authorization": f"Bearer {key}"},
            json={"model": "desk", "messages": [{"role": "user", "content": text}]},
        )  # fmt: skip
    assert answer.status_code == 200, answer.text
    content: str = answer.json()["choices"][0]["message"]["content"]
    return content


async def remembered(dsn: str, turn: str) -> str:
    """The turn's status in Postgres, once the memory worker has written it."""
    async with open_store(Settings.from_env({"HEADSTART_POSTGRES": dsn}), MINILM_DIMENSIONS) as store:
        async with asyncio.timeout(60):
            while (row := await store.turn(turn)) is None or not row.status:  # noqa: ASYNC110  another process writes
                await asyncio.sleep(0.1)
    return row.status


async def test_a_turn_by_all_stages_each_with_its_own_user(broker: ApacheKafka, tmp_path: Path) -> None:
    model = ScriptedEngine([
        Say(PLAN, When(anywhere="You plan calls")), Say(ANSWER, When(contains="get_weather: ")), Say("No result came."),
    ])  # fmt: skip
    embedder = HashEmbedder(MINILM_DIMENSIONS)
    async with EmbeddedPostgres(tmp_path / "postgres") as postgres, serve(OpenAIServer(model, embedder)) as url:
        instead = {
            "HEADSTART_KAFKA": broker.bootstrap, "HEADSTART_PARTITIONS": "4", "HEADSTART_POSTGRES": postgres.dsn,
            "HEADSTART_FETCH_MAX_WAIT_MS": "500", "HEADSTART_IDEMPOTENT": "true",
            "HEADSTART_MODEL_URL": url, "HEADSTART_EMBEDDINGS_URL": url, "HEADSTART_EMBEDDINGS_MODEL": embedder.name,
            "HEADSTART_DATA": str(tmp_path / "data"), "HEADSTART_CACHE": str(tmp_path / "cache"),
            "HEADSTART_DEMO_URL": "",
        }  # fmt: skip
        parts = {name: Service(name, instead, tmp_path) for name in STAGES}
        running: list[Child] = [part.start() for part in parts.values()]
        try:
            await asyncio.gather(
                *(part.until_healthy(child) for part, child in zip(parts.values(), running, strict=True))
            )
            async with open_store(Settings.from_env({"HEADSTART_POSTGRES": postgres.dsn})) as store:
                key = await store.create_key("acme", "ada", "test", ("chat",), time.time_ns() // 10**6)
            port = parts["gateway"].environment["HEADSTART_PORT"]
            answer = await ask("What is the weather in Berlin?", f"http://127.0.0.1:{port}", key)
            facts = await _facts(broker)
            assert {type(fact) for fact in facts} >= {TurnAccepted, CallAnswered, AnswerDelta, TurnCompleted}, facts
            assert answer == ANSWER
            [accepted] = [fact for fact in facts if isinstance(fact, TurnAccepted)]
            assert await remembered(postgres.dsn, accepted.turn) == "completed"
        finally:
            for child in running:
                await child.stop(grace_s=30)


async def _facts(broker: ApacheKafka) -> list[Event]:
    """What the turn left in the log."""
    facts: list[Event] = []
    async with bus_of(broker, "operator") as bus:
        reader = await bus.reader(EVENTS.name, dict.fromkeys(range(bus.partitions), "earliest"))
        try:
            ends = {number: await reader.end_offset(number) for number in range(bus.partitions)}
            while any(reader.position(number) < end for number, end in ends.items()):
                facts += [decode(record) for record in await reader.batch() if b"conv_" in (record.key or b"")]
        finally:
            await reader.close()
    return facts
