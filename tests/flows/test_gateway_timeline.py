"""A turn's time axis over HTTP: from the log, with what clients acknowledged beside it."""

from __future__ import annotations

import asyncio
import xml.etree.ElementTree as ElementTree
from typing import Any

import httpx
import pytest

from gateway.deliveries import PENDING, Deliveries
from streams.errors import PeerUnavailable
from streams.events.intake import TurnSubmit
from streams.memory_bus import MemoryBroker, MemoryBus
from streams.topology import DELIVERIES
from tests.support.gateways import PATIENCE_S, Rig, Socket
from tests.support.turn_script import AT_MS, Line, journey

pytestmark = pytest.mark.asyncio


def script(submit: TurnSubmit) -> list[Line]:
    return journey()


def written(rig: Rig) -> list[str]:
    """The sources of every record on `deliveries`."""
    places = range(DELIVERIES.partitions or 0)
    return [record.source for place in places for record in rig.broker.log_of(DELIVERIES.name, place).records]


async def asked(socket: Socket) -> tuple[dict[str, Any], str]:
    """A whole turn: its response, and the cursor of its last frame."""
    await socket.create("How warm is it in Oslo?")
    last = (await socket.until_end())[-1]
    return last["response"], last["cursor"]


async def until_written(rig: Rig, times: int) -> None:
    while True:
        if len(written(rig)) >= times:
            return
        await asyncio.sleep(0.001)


async def test_a_finished_turn_is_on_one_axis() -> None:
    async with Rig(script) as rig, asyncio.timeout(PATIENCE_S):
        gateway = await rig.gateway()
        async with rig.socket(gateway) as socket, rig.http(gateway) as http:
            response, _ = await asked(socket)
            path = f"/v1/responses/{response['id']}/timeline"
            axis = (await http.get(path)).json()
            assert (axis["status"], axis["took_ms"], axis["saved_ms"]) == ("completed", 900.0, 20.0)
            assert set(axis["lanes"]) == {"route", "recall", "discover", "plan", "call 0 weather", "answer", "frames"}
            call = {span["kind"]: span for span in axis["spans"] if span["lane"] == "call 0 weather"}
            assert (call["writing"]["begin_ms"], call["writing"]["end_ms"]) == (120.0, 150.0)
            assert (call["running"]["begin_ms"], call["running"]["end_ms"]) == (130.0, 170.0)
            frames = [mark["name"] for mark in axis["marks"] if mark["lane"] == "frames"]
            assert frames[0].startswith("2 frames, response.created")
            assert sum("output_text.delta" in name for name in frames) == 3
            picture = await http.get(f"{path}?format=svg")
            assert picture.headers["content-type"].startswith("image/svg+xml")
            assert ElementTree.fromstring(picture.text).tag.endswith("svg")
            assert (await http.get(f"{path}?format=png")).status_code == 400
            for nobodys in (f"resp_{0:036x}", "resp_x"):
                assert (await http.get(f"/v1/responses/{nobodys}/timeline")).status_code == 404
        for tenant, user in (("acme", "eve"), ("rival", "ada")):
            async with rig.http(gateway, await rig.new_key(tenant, user)) as stranger:
                assert (await stranger.get(path)).status_code == 404
        assert written(rig) == [], "a client that acknowledges nothing costs nothing"


async def test_what_a_client_acknowledged_stands_on_the_axis_once_for_each_socket() -> None:
    async with Rig(script) as rig, asyncio.timeout(PATIENCE_S):
        gateway = await rig.gateway("gateway/one")
        async with rig.socket(gateway) as first, rig.socket(gateway) as second, rig.http(gateway) as http:
            await first.create("How warm is it in Oslo?")
            frames = await first.until_end()
            response, last = frames[-1]["response"], frames[-1]["cursor"]
            conversation = response["conversation"]["id"]
            await second.send({"type": "session.attach", "conversation": conversation, "after": "start"})
            await second.until_end()
            early = next(frame["cursor"] for frame in frames if frame["type"] == "response.created")
            await first.send({"type": "headstart.ack", "cursor": early})
            for socket in (first, second, first):
                await socket.send({"type": "headstart.ack", "cursor": last})
            await until_written(rig, 2)
            assert written(rig) == ["gateway/one", "gateway/one"], "not for a part of it, and not twice"
            axis = (await http.get(f"/v1/responses/{response['id']}/timeline")).json()
            assert axis["lanes"][-2:] == ["frames", "acknowledged"]
            said = [mark for mark in axis["marks"] if mark["lane"] == "acknowledged"]
            assert [mark["name"] for mark in said] == ["by a client of gateway/one"] * 2


async def test_a_turn_that_runs_is_shown_as_far_as_it_got() -> None:
    async with Rig(lambda submit: journey(hold_after=1)) as rig, asyncio.timeout(PATIENCE_S):
        gateway = await rig.gateway()
        async with rig.socket(gateway) as socket, rig.http(gateway) as http:
            await socket.create("How warm is it in Oslo?")
            frames = await socket.until("response.output_text.delta")
            axis = (await http.get(f"/v1/responses/{frames[1]['response_id']}/timeline")).json()
            assert (axis["status"], "answer" in axis["lanes"]) == ("running", True)


async def test_what_the_bus_does_not_take_is_dropped_and_nobody_waits() -> None:
    broker = MemoryBroker()
    bus = MemoryBus(broker)
    await bus.start()
    deliveries = Deliveries(bus, lambda: AT_MS, bytes, "gateway/test")
    broker.refuse = 1
    turn = f"turn_{0:036x}"
    deliveries.acknowledged(f"conv_{0:036x}", turn)
    await asyncio.gather(*deliveries._pending)
    assert deliveries.dropped == 1
    for _ in range(PENDING + 5):
        deliveries.acknowledged(f"conv_{0:036x}", turn)
    assert deliveries.dropped == 6
    await deliveries.stop()
    assert not deliveries._pending
    with pytest.raises(PeerUnavailable):
        broker.log_of(DELIVERIES.name, DELIVERIES.partitions or 0)


async def test_the_record_of_a_turn_that_has_aged_out_is_gone() -> None:
    async with Rig(script) as rig, asyncio.timeout(PATIENCE_S):
        gateway = await rig.gateway()
        async with rig.socket(gateway) as socket, rig.http(gateway) as http:
            response, _ = await asked(socket)
            for place in range(rig.bus.partitions):
                rig.broker.trim("events", place, 10_000)
            answer: httpx.Response = await http.get(f"/v1/responses/{response['id']}/timeline")
            assert answer.status_code == 404
