"""The client on real sockets against a gateway that cuts wires, refuses handshakes and closes with codes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import pytest

from headstart.client import Backoff, Client, Turn
from streams.errors import HeadstartError, InvalidInput, NotPermitted, PeerUnavailable, Refused
from tests.support.frame_log import conversation_name
from tests.support.scripted_gateway import ScriptedGateway, World, no_sleep, texts


def answer(gateway: ScriptedGateway, turn: Turn, words: int = 5, status: str = "completed", **extra: str) -> str:
    """The turn's worker speaks and ends it. The turn must have been accepted."""
    conversation, response = gateway.world.turns[turn.event_id]
    log = gateway.world.logs[conversation]
    for word in range(words):
        log.say(response, f"{word} ")
    log.end(response, status, **extra)
    gateway.changed()
    return "".join(f"{word} " for word in range(words))


def client_of(gateway: ScriptedGateway, waits: list[float] | None = None, **options: object) -> Client:
    waits = [] if waits is None else waits
    return Client(gateway.url, key="hs_key", sleep=no_sleep(waits), draw=lambda: 1.0, **options)  # type: ignore[arg-type]


@pytest.mark.asyncio
async def test_submit_stream_result() -> None:
    async with ScriptedGateway(World()) as gateway, client_of(gateway) as client:
        turn = await client.submit("hello")
        assert await turn.accepted() == gateway.world.turns[turn.event_id][1]
        text = answer(gateway, turn)
        frames = [frame async for frame in turn]
        assert texts(frames) == turn.text == text
        result = await turn.result()
        assert (result.status, result.text, result.conversation) == ("completed", text, turn.conversation)
        assert gateway.headers[0]["Authorization"] == "Bearer hs_key"
        following = await client.submit("and now?", conversation=turn.conversation, on_busy="reject", model="m")
        await following.accepted()
        request = gateway.world.submits[-1]
        assert (request["conversation"], request["on_busy"], request["model"]) == (turn.conversation, "reject", "m")


@pytest.mark.asyncio
@pytest.mark.parametrize("cut_after", [(0,), (1,), (2, 3), (4, 1, 0, 2)])
async def test_cut_wires_repeat_and_lose_nothing(cut_after: tuple[int, ...]) -> None:
    waits: list[float] = []
    async with ScriptedGateway(World(), cut_after=cut_after) as gateway, client_of(gateway, waits) as client:
        turn = await client.submit("hello", event_id="e1")
        await turn.accepted()
        text = answer(gateway, turn, words=20)
        frames = [frame async for frame in turn]
        conversation, response = gateway.world.turns["e1"]
        assert frames == gateway.world.logs[conversation].of(response)
        assert turn.text == text
        assert client.connections == len(cut_after) + 1
        assert len(waits) == len(cut_after)


@pytest.mark.asyncio
async def test_many_turns_and_an_attachment_over_many_cuts() -> None:
    async with ScriptedGateway(World(), cut_after=(7, 11, 13, 17, 19)) as gateway, client_of(gateway) as client:
        turns = [await client.submit(f"question {number}") for number in range(8)]
        for turn in turns:
            await turn.accepted()
        watched = await client.attach(turns[0].conversation, "start")
        expected = [answer(gateway, turn) for turn in turns]
        results = await asyncio.gather(*(turn.result() for turn in turns))
        assert [result.text for result in results] == expected
        log = gateway.world.logs[turns[0].conversation]
        assert [await anext(watched) for _ in log.frames] == log.frames
        assert watched.cursor == log.frames[-1]["cursor"]
        await watched.close()
        assert [frame async for frame in watched] == []


@pytest.mark.asyncio
async def test_a_second_client_goes_on_from_a_cursor() -> None:
    async with ScriptedGateway(World()) as gateway:
        async with client_of(gateway) as client:
            turn = await client.submit("hello")
            first = await anext(turn)
        answer(gateway, turn)
        async with client_of(gateway) as client:
            attachment = await client.attach(turn.conversation, first["cursor"])
            log = gateway.world.logs[turn.conversation]
            assert [await anext(attachment) for _ in log.frames[1:]] == log.frames[1:]
        assert gateway.world.cancelled == []


