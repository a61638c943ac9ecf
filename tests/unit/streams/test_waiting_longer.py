"""A fetch that may wait too short a time for its broker."""

from __future__ import annotations

from typing import ClassVar

import pytest

from streams import kafka_readers
from streams.kafka_readers import MOST_WAIT_MS, KafkaConnection, KafkaReader
from streams.progress import STALL_MS


class Stalled:
    """A client that is given nothing, as aiokafka's."""

    opened_with: ClassVar[list[int]] = []

    def __init__(self, **options: object) -> None:
        wait_ms = options["fetch_max_wait_ms"]
        assert isinstance(wait_ms, int)
        self.opened_with.append(wait_ms)

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    async def getmany(self, **_: object) -> dict[object, list[object]]:
        return {}

    async def end_offsets(self, places: list[object]) -> dict[object, int]:
        return dict.fromkeys(places, 100)

    def assign(self, places: list[object]) -> None: ...

    def seek(self, place: object, offset: int) -> None: ...


@pytest.mark.asyncio
async def test_each_new_client_waits_longer_up_to_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    now_ms = 0

    def clock_ms() -> int:
        nonlocal now_ms
        now_ms += STALL_MS
        return now_ms

    opened = Stalled.opened_with = []
    monkeypatch.setattr(kafka_readers, "AIOKafkaConsumer", Stalled)
    monkeypatch.setattr(kafka_readers, "monotonic_ms", clock_ms)
    connection = KafkaConnection("localhost:9092", "", 5, "test")
    reader = KafkaReader(connection, "events")
    await reader.open({0: 7})
    while reader.rebuilds < 6:
        assert await reader.batch() == []
    assert opened == [5, 20, 80, 320, MOST_WAIT_MS, MOST_WAIT_MS, MOST_WAIT_MS]
    await reader.close()


def test_a_client_from_before_only_follows() -> None:
    connection = KafkaConnection("localhost:9092", "", 5, "test")
    for _ in range(3):
        connection.was_given_nothing(5)
    assert connection.fetch_max_wait_ms == 20
    generous = KafkaConnection("localhost:9092", "", 900, "test")
    generous.was_given_nothing(900)
    assert generous.fetch_max_wait_ms == 900
