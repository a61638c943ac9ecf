"""What a service says on the bus: ids that repeat where they must, and a signature over all of it."""

from __future__ import annotations

import hashlib
import itertools

import msgspec
import pytest

from headstart.publisher import Publisher
from memory.keys import hash_key, new_key
from memory.memory_store import MemoryStore
from streams import ids
from streams.codec import Record, decode
from streams.errors import InvalidInput, NotPermitted
from streams.events.intake import FactPublish, TurnSubmit
from streams.memory_bus import MemoryBus
from streams.signing import key_id, verify
from workers.planning.services import check_service, from_service

_counter = itertools.count()
KEY_ID, KEY = new_key(lambda size: bytes(range(size)))


def repeatable(size: int) -> bytes:
    return hashlib.sha256(str(next(_counter)).encode()).digest()[:size]


async def published(bus: MemoryBus) -> list[Record]:
    reader = await bus.reader("turns", dict.fromkeys(range(bus.partitions), "earliest"))
    return await reader.batch()


async def publisher() -> tuple[Publisher, MemoryBus]:
    bus = MemoryBus()
    await bus.start()
    return Publisher(bus, "acme", KEY, now_ms=lambda: 1_700_000_000_000, random_bytes=repeatable), bus


@pytest.mark.asyncio
async def test_a_turn_opens_a_conversation_on_the_partition_its_id_names() -> None:
    service, bus = await publisher()
    submitted = await service.turn("ada", "hello")
    [record] = await published(bus)
    submit = decode(record)
    assert isinstance(submit, TurnSubmit)
    assert (submit.turn, submit.conversation, submit.opens) == (submitted.turn, submitted.conversation, True)
    assert (submit.tenant, submit.user, submit.origin, submit.input[0].text) == ("acme", "ada", "service", "hello")
    assert record.partition == ids.partition_of(submit.conversation) == ids.partition_of(submit.turn)
    assert record.key == submit.conversation.encode()
    assert record.source == f"service/{KEY_ID}"
    assert submitted.response == ids.response_of(submit.turn)


@pytest.mark.asyncio
async def test_the_same_event_id_in_a_conversation_is_the_same_turn() -> None:
    service, bus = await publisher()
    first = await service.turn("ada", "hello", event_id="e1")
    again = await service.turn("ada", "hello", conversation=first.conversation, event_id="e1")
    other = await service.turn("ada", "hello", conversation=first.conversation)
    assert again.turn == first.turn
    assert other.turn != first.turn
    assert len(await published(bus)) == 3


@pytest.mark.asyncio
async def test_a_fact_has_the_id_of_its_event_id() -> None:
    service, bus = await publisher()
    conversation = (await service.turn("ada", "hello")).conversation
    for _ in range(2):
        await service.fact("ada", conversation, "job.posted", "A job.", data={"id": 5}, event_id="e1")
    records = [record for record in await published(bus) if record.type == FactPublish.TYPE]
    fact = decode(records[0])
    assert isinstance(fact, FactPublish)
    assert (fact.kind, fact.data, fact.tenant) == ("job.posted", {"id": 5}, "acme")
    assert records[0].event_id == records[1].event_id


@pytest.mark.asyncio
async def test_the_keys_hash_checks_the_signature_and_any_change_breaks_it() -> None:
    service, bus = await publisher()
    await service.turn("ada", "hello")
    [record] = await published(bus)
    assert record.header("ce_keyid") == KEY_ID
    verify(record, hash_key(KEY))
    unsigned = [header for header in record.headers if header[0] != "ce_signature"]
    for changed in (
        msgspec.structs.replace(record, value=record.value.replace(b"acme", b"evil")),
        msgspec.structs.replace(record, key=b"another"),
        msgspec.structs.replace(record, topic="events"),
        msgspec.structs.replace(record, headers=[*unsigned, ("ce_signature", b"00" * 32)]),
    ):
        with pytest.raises(NotPermitted) as caught:
            verify(changed, hash_key(KEY))
        assert caught.value.code == "signature_wrong"
    with pytest.raises(NotPermitted) as caught:
        verify(msgspec.structs.replace(record, headers=unsigned), hash_key(KEY))
    assert caught.value.code == "signature_missing"
    with pytest.raises(NotPermitted):
        verify(record, hash_key(KEY + "x"))


def test_a_keys_id_is_in_it() -> None:
    assert key_id(KEY) == KEY_ID
    with pytest.raises(InvalidInput):
        key_id("sk-something")


async def signed_record(scopes: tuple[str, ...] = ("service",), tenant: str = "acme") -> tuple[MemoryStore, Record]:
    """A fact that a service with such a key published for the tenant acme."""
    store = MemoryStore()
    await store.open()
    key = await store.create_key(tenant, "bot", "bot", scopes, 0)
    bus = MemoryBus()
    await bus.start()
    service = Publisher(bus, "acme", key, now_ms=lambda: 1_700_000_000_000, random_bytes=repeatable)
    await service.fact("ada", ids.conversation_id(1, 0, repeatable(10)), "job.posted", "A job.")
    [record] = await published(bus)
    return store, record


@pytest.mark.asyncio
async def test_the_owner_takes_a_services_word_by_its_signature() -> None:
    store, record = await signed_record()
    assert await check_service(store, record, "acme") == "bot", "the user of the key that signed it"
    assert from_service(decode(record))


@pytest.mark.asyncio
async def test_the_owner_refuses_every_other_word() -> None:
    async def code(store: MemoryStore, record: Record, tenant: str = "acme") -> str:
        with pytest.raises(NotPermitted) as caught:
            await check_service(store, record, tenant)
        return caught.value.code

    store, record = await signed_record()
    assert await code(store, msgspec.structs.replace(record, headers=())) == "signature_missing"
    assert await code(store, msgspec.structs.replace(record, value=b"{}")) == "signature_wrong"
    assert await code(store, record, "other") == "wrong_tenant"
    assert await code(*await signed_record(tenant="other")) == "wrong_tenant"
    assert await code(*await signed_record(scopes=("chat",))) == "not_a_service"
    assert await store.revoke_key(record.header("ce_keyid") or "", 1)
    assert await code(store, record) == "key_unknown"