@pytest.mark.asyncio
async def test_cancel_ends_the_turn_and_closing_does_not() -> None:
    async with ScriptedGateway(World()) as gateway, client_of(gateway) as client:
        turn = await client.submit("hello")
        await turn.cancel()
        assert (await turn.result()).status == "cancelled"
        assert set(gateway.world.cancelled) == {turn.response_id}


@pytest.mark.asyncio
async def test_steer_gives_a_turn_that_goes_on() -> None:
    async with ScriptedGateway(World()) as gateway, client_of(gateway) as client:
        turn = await client.submit("flights")
        successor = await turn.steer("only direct ones")
        result = await turn.result()
        assert (result.status, result.reason) == ("incomplete", "steered")
        await successor.accepted()
        text = answer(gateway, successor)
        assert (await successor.result()).text == text


@pytest.mark.asyncio
async def test_errors_are_typed() -> None:
    world = World(refuse={"bad": "conversation_busy"})
    async with ScriptedGateway(world) as gateway, client_of(gateway) as client:
        refused = await client.submit("bad")
        with pytest.raises(Refused):
            await refused.accepted()
        with pytest.raises(Refused):
            await refused.result()
        failed = await client.submit("good")
        await failed.accepted()
        answer(gateway, failed, status="failed", code="peer_unavailable", fault="peer")
        with pytest.raises(PeerUnavailable):
            await failed.result()
        with pytest.raises(InvalidInput):
            await client.submit([{"role": object()}])
        with pytest.raises(InvalidInput):
            await client.attach(conversation_name(0), "yesterday")


@pytest.mark.asyncio
async def test_a_refused_key_is_said_at_once() -> None:
    waits: list[float] = []
    async with ScriptedGateway(World(), statuses=(401,)) as gateway:
        with pytest.raises(NotPermitted):
            async with client_of(gateway, waits):
                raise AssertionError("the client must not open")
        assert waits == []


@pytest.mark.asyncio
async def test_a_busy_gateway_is_asked_again_with_growing_waits() -> None:
    waits: list[float] = []
    backoff = Backoff(first_ms=100, longest_ms=300)
    async with (
        ScriptedGateway(World(), statuses=(503, 503, 503)) as gateway,
        client_of(gateway, waits, backoff=backoff) as client,
    ):
        assert client.connections == 1
    assert waits == [0.1, 0.2, 0.3]


@pytest.mark.asyncio
async def test_no_gateway_ends_in_a_typed_error() -> None:
    async with ScriptedGateway(World()) as gateway:
        url = gateway.url
    waits: list[float] = []
    with pytest.raises(PeerUnavailable):
        async with Client(url, backoff=Backoff(attempts=3), sleep=no_sleep(waits)):
            raise AssertionError("the client must not open")
    assert len(waits) == 2


@pytest.mark.asyncio
async def test_a_close_code_that_is_final_ends_every_turn() -> None:
    async with ScriptedGateway(World(), close_code=1008) as gateway, client_of(gateway) as client:
        with pytest.raises(NotPermitted):
            await (await client.submit("hello")).result()
        with pytest.raises(NotPermitted):
            await client.submit("again")


@pytest.mark.asyncio
async def test_a_closed_client_says_so() -> None:
    async with ScriptedGateway(World()) as gateway:
        async with client_of(gateway) as client:
            turn = await client.submit("hello")
            await turn.accepted()
        with pytest.raises(Refused) as caught:
            await turn.result()
        assert caught.value.code == "client_closed"
        with pytest.raises(Refused):
            await client.submit("again")
        assert gateway.world.cancelled == []


