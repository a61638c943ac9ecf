"""The client library on real gateways over one log: streaming, resuming, cancelling, steering, moving between them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosedError

from gateway.limits import Limits
from gateway.server import Gateway
from headstart.client import Client, Socket, Turn
from headstart.timeline import render
from streams.errors import InvalidInput, NotFound, NotPermitted
from streams.events.intake import TurnSubmit
from streams.events.rating import FeedbackGive
from tests.support.frame_log import conversation_name
from tests.support.live_gateway import LiveGateways, live_gateways, url_of
from tests.support.scripted_gateway import no_sleep
from tests.support.turn_script import Line, answer, completed, journey

QUICK = Limits(repeat_after_ms=20)  # a submit sent again is looked for in the log at once


def wordy(submit: TurnSubmit) -> list[Line]:
    """Forty words, held after ten of them."""
    return [*answer([f"{number} " for number in range(40)], hold_after=10), completed()]


class Wire:
    """Dials whichever gateway is named, and cuts what it dialled."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self.cut_after: list[int] = []  # frames that each connection in turn lets through

    def dial(self, url: str, headers: Mapping[str, str]) -> AbstractAsyncContextManager[Socket]:
        return self._dial(headers)

    @asynccontextmanager
    async def _dial(self, headers: Mapping[str, str]) -> AsyncIterator[Socket]:
        limit = self.cut_after.pop(0) if self.cut_after else None
        url = f"ws://127.0.0.1:{self.gateway.port}/v1/responses"
        async with connect(url, additional_headers=headers, compression=None) as socket:

            class Cut:
                received = 0

                async def send(self, message: str) -> None:
                    await socket.send(message)

                async def recv(self) -> str | bytes:
                    if self.received == limit:
                        socket.transport.abort()
                        raise ConnectionClosedError(None, None)
                    self.received += 1
                    return await socket.recv()

            yield Cut()


def client_of(world: LiveGateways, wire: Wire) -> Client:
    return Client(url_of(wire.gateway), world.key, sleep=no_sleep([]), dial=wire.dial)


async def frames_of(turn: Turn, count: int = 1 << 30) -> list[dict[str, object]]:
    frames = []
    async for frame in turn:
        frames.append(frame)
        if len(frames) == count:
            break
    return frames


@pytest.mark.asyncio
async def test_a_turn_with_a_skill_on_a_real_gateway() -> None:
    async with live_gateways(lambda _: journey()) as world:
        gateway = await world.open()
        async with Client(url_of(gateway), world.key) as client:
            turn = await client.submit("How warm is it in Oslo?")
            frames = await frames_of(turn)
            assert turn.text == "It is 4 °C in Oslo."
            assert [frame["sequence_number"] for frame in frames] == list(range(len(frames)))
            assert "fired     weather at token 5, still being written" in render(frames)
            following = await client.submit("And now?", conversation=turn.conversation)
            assert (await following.result()).conversation == turn.conversation


@pytest.mark.asyncio
@pytest.mark.parametrize("cut_after", [[0], [1], [2, 1], [5, 0, 3], [1, 1, 1, 1, 1, 1]])
async def test_cut_wires_give_the_same_frames_as_a_whole_one(cut_after: list[int]) -> None:
    async with live_gateways(lambda _: journey(), QUICK) as world:
        wire = Wire(await world.open())
        wire.cut_after = list(cut_after)
        async with client_of(world, wire) as client:
            turn = await client.submit("How warm is it in Oslo?")
            frames = await frames_of(turn)
            attachment = await client.attach(turn.conversation, "start")
            assert [await anext(attachment) for _ in frames] == frames
            assert turn.text == "It is 4 °C in Oslo."
            assert client.connections > len(cut_after)


@pytest.mark.asyncio
async def test_a_client_goes_on_at_another_gateway_in_the_middle_of_an_answer() -> None:
    async with live_gateways(wordy) as world:
        first, second = await world.open(), await world.open()
        wire = Wire(first)
        async with client_of(world, wire) as client:
            turn = await client.submit("Count")
            frames = await frames_of(turn, 12)
            wire.gateway = second
            await world.close(first)
            world.turns.release("answer")
            frames += await frames_of(turn)
            assert turn.text == "".join(f"{number} " for number in range(40))
            assert [frame["sequence_number"] for frame in frames] == list(range(len(frames)))
            assert client.state.holes == 0
        async with Client(url_of(second), world.key) as other:
            attachment = await other.attach(turn.conversation, "start")
            assert [await anext(attachment) for _ in frames] == frames


@pytest.mark.asyncio
async def test_cancel_right_after_submit_and_in_the_middle() -> None:
    async with live_gateways(wordy) as world:
        gateway = await world.open()
        async with Client(url_of(gateway), world.key) as client:
            early = await client.submit("Count")
            await early.cancel()
            assert (await early.result()).status == "cancelled"
            late = await client.submit("Count")
            while not late.text:
                await anext(late)
            await late.cancel()
            result = await late.result()
            assert (result.status, result.reason) == ("cancelled", "client")
            assert "0 1 2 ".startswith(result.text[:6])


@pytest.mark.asyncio
async def test_steer_on_a_real_gateway() -> None:
    async with live_gateways(wordy) as world:
        gateway = await world.open()
        async with Client(url_of(gateway), world.key) as client:
            turn = await client.submit("Count")
            while not turn.text:
                await anext(turn)
            successor = await turn.steer("backwards")
            assert (await turn.result()).reason == "steered"
            world.turns.release("answer")
            result = await successor.result()
            assert (result.status, result.text) == ("completed", "".join(f"{number} " for number in range(40)))
            assert result.conversation == turn.conversation


