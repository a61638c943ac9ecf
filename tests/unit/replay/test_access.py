"""Who may read whose turns, and that it is written down."""

from __future__ import annotations

import asyncio
import json
import stat
from pathlib import Path

import pytest

from headstart.replay import access
from headstart.replay.access import DEBUG_SCOPE, authorised, narrowed, sees
from headstart.replay.recorder import Selection
from memory.rows import Principal
from streams import ids
from streams.errors import NotPermitted
from streams.events.turn import TurnAccepted
from streams.settings import Settings

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
