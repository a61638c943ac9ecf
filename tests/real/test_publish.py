"""`headstart publish` from a shell, on a real broker: what it says is on `turns`, signed."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import pytest

from memory.keys import hash_key, new_key
from streams import ids
from streams.codec import Record, decode
from streams.embedded import EmbeddedBroker
from streams.events.intake import FactPublish, TurnSubmit
from streams.kafka_bus import KafkaBus
from streams.settings import Settings
from streams.signing import verify

pytestmark = pytest.mark.asyncio


async def headstart(environment: dict[str, str], *arguments: str) -> tuple[int, str, str]:
    """(exit status, stdout, stderr) of the command line."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith("HEADSTART_")}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", "from headstart.cli import main; main()", "publish", *arguments,
        env=clean | environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await process.communicate()
    return process.returncode or 0, out.decode(), err.decode()


async def test_a_turn_and_a_fact_from_a_shell(tmp_path: Path) -> None:
    _, key = new_key(os.urandom)
    async with EmbeddedBroker(tmp_path) as broker:
        settings = Settings.from_env({"HEADSTART_KEY": key, "HEADSTART_PARTITIONS": "4"}).on_broker(
            broker.bootstrap, fetch_max_wait_ms=broker.fetch_max_wait_ms, idempotent=broker.idempotent
        )
        environment = settings.environment()
        status, out, err = await headstart(environment, "turn", "hello", "--user", "ada", "--tenant", "acme")
        assert status == 0, err
        conversation, turn, response = out.split()
        assert response == ids.response_of(turn)
        status, _, err = await headstart(
            environment, "fact", conversation, "job.posted", "A job.", "--user", "ada", "--tenant", "acme",
            "--data", '{"id": 5}',
        )  # fmt: skip
        assert status == 0, err
        bus = KafkaBus.from_settings(settings)
        await bus.start()
        reader = await bus.reader("turns", {ids.partition_of(conversation): "earliest"})
        records: list[Record] = []
        while len(records) < 2:
            records += await reader.batch()
        await reader.close()
        await bus.stop()
    submit, fact = (decode(record) for record in records)
    assert isinstance(submit, TurnSubmit)
    assert isinstance(fact, FactPublish)
    assert (submit.turn, submit.input[0].text, submit.user, submit.tenant) == (turn, "hello", "ada", "acme")
    assert (fact.kind, fact.data) == ("job.posted", {"id": 5})
    for record in records:
        verify(record, hash_key(key))


@pytest.mark.parametrize(
    ("key", "arguments", "said"),
    [
        ("", ("turn", "hello"), "HEADSTART_KEY"),
        ("sk-nothing", ("turn", "hello"), "an API key is"),
        ("sk-nothing", ("fact", "x", "kind", "text", "--data", "["), "--data is not JSON"),
    ],
)
async def test_what_is_wrong_is_said_in_one_line(key: str, arguments: tuple[str, ...], said: str) -> None:
    environment = {"HEADSTART_KAFKA": "127.0.0.1:9"} | ({"HEADSTART_KEY": key} if key else {})
    status, _, err = await headstart(environment, *arguments)
    assert status == 2
    assert said in err
    assert "Traceback" not in err
