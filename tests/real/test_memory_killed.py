"""The memory worker as a process, killed with SIGKILL while it stores: nothing is lost and nothing doubled."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import pytest

from memory.postgres import PostgresStore
from streams import ids
from streams.apache_kafka import ApacheKafka
from streams.embedded import EmbeddedBroker
from streams.events import Event, InputItem
from streams.events.conversation import ConversationOpened
from streams.events.generating import AnswerDelta, AnswerStarted
from streams.events.turn import TurnAccepted, TurnCompleted
from streams.kafka_bus import KafkaBus
from streams.writer import StageWriter
from tests.support.buses import kafka_broker
from tests.support.databases import fresh_database, postgres_server
from tests.support.memory_process import DIMENSIONS

PARTITIONS = 4
TURNS = 240
KILLS = 3
NOW_MS = 1_800_000_000_000

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with postgres_server() as dsn:
        yield dsn


def conversation_of(number: int) -> str:
    return ids.conversation_id(number % PARTITIONS, NOW_MS, b"conversation")


async def write_turns(bus: KafkaBus) -> None:
    """TURNS turns, in one conversation on each partition."""
    for number in range(TURNS):
        conversation = conversation_of(number)
        at_ms = NOW_MS + number * 1_000
        turn = ids.turn_id(conversation, at_ms, b"turn-entropy")
        course = StageWriter(bus, conversation, turn, "turn", 1, "turns/test")
        answer = StageWriter(bus, conversation, turn, "answer", 1, "generation/test")
        accepted = TurnAccepted(
            turn=turn, conversation=conversation, tenant="acme", user="ada", input=(InputItem(text=f"Say {number}."),),
            at_ms=at_ms, deadline_at_ms=at_ms + 60_000,
        )  # fmt: skip
        facts: list[tuple[StageWriter, Event]] = [(course, accepted)]
        if number < PARTITIONS:
            opened = ConversationOpened(conversation=conversation, tenant="acme", user="ada", at_ms=at_ms)
            facts.append((course, opened))
        facts.append((answer, AnswerStarted(model="m", engine="scripted", at_ms=at_ms)))
        facts += [(answer, AnswerDelta(text=f"{number}.{index} ", index=index)) for index in range(10)]
        facts.append((course, TurnCompleted(at_ms=at_ms + 500)))
        await asyncio.gather(*[await writer.post(fact) for writer, fact in facts])


@asynccontextmanager
async def memory_process(broker: EmbeddedBroker | ApacheKafka, dsn: str) -> AsyncIterator[None]:
    """A worker's process; leaving the context kills it."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.support.memory_process", broker.bootstrap, dsn, str(broker.idempotent),
        str(broker.fetch_max_wait_ms),
    )  # fmt: skip
    try:
        yield
        assert process.returncode is None, "it ended by itself"
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def until_stored(connection: asyncpg.Connection[asyncpg.Record], turns: int) -> None:
    """Returns once this many ended turns are stored. Bound by the test's own time-out."""
    while await connection.fetchval("SELECT count(*) FROM turns WHERE status = 'completed'") < turns:  # noqa: ASYNC110
        await asyncio.sleep(0.05)  # the rows are another process's


@pytest.mark.asyncio
@pytest.mark.parametrize("kind", ["tansu", pytest.param("kafka", marks=pytest.mark.kafka)])
async def test_killed_while_it_stores(kind: str, server: str, tmp_path: Path) -> None:
    broker = kafka_broker(tmp_path) if kind == "kafka" else EmbeddedBroker(tmp_path)
    async with broker, fresh_database(server) as dsn:
        store = PostgresStore(dsn, DIMENSIONS)
        await store.migrate()
        await store.open()
        bus = KafkaBus(
            broker.bootstrap, partitions=PARTITIONS, replication=1, idempotent=broker.idempotent,
            fetch_max_wait_ms=broker.fetch_max_wait_ms,
        )  # fmt: skip
        await bus.start()
        connection = await asyncpg.connect(dsn)
        writing = asyncio.create_task(write_turns(bus))
        for kill in range(1, KILLS + 1):
            async with memory_process(broker, dsn):
                await until_stored(connection, kill * TURNS // (KILLS + 2))
        async with memory_process(broker, dsn):
            await writing
            await until_stored(connection, TURNS)
        assert await connection.fetchval("SELECT count(*) FROM turns") == TURNS
        assert await connection.fetchval("SELECT count(*) FROM messages") == 2 * TURNS
        assert await connection.fetchval("SELECT count(*) FROM memories WHERE layer = 'conversation'") == 2 * TURNS
        for start in range(PARTITIONS):
            messages = (await store.history(conversation_of(start), TURNS)).messages
            expected = [
                text
                for number in range(start, TURNS, PARTITIONS)
                for text in (f"Say {number}.", "".join(f"{number}.{index} " for index in range(10)))
            ]
            assert [message.text for message in messages] == expected
        await connection.close()
        await bus.stop()
        await store.close()
