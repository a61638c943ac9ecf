"""`headstart migrate` and `headstart memory log`, on a real database."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from headstart import migrate, remembered
from memory.postgres import PostgresStore
from memory.rows import Change, ConversationRow, MemoryRow, MessageRow, TurnRecord
from streams import ids
from streams.errors import InvalidInput, NotFound, NotPermitted
from tests.support.databases import postgres_server

CONVERSATION = ids.conversation_id(1, 1_800_000_000_000, b"conversation")
TURN = ids.turn_id(CONVERSATION, 1_800_000_000_000, b"turn-entropy")


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with postgres_server() as dsn:
        yield dsn


@pytest.fixture
def app(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> typer.Typer:
    monkeypatch.setenv("HEADSTART_POSTGRES", server)
    monkeypatch.setenv("HEADSTART_DEV", "true")
    monkeypatch.setenv("HEADSTART_DATA", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "200")
    made = typer.Typer()
    migrate.register(made)
    remembered.register(made)
    return made


def run(app: typer.Typer, *arguments: str) -> str:
    result = CliRunner().invoke(app, list(arguments))
    if result.exception is not None:
        raise result.exception
    return result.stdout


async def remember(dsn: str) -> None:
    said = "I live in Bern"
    record = TurnRecord(
        turn=TURN, conversation=CONVERSATION, tenant="acme", user="ada", begin_offset=0, end_offset=4,
        status="completed", reason="", routed=True, agent="guide",
        messages=(MessageRow(index=0, role="user", text=said),), models=(), accepted_at_ms=1_800_000_000_000,
        ended_at_ms=1_800_000_000_900, previous_turn="", previous_offset=-1, event_id="", origin="client",
    )  # fmt: skip
    rows = [
        MemoryRow(id=name, layer="fact", tenant="acme", user="ada", text=text, vector=[1.0] * 384, at_ms=1,
                  conversation=CONVERSATION, superseded_by=instead)
        for name, text, instead in (("mem_new", "lives in Bern", ""), ("mem_old", "lives in Basel", "mem_new"))
    ]  # fmt: skip
    opened = ConversationRow(conversation=CONVERSATION, tenant="acme", user="ada", created_at_ms=1)
    store = PostgresStore(dsn)
    await store.open()
    await store.project(1, 4, [Change(0, opened), Change(4, record), *(Change(4, row) for row in rows)])
    await store.close()


def test_the_schema_is_made_once_and_a_conversation_is_shown(app: typer.Typer, server: str) -> None:
    assert "applied 0001_conversations" in run(app, "migrate")
    assert run(app, "migrate") == "nothing to do\n"
    asyncio.run(remember(server))
    shown = run(app, "memory", "log", CONVERSATION)
    assert "I live in Bern" in shown
    assert "lives in Bern" in shown
    assert "lives in Basel" not in shown
    assert "lives in Basel" in run(app, "memory", "log", CONVERSATION, "--revisions")
    with pytest.raises(NotFound):
        run(app, "memory", "log", ids.conversation_id(2, 1, b"conversation"))
    with pytest.raises(InvalidInput):
        run(app, "memory", "log", "not an id")
    with pytest.raises(InvalidInput):
        run(app, "memory", "why", "not an id")
    lines = [
        json.loads(line) for line in run(app, "memory", "export", "--tenant", "acme", "--user", "ada").splitlines()
    ]
    assert {line["table"]: line.get("text") for line in lines} == {
        "conversations": None, "turns": None, "messages": "I live in Bern", "memories": lines[-1]["text"],
    }  # fmt: skip
    assert run(app, "memory", "export", "--tenant", "acme", "--user", "eve") == ""
    with pytest.raises(InvalidInput, match="at least 8 days"):
        run(app, "memory", "expire", "7")


def test_memories_are_shown_to_whom_they_belong_and_to_the_role(
    app: typer.Typer, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(app, "migrate")
    asyncio.run(remember(server))
    monkeypatch.delenv("HEADSTART_DEV")
    with pytest.raises(NotPermitted, match="takes a key"):
        run(app, "memory", "log", CONVERSATION)
    for user, scopes, sees in (("ada", ("chat",), True), ("eve", ("chat",), False), ("eve", ("debug",), True)):
        monkeypatch.setenv("HEADSTART_KEY", asyncio.run(key_of(server, user, scopes)))
        if sees:
            assert "I live in Bern" in run(app, "memory", "log", CONVERSATION)
            assert "I live in Bern" in run(app, "memory", "export", "--tenant", "acme", "--user", "ada")
        else:
            with pytest.raises(NotPermitted):
                run(app, "memory", "export", "--tenant", "acme", "--user", "ada")
            with pytest.raises(NotPermitted, match="somebody else's"):
                run(app, "memory", "log", CONVERSATION)


async def key_of(dsn: str, user: str, scopes: tuple[str, ...]) -> str:
    store = PostgresStore(dsn)
    await store.open()
    key = await store.create_key("acme", user, "test", scopes, 1)
    await store.close()
    return key
