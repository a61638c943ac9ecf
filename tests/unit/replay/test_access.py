"""Who may read whose turns, and that it is written down."""

from __future__ import annotations

import asyncio
import json
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from headstart.audit_commands import reads, what
from headstart.replay import access
from headstart.replay.access import DEBUG_SCOPE, authorised, narrowed, publish, sees
from headstart.replay.recorder import Selection
from memory.rows import Principal
from streams import ids
from streams.errors import NotPermitted, PeerUnavailable
from streams.events.auditing import LogRead
from streams.events.turn import TurnAccepted
from streams.memory_bus import MemoryBroker, MemoryBus
from streams.settings import Settings
from streams.topology import AUDIT

CONVERSATION = ids.conversation_id(0, 1_000, bytes(10))


def reader(*scopes: str) -> Principal:
    return Principal(tenant="acme", user="ada", service=False, scopes=scopes, key_id="k1")


def accepted(tenant: str, user: str) -> TurnAccepted:
    return TurnAccepted(
        turn="t", conversation=CONVERSATION, tenant=tenant, user=user, input=(), at_ms=1, deadline_at_ms=2
    )  # fmt: skip


def test_a_key_reads_what_is_its_owners() -> None:
    allowed = narrowed(Selection(since_ms=5), reader("chat"))
    assert allowed == Selection(since_ms=5, tenant="acme", user="ada")
    assert sees(allowed, accepted("acme", "ada"))
    assert not sees(allowed, accepted("acme", "eve"))
    assert not sees(allowed, accepted("other", "ada"))


def test_the_role_reads_its_tenant() -> None:
    allowed = narrowed(Selection(user="eve"), reader("chat", DEBUG_SCOPE))
    assert allowed == Selection(tenant="acme", user="eve")
    assert sees(narrowed(Selection(), reader(DEBUG_SCOPE)), accepted("acme", "eve"))
    assert not sees(narrowed(Selection(), reader(DEBUG_SCOPE)), accepted("other", "eve"))


def test_nobody_else_is_read() -> None:
    with pytest.raises(NotPermitted) as caught:
        narrowed(Selection(user="eve"), reader("chat"))
    assert caught.value.code == "other_user"
    with pytest.raises(NotPermitted) as caught:
        narrowed(Selection(tenant="other"), reader(DEBUG_SCOPE))
    assert caught.value.code == "other_tenant"


def lines(folder: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (folder / access.FILE).read_text().splitlines()]


def test_each_read_is_a_line_and_each_refusal_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings.from_env({"HEADSTART_DATA": str(tmp_path)})

    async def ada(settings: Settings) -> Principal:
        return reader("chat")

    monkeypatch.setattr(access, "_reader", ada)
    asyncio.run(authorised(settings, "find", Selection(conversations=frozenset({CONVERSATION}))))
    with pytest.raises(NotPermitted):
        asyncio.run(authorised(settings, "record", Selection(user="eve")))
    read, refused = lines(tmp_path)
    assert (read["command"], read["key"], read["by"], read["refused"]) == ("find", "k1", ["acme", "ada"], "")
    assert read["read"] == {"conversations": [CONVERSATION], "tenant": "acme", "user": "ada"}
    assert (refused["command"], refused["refused"]) == ("record", "other_user")
    assert stat.S_IMODE((tmp_path / access.FILE).stat().st_mode) == 0o600


def test_where_keys_are_kept_a_key_is_shown(tmp_path: Path) -> None:
    kept = {"HEADSTART_DATA": str(tmp_path), "HEADSTART_POSTGRES": "postgresql://nobody@127.0.0.1:1/none"}
    with pytest.raises(NotPermitted) as caught:
        asyncio.run(authorised(Settings.from_env(kept), "tail", Selection()))
    assert caught.value.code == "key_missing"
    free = Settings.from_env({"HEADSTART_DATA": str(tmp_path)})
    assert asyncio.run(authorised(free, "tail", Selection())) == Selection()
    assert [line["refused"] for line in lines(tmp_path)] == ["key_missing", ""]


@pytest.fixture
def bus(monkeypatch: pytest.MonkeyPatch) -> MemoryBus:
    made = MemoryBus(MemoryBroker())

    @asynccontextmanager
    async def opened(settings: Settings, client: str) -> AsyncIterator[MemoryBus]:
        await made.start()
        yield made

    monkeypatch.setattr(access, "open_bus", opened)
    return made


def as_reader(monkeypatch: pytest.MonkeyPatch, principal: Principal) -> None:
    async def shown(settings: Settings) -> Principal:
        return principal

    monkeypatch.setattr(access, "_reader", shown)


def test_each_read_is_a_fact_on_the_bus_before_anything_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bus: MemoryBus
) -> None:
    settings = Settings.from_env({"HEADSTART_DATA": str(tmp_path), "HEADSTART_KAFKA": "broker:9092"})
    as_reader(monkeypatch, reader("chat", DEBUG_SCOPE))

    async def course() -> None:
        await authorised(settings, "find", Selection(user="eve", since_ms=5))
        with pytest.raises(NotPermitted):
            await authorised(settings, "record", Selection(tenant="other"))
        seen = await reads(bus, Selection(), 0)
        assert [(one.command, one.of_user, one.since_ms, one.refused) for one in seen] == [
            ("find", "eve", 5, ""), ("record", "", -1, "other_tenant"),
        ]  # fmt: skip
        assert (seen[0].tenant, seen[0].user, seen[0].key, seen[0].of_tenant) == ("acme", "ada", "k1", "acme")
        assert [record.key for record in bus.broker.log_of(AUDIT.name, 0).records] == [b"acme", b"other"]
        assert await reads(bus, Selection(), 10**15) == []

    asyncio.run(course())
    assert len(lines(tmp_path)) == 2


def test_what_cannot_be_written_down_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bus: MemoryBus
) -> None:
    settings = Settings.from_env({"HEADSTART_DATA": str(tmp_path), "HEADSTART_KAFKA": "broker:9092"})
    as_reader(monkeypatch, reader(DEBUG_SCOPE))
    bus.broker.refuse = 1
    with pytest.raises(PeerUnavailable):
        asyncio.run(authorised(settings, "find", Selection()))


def test_who_reads_the_audit_sees_their_own_part_of_it(bus: MemoryBus) -> None:
    told = [
        LogRead(command="a", at_ms=1, tenant="acme", user="ada", key="k1", of_tenant="acme", of_user="ada"),
        LogRead(command="b", at_ms=2, tenant="acme", user="eve", key="k2", of_tenant="acme"),
        LogRead(command="c", at_ms=3, tenant="rival", user="bob", key="k3", of_tenant="acme", refused="other_tenant"),
        LogRead(command="d", at_ms=4, tenant="rival", user="bob", key="k3", of_tenant="rival"),
        LogRead(command="e", at_ms=5, refused="key_missing", turns=("turn_1",)),
    ]

    async def course() -> None:
        await bus.start()
        for one in told:
            await publish(bus, one)

        async def seen(allowed: Selection) -> str:
            return "".join(one.command for one in await reads(bus, allowed, 0))

        assert await seen(Selection()) == "abcde"
        assert await seen(Selection(tenant="acme")) == "abc"
        assert await seen(Selection(tenant="acme", user="ada")) == "a"

    asyncio.run(course())
    assert [what(one) for one in told] == ["of acme/ada", "of acme", "of acme", "of rival", "turn_1"]
    assert what(LogRead(command="f", at_ms=6)) == "everything"
