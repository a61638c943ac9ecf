"""The Python client of this repository on a real gateway: the two agree on every rule of the protocol."""

from __future__ import annotations

import asyncio

import pytest

from gateway.limits import Limits
from headstart.client import Client
from headstart.client_backoff import Backoff
from streams.errors import NotFound
from streams.events.intake import TurnSubmit
from tests.support.gateways import PATIENCE_S, Rig
from tests.support.turn_script import Line, answer, completed, conversation_of, journey

pytestmark = pytest.mark.asyncio
PIECES = [f"piece {number} " for number in range(12)]


def held(submit: TurnSubmit) -> list[Line]:
    return journey(PIECES, hold_after=5)


async def test_many_turns_at_once_and_one_after_the_other() -> None:
    async with Rig() as rig, asyncio.timeout(PATIENCE_S):
        gateway = await rig.gateway()
        async with Client(f"http://127.0.0.1:{gateway.port}", rig.key) as client:
            turns = [await client.submit(f"text {number}") for number in range(10)]
            results = [await turn.result() for turn in turns]
            assert [result.text for result in results] == [f"text {number}" for number in range(10)]
            again = await (await client.submit("and more", conversation=results[3].conversation)).result()
            assert again.conversation == results[3].conversation
            assert client.state.holes == client.state.malformed == 0


async def test_cancel_and_steer() -> None:
    async with Rig(held) as rig, asyncio.timeout(PATIENCE_S):
        gateway = await rig.gateway()
        async with Client(f"http://127.0.0.1:{gateway.port}", rig.key) as client:
            cancelled = await client.submit("one")
            async for frame in cancelled:
                if frame["type"] == "response.output_text.delta":
                    await cancelled.cancel()
                    break
            assert (await cancelled.result()).status == "cancelled"
            steered = await client.submit("two")
            async for frame in steered:
                if frame["type"] == "response.output_text.delta":
                    break
            successor = await steered.steer("shorter")
            assert (await steered.result()).reason == "steered"
            rig.turns.release("answer")
            assert (await successor.result()).text == "".join(PIECES)


async def test_it_goes_on_where_it_was_when_the_gateway_is_restarted() -> None:
    async with Rig(held) as rig, asyncio.timeout(PATIENCE_S):
        gateway = await rig.gateway("one")
        port = gateway.port
        backoff = Backoff(first_ms=10, longest_ms=50, attempts=None)
        async with Client(f"http://127.0.0.1:{port}", rig.key, backoff=backoff) as client:
            turns = [await client.submit(f"turn {number}") for number in range(5)]
            deltas: list[list[str]] = [[] for _ in turns]
            for turn, said in zip(turns, deltas, strict=True):
                async for frame in turn:
                    if frame["type"] == "response.output_text.delta":
                        said.append(frame["delta"])
                        if len(said) == 3:
                            break
            await gateway.stop()
            await rig.gateway("two", port=port)
            rig.turns.release("answer")
            for turn, said in zip(turns, deltas, strict=True):
                async for frame in turn:
                    if frame["type"] == "response.output_text.delta":
                        said.append(frame["delta"])
            assert deltas == [PIECES] * 5
            assert client.connections == 2


async def test_a_consumer_slower_than_the_window_gets_everything() -> None:
    pieces = [f"{number:04d} " + "x" * 1000 for number in range(300)]
    async with Rig(lambda submit: [*answer(pieces), completed()]) as rig, asyncio.timeout(PATIENCE_S):
        gateway = await rig.gateway(limits=Limits(window_bytes=48 * 1024))
        async with Client(f"http://127.0.0.1:{gateway.port}", rig.key, limit_bytes=32 * 1024) as client:
            slow = await client.submit("slow")
            async for frame in slow:
                if frame["type"] == "response.output_text.delta":
                    break
            quick = await client.submit("quick")
            assert (await quick.result()).text == "".join(pieces)
            assert (await slow.result()).text == "".join(pieces)


async def test_attach_and_errors() -> None:
    async with Rig() as rig, asyncio.timeout(PATIENCE_S):
        gateway = await rig.gateway()
        async with Client(f"http://127.0.0.1:{gateway.port}", rig.key) as client:
            with pytest.raises(NotFound):
                await (await client.submit("x", conversation=conversation_of(9))).result()
            first = await (await client.submit("hello")).result()
            attachment = await client.attach(first.conversation, "start")
            kinds = []
            async for frame in attachment:
                kinds.append(frame["type"])
                if frame["type"] == "response.completed":
                    break
            assert kinds[0] == "response.created"
            missing = await client.attach(conversation_of(9), "start")
            with pytest.raises(NotFound):
                await anext(missing)