@pytest.mark.asyncio
async def test_a_second_device_sees_the_turn_that_runs_and_the_next_one() -> None:
    async with live_gateways(wordy) as world:
        one, two = await world.open(), await world.open()
        async with Client(url_of(one), world.key) as phone, Client(url_of(two), world.key) as desk:
            turn = await phone.submit("Count")
            first = await frames_of(turn, 8)
            watching = await desk.attach(turn.conversation, "live")
            world.turns.release("answer")
            frames = first + await frames_of(turn)
            assert [await anext(watching) for _ in frames] == frames
            following = await phone.submit("Again", conversation=turn.conversation)
            frames = await frames_of(following)
            assert [await anext(watching) for _ in frames] == frames


@pytest.mark.asyncio
async def test_a_consumer_that_sleeps_costs_its_bound_and_gets_everything_later() -> None:
    def long(submit: TurnSubmit) -> list[Line]:
        return [*answer([f"{number:0200} " for number in range(400)]), completed()]

    async with live_gateways(long) as world:
        gateway = await world.open()
        async with Client(url_of(gateway), world.key, limit_bytes=16_000) as client:
            slow = await client.submit("Count")
            quick = await client.submit("Count")
            assert (await quick.result()).status == "completed"
            assert slow.waiting_bytes <= 16_000 + 1_000
            frames = await frames_of(slow)
            assert [frame["sequence_number"] for frame in frames] == list(range(len(frames)))
            assert len(slow.text) == 400 * 201


@pytest.mark.asyncio
async def test_what_is_not_ones_own_is_refused_by_name() -> None:
    async with live_gateways() as world:
        gateway = await world.open()
        async with Client(url_of(gateway), world.key) as client:
            attachment = await client.attach(conversation_name(1), "start")
            with pytest.raises(NotFound):
                await anext(attachment)
            with pytest.raises(NotFound):
                await (await client.submit("x", conversation=conversation_name(1))).result()
        with pytest.raises(NotPermitted):
            async with Client(url_of(gateway), "hs_wrong"):
                raise AssertionError("the client must not open")


@pytest.mark.asyncio
async def test_an_answer_is_rated_and_a_cut_wire_says_it_again() -> None:
    async with live_gateways() as world:
        gateway = await world.open()
        wire = Wire(gateway)
        async with Client(url_of(gateway), world.key, dial=wire.dial, sleep=no_sleep([])) as client:
            turn = await client.submit("hello")
            await turn.result()
            await client.rate(turn.response_id, "bad", comment="too short")
            with pytest.raises(NotFound):
                await client.rate(f"resp_{0:036x}", "good")
            with pytest.raises(InvalidInput):
                await client.rate(turn.response_id, "splendid")  # type: ignore[arg-type]
        wire.cut_after = [0, 0]  # the answer is lost twice with its socket
        async with Client(url_of(gateway), world.key, dial=wire.dial, sleep=no_sleep([])) as client:
            await client.rate(turn.response_id, "good", share=True, event_id="e1")
            assert client.connections == 3
        given = [one for one in world.turns.commands if isinstance(one, FeedbackGive)]
        assert [(one.rating, one.comment, one.share) for one in given[:1]] == [("bad", "too short", False)]
        assert {(one.rating, one.share, one.event_id) for one in given[1:]} == {("good", True, "e1")}


@pytest.mark.asyncio
async def test_many_clients_resume_at_random_cuts() -> None:
    """Twenty turns, each cut at other places, all whole: no frame repeated, lost or reordered."""
    async with live_gateways(lambda _: journey([f"{number} " for number in range(30)]), QUICK) as world:
        gateways = [await world.open(), await world.open()]

        async def one(number: int) -> None:
            wire = Wire(gateways[number % 2])
            wire.cut_after = [1 + (number * 7 + step * 5) % 11 for step in range(5)]
            async with client_of(world, wire) as client:
                turn = await client.submit(f"question {number}")
                frames = []
                async for frame in turn:
                    frames.append(frame)
                    wire.gateway = gateways[len(frames) % 2]
                assert [frame["sequence_number"] for frame in frames] == list(range(len(frames)))
                assert turn.text == "".join(f"{count} " for count in range(30))

        await asyncio.gather(*(one(number) for number in range(20)))


@pytest.mark.asyncio
async def test_a_turn_that_no_worker_takes_is_sent_again_until_one_does() -> None:
    """Nobody carries out turns at first, and what was sent then is lost; the turn completes, once, on one socket."""
    async with live_gateways(limits=Limits(accept_ms=1, repeat_after_ms=20)) as world:
        gateway = await world.open()
        world.turns.silent = True

        async def sleep(seconds: float) -> None:
            world.turns.silent = len(world.turns.commands) < 3
            await asyncio.sleep(0)

        async with Client(url_of(gateway), world.key, sleep=sleep) as client:
            turn = await client.submit("anybody?")
            frames = await frames_of(turn)
            assert turn.text == "anybody?"
            assert [frame["sequence_number"] for frame in frames] == list(range(len(frames)))
            assert client.state.repeated == 0  # a turn that is asked for again is shown once
            submits = [command for command in world.turns.commands if isinstance(command, TurnSubmit)]
            assert len(submits) == 4
            assert len({submit.turn for submit in submits}) == 1
            assert client.connections == 1
