"""The door and the directory without a server: keys, origins, rates, and conversations that certify themselves."""

from __future__ import annotations

import pytest

from gateway.access import Door, key_of
from gateway.directory import Directory
from gateway.feed import Feed, home_partitions
from gateway.limits import Limits
from gateway.replies import error_body, error_frame, status_of
from memory.memory_store import MemoryStore
from memory.rows import Principal
from streams import ids
from streams.errors import InvalidInput, NotFound, NotPermitted, OurError, PeerTimeout, PeerUnavailable, Refused
from streams.memory_bus import MemoryBus

ADA = Principal(tenant="acme", user="ada", service=False, scopes=("chat",), key_id="key_1")
EVE = Principal(tenant="acme", user="eve", service=False, scopes=("chat",), key_id="key_2")


class Clock:
    def __init__(self) -> None:
        self.now_ms = 1_763_700_000_000

    def __call__(self) -> int:
        return self.now_ms


@pytest.mark.asyncio
async def test_a_key_is_believed_for_a_while_and_no_longer() -> None:
    store, clock = MemoryStore(), Clock()
    door = Door(store, Limits(), clock)
    key = await store.create_key("acme", "ada", "", ["chat"], 0)
    assert (await door.admit(key)).user == "ada"
    (row,) = await store.keys()
    await store.revoke_key(row.key_id, 1)
    assert (await door.admit(key)).user == "ada"
    clock.now_ms += Limits().key_cache_ms + 1
    with pytest.raises(NotPermitted):
        await door.admit(key)
    for wrong in ("", "nonsense"):
        with pytest.raises(NotPermitted) as caught:
            await door.admit(wrong)
        assert caught.value.code == "unauthorized"


def test_where_a_key_is_looked_for() -> None:
    assert key_of({"authorization": "Bearer k1"}, "key=k2") == "k1"
    assert key_of({"authorization": "Basic k1"}, "") == ""
    assert key_of({}, "a=1&key=k2") == "k2"
    assert key_of({}, "", ["chat", "headstart.key.k3"]) == "k3"
    assert key_of({}, "") == ""


def test_origins() -> None:
    door = Door(MemoryStore(), Limits(), Clock(), ["https://app.example/"])
    for headers in (
        {},
        {"origin": "https://app.example"},
        {"origin": "http://here:80", "host": "here:80"},
    ):
        door.check_origin(headers)
    for headers in (
        {"origin": "https://evil.example", "host": "here:80"},
        {"origin": "null", "host": ""},
        {"origin": "", "host": ""},
    ):
        with pytest.raises(NotPermitted):
            door.check_origin(headers)


def test_each_key_has_its_own_rate() -> None:
    clock = Clock()
    door = Door(MemoryStore(), Limits(turns_burst=1, turns_per_second=1), clock)
    door.count_turn(ADA)
    door.count_turn(EVE)
    with pytest.raises(Refused) as caught:
        door.count_turn(ADA)
    clock.now_ms += caught.value.facts["retry_after_ms"]
    door.count_turn(ADA)


@pytest.mark.asyncio
async def test_a_minted_conversation_is_its_members_and_nobody_elses() -> None:
    bus, store, clock = MemoryBus(), MemoryStore(), Clock()
    await bus.start()
    store.follow(bus.epoch)
    feed = Feed(bus, store, Limits(), clock)
    await feed.start()
    try:
        directory = Directory(store, feed, clock, b"secret")
        conversation = directory.mint(feed.next_home(), ADA, b"\xff\xfe\xfd\xfc")
        assert ids.is_id(ids.CONVERSATION, conversation)
        assert ids.time_of(conversation) == clock.now_ms
        assert directory.minted(conversation, ADA)
        assert not directory.minted(conversation, EVE)
        assert not Directory(store, feed, clock, b"another").minted(conversation, ADA)
        clock.now_ms += 1
        assert directory.minted(conversation, ADA)
        assert (await directory.owned(conversation, ADA)).user == "ada"
        with pytest.raises(NotFound):
            await directory.owned(conversation, EVE)
        with pytest.raises(NotFound):
            await directory.find(f"turn_{ids.body_of(conversation)}", ADA)
    finally:
        await feed.stop()


@pytest.mark.parametrize("partitions", [1, 2, 3, 4, 32, 100])
def test_home_partitions_are_spread(partitions: int) -> None:
    for seed in (0, 5, 99):
        home = home_partitions(partitions, seed)
        assert len(home) == min(4, partitions)
        assert all(0 <= partition < partitions for partition in home)
        gaps = [b - a for a, b in zip(home, [*home[1:], home[0] + partitions], strict=True)]
        assert max(gaps) <= -(-partitions // 4) + 1


def test_errors_say_the_same_on_a_socket_and_over_http() -> None:
    for error, status, kind in (
        (InvalidInput("x", param="input"), 400, "invalid_request_error"),
        (NotFound("x"), 404, "invalid_request_error"),
        (NotPermitted("x", code="unauthorized"), 401, "authentication_error"),
        (NotPermitted("x"), 403, "invalid_request_error"),
        (Refused("x"), 409, "invalid_request_error"),
        (Refused("x", code="rate_limited"), 429, "rate_limit_error"),
        (PeerUnavailable("x"), 503, "server_error"),
        (PeerTimeout("x"), 504, "server_error"),
        (OurError("x"), 500, "server_error"),
    ):
        assert status_of(error) == status
        assert error_body(error)["type"] == kind
    frame = error_frame(InvalidInput("x", param="input"), "e1", "lane", "resp_1")
    assert b'"event_id":"e1"' in frame
    assert b'"stream_id":"lane"' in frame
    assert b'"param":"input"' in frame