@pytest.mark.asyncio
async def test_a_cancelled_consumer_loses_no_frame() -> None:
    async with ScriptedGateway(World()) as gateway, client_of(gateway) as client:
        turn = await client.submit("hello")
        frames = [await anext(turn)]
        waiting = asyncio.ensure_future(anext(turn))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait([waiting])
        answer(gateway, turn)
        frames += [frame async for frame in turn]
        assert frames == gateway.world.logs[turn.conversation].frames


@pytest.mark.asyncio
async def test_frames_received_are_acknowledged() -> None:
    async with ScriptedGateway(World()) as gateway, client_of(gateway) as client:
        turn = await client.submit("hello")
        await turn.accepted()
        answer(gateway, turn)
        await turn.result()
        newest = gateway.world.logs[turn.conversation].frames[-1]["cursor"]
        # The acknowledgement travels before the next submit on the same socket.
        await (await client.submit("next")).accepted()
        assert newest in gateway.world.acknowledged


@pytest.mark.asyncio
async def test_garbage_from_the_gateway_is_counted_and_survived() -> None:
    class Garbage:
        """A socket that says things no gateway says."""

        def __init__(self) -> None:
            self.words: list[str | bytes] = ["not json", b"\xff\xfe", "[1]", '{"type": "from.the.future"}', "{}"]

        async def send(self, message: str) -> None:
            return None

        async def recv(self) -> str | bytes:
            if self.words:
                return self.words.pop(0)
            done.set()
            await asyncio.Event().wait()
            return ""

    done = asyncio.Event()

    @asynccontextmanager
    async def dial(url: str, headers: Mapping[str, str]) -> AsyncIterator[Garbage]:
        yield Garbage()

    async with Client("ws://anywhere", dial=dial) as client:
        await done.wait()
        assert client.state.malformed == 3


@pytest.mark.asyncio
async def test_what_passes_is_waited_out_with_pauses_that_grow() -> None:
    """The gateway refuses five times, then takes the very same request; the turn is one."""
    world = World(refuse={"hello": "database_unavailable"})
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 5:
            world.refuse.clear()

    async with (
        ScriptedGateway(world) as gateway,
        Client(gateway.url, key="hs_key", sleep=sleep, draw=lambda: 1.0, clock_ms=lambda: 0.0) as client,
    ):
        turn = await client.submit("hello")
        await turn.accepted()
        text = answer(gateway, turn)
        assert (await turn.result()).text == text
    assert waits == [0.5, 1.0, 2.0, 4.0, 5.0]
    assert [request["event_id"] for request in world.submits] == [turn.event_id]
    assert gateway.connections == 1  # other turns of this client go on meanwhile


@pytest.mark.asyncio
async def test_what_does_not_pass_ends_the_turn_when_the_patience_is_over() -> None:
    world = World(refuse={"hello": "no_worker"})
    now_ms = 0.0

    async def sleep(seconds: float) -> None:
        nonlocal now_ms
        now_ms += seconds * 1_000

    async with (
        ScriptedGateway(world) as gateway,
        Client(gateway.url, sleep=sleep, draw=lambda: 1.0, clock_ms=lambda: now_ms) as client,
    ):
        turn = await client.submit("hello")
        with pytest.raises(HeadstartError) as caught:
            await turn.result()
        assert (caught.value.code, now_ms) == ("no_worker", 57_500)  # one pause more would have ended after 60 s
        world.refuse.clear()
        again = await client.submit("hello", event_id=turn.event_id)
        await again.accepted()
        text = answer(gateway, again)
        assert (await again.result()).text == text


@pytest.mark.asyncio
async def test_closing_a_client_ends_a_request_that_waits() -> None:
    world = World(refuse={"hello": "no_worker"})
    asleep = asyncio.Event()

    async def sleep(seconds: float) -> None:
        asleep.set()
        await asyncio.Event().wait()

    async with ScriptedGateway(world) as gateway, Client(gateway.url, sleep=sleep) as client:
        turn = await client.submit("hello")
        await asleep.wait()
        await client.close()
        with pytest.raises(Refused) as caught:
            await turn.result()
        assert caught.value.code == "client_closed"
        assert not client._pauses
