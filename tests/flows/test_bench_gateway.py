"""The gateway's benchmark measures what it says: its clients miss no frame, its writer's facts count, its sums hold."""

from __future__ import annotations

import asyncio
import math

import orjson
import pytest

from memory.rows import Change
from streams import ids
from streams.codec import Record
from streams.events.generating import AnswerDelta, AnswerFinished, GenerationAbort
from streams.events.intake import TurnSubmit
from streams.memory_bus import MemoryBroker, MemoryBus
from tests.bench.clients import TurnWentWrong
from tests.bench.driving import Load, TurnTimes
from tests.bench.figures import Spread, spread
from tests.bench.gateway import cancel, generation_writer, sockets
from tests.bench.gateway.chat_stream import ChatClient
from tests.bench.gateway.consumed import Handler, Task
from tests.bench.gateway.live import ARRIVED, BUDGET_MS, Level
from tests.bench.gateway.log_writer import Stream
from tests.bench.gateway.parts import Gaps
from tests.bench.gateway.proxying import LITELLM, Way
from tests.bench.gateway.slow_worker import Hashed
from tests.bench.gateway.traffic import Cost, per_other_us
from tests.support.gateways import PATIENCE_S, Rig, of_log
from tests.support.generations import CONVERSATION, TURN, ask, counting, read_until, request, seen
from tests.support.openai_server import OpenAIServer, serve
from tests.support.turn_script import Line, journey
from workers.generation.scripted_engine import ScriptedEngine

PIECES = ["one ", "two ", "ü" * 70_000, "four"]  # the third is a frame with a long length


def frame(kind: int, payload: bytes) -> bytes:
    """As a server writes it: not masked."""
    size = len(payload)
    if size < 126:
        return bytes((0x80 | kind, size)) + payload
    if size < 1 << 16:
        return bytes((0x80 | kind, 126)) + size.to_bytes(2, "big") + payload
    return bytes((0x80 | kind, 127)) + size.to_bytes(8, "big") + payload


class Wire(asyncio.Transport):
    """Keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += bytes(data)


@pytest.mark.asyncio
@pytest.mark.parametrize("step", [1, 2, 3, 7, 130, 100_000])
async def test_frames_are_the_same_however_they_are_cut(step: int) -> None:
    seen: list[bytes] = []
    socket, wire = sockets.Socket(b"GET", lambda _, body: seen.append(body), 0), Wire()
    socket.connection_made(wire)
    texts = [b"", b"short", b"x" * 125, b"y" * 126, b"z" * 70_000]
    data = b"HTTP/1.1 101 Switching Protocols\r\nA: b\r\n\r\n" + b"".join(frame(sockets.TEXT, text) for text in texts)
    data += frame(sockets.PING, b"are you there") + frame(sockets.TEXT, b"last")
    data += frame(sockets.CLOSE, (1012).to_bytes(2, "big"))
    for at in range(0, len(data), step):
        socket.data_received(data[at : at + step])
    await socket.opened()
    assert seen == [*texts, b"last"]
    assert wire.written == b"GET" + bytes((0x8A, 0x80 | 13, 0, 0, 0, 0)) + b"are you there"
    assert socket.closed == 1012


@pytest.mark.asyncio
async def test_a_refused_handshake_says_why() -> None:
    async with Rig() as rig, asyncio.timeout(PATIENCE_S):
        gateway = await rig.gateway()
        with pytest.raises(sockets.HandshakeRefused, match="unauthorized"):
            await sockets.open_socket(f"http://127.0.0.1:{gateway.port}", "no key")


@pytest.mark.asyncio
async def test_the_light_client_gets_the_frames_that_any_client_gets() -> None:
    async with Rig(lambda submit: journey(PIECES)) as rig, asyncio.timeout(PATIENCE_S):
        gateway, seen, ended = await rig.gateway(), list[bytes](), asyncio.Event()

        def note(socket: sockets.Socket, body: bytes) -> None:
            seen.append(body)
            if body.startswith(b'{"type":"response.completed"'):
                ended.set()

        (light,) = await sockets.open_sockets(f"http://127.0.0.1:{gateway.port}", [rig.key], 1, note)
        light.send({"type": "response.create", "model": "headstart", "input": "go " + "on " * 30_000})
        await ended.wait()
        conversation = next(orjson.loads(body) for body in seen if b'"headstart.accepted"' in body)["conversation"]
        async with rig.socket(gateway) as other:
            await other.send({"type": "session.attach", "conversation": conversation, "after": "start"})
            await other.until_end()
        light.drop()
    assert of_log([body.decode() for body in seen]) == of_log(other.raw)


@pytest.mark.asyncio
async def test_what_the_log_writer_writes_is_shown_whole() -> None:
    async with Rig() as rig, asyncio.timeout(PATIENCE_S):
        gateway = await rig.gateway()
        stream = Stream.new(rig.bus, 1)
        offset = await stream.accept("acme", "ada")
        await stream.begin()
        await rig.store.project(1, offset, [Change(offset, stream.row("acme", "ada"))], resume=offset)
        for _ in range(5):
            await stream.say()
        async with rig.socket(gateway) as client:
            await client.send({"type": "session.attach", "conversation": stream.conversation, "after": "live"})
            deltas = 0
            while deltas < 5:
                deltas += (await client.next())["type"] == "response.output_text.delta"
        assert len(stream.gaps_ms) == 4


@pytest.mark.asyncio
async def test_the_cheapest_generation_worker_answers_until_it_is_told() -> None:
    bus = MemoryBus(MemoryBroker(2))
    await bus.start()
    streams: list[Stream] = []
    reader = await bus.reader("generations", {0: "latest", 1: "latest"})
    working = asyncio.create_task(generation_writer.take(bus, reader, streams))
    await ask(bus, request())
    async with asyncio.timeout(PATIENCE_S):
        while not streams:  # noqa: ASYNC110 - the writer tells nobody
            await asyncio.sleep(0)
        for _ in range(3):
            await streams[0].say()
        await streams[0].finish()
        facts = counting(await read_until(bus, seen("answer.finished")))
        assert [identity.seq for identity, _ in facts] == [0, 1, 2, 3, 4]
        ended = facts[-1][1]
        assert isinstance(ended, AnswerFinished)
        assert (ended.reason, ended.usage.completion) == ("stop", 3)
        abort = GenerationAbort(conversation=CONVERSATION, turn=TURN, step="answer", epoch=1, at_ms=1)
        await ask(bus, abort)
        while streams:  # noqa: ASYNC110 - nor of an abort
            await asyncio.sleep(0)
    working.cancel()
    await asyncio.gather(working, return_exceptions=True)
    await bus.stop()


@pytest.mark.asyncio
async def test_a_cancel_is_timed_to_the_last_token_and_to_the_end() -> None:
    def script(submit: TurnSubmit) -> list[Line]:
        return journey(["word "] * 60, hold_after=30)

    async with Rig(script) as rig, asyncio.timeout(PATIENCE_S):
        gateway = await rig.gateway()
        found = await cancel.cancels(f"http://127.0.0.1:{gateway.port}", [rig.key], 2, 4)
    assert len(found.last_ms) == len(found.terminal_ms) == len(found.after) == 4
    assert all(0 <= last <= end for last, end in zip(found.last_ms, found.terminal_ms, strict=True))
    assert all(count <= 30 for count in found.after)


@pytest.mark.asyncio
async def test_a_turn_that_ends_by_itself_is_no_cancel() -> None:
    async with Rig(lambda submit: journey(["word "])) as rig, asyncio.timeout(PATIENCE_S):
        gateway = await rig.gateway()
        with pytest.raises(ExceptionGroup) as caught:
            await cancel.cancels(f"http://127.0.0.1:{gateway.port}", [rig.key], 1, 1)
    assert caught.group_contains(TurnWentWrong, match="it was not cancelled")


@pytest.mark.asyncio
async def test_one_client_for_every_server_of_chat_completions() -> None:
    """Against the scripted server and against the gateway: as many deltas as tokens, the connection used again."""
    engine = ScriptedEngine(lambda request: "".join(f"{number:03d}" for number in range(10)))
    async with serve(OpenAIServer(engine)) as url, Rig(lambda submit: journey(["a", "b", "c"])) as rig:
        gateway = await rig.gateway()
        for place, model, key, tokens, expected in (
            (url, "scripted", "none", None, 10),
            (url, "scripted", "none", 1, 1),
            (f"http://127.0.0.1:{gateway.port}/v1", "headstart", rig.key, None, 3),
        ):
            client = ChatClient(place, model, [key])
            async with asyncio.timeout(PATIENCE_S):
                for _ in range(2):
                    times = await client.turn(0, "go on", tokens)
                    assert len(times.deltas) == expected
            client.close()
        refused = ChatClient(f"http://127.0.0.1:{gateway.port}/v1", "headstart", ["no key"])
        with pytest.raises(TurnWentWrong, match="401"):
            await refused.turn(0, "go on")


def test_gaps_count_between_deltas_of_one_stream_while_counting() -> None:
    gaps = Gaps(2)
    gaps.seen(0)
    gaps.begin()
    for number in (0, 1, 0, 1, 1):
        gaps.seen(number)
    assert gaps.end().count == gaps.deltas == 3
    gaps.seen(0)
    assert gaps.deltas == 3


def test_what_another_record_costs() -> None:
    def cost(others: int, given: float, cores: float) -> Cost:
        return Cost(0, others, 4, given, 800.0, 800.0, cores)

    costs = [cost(0, 800.0, 0.2), cost(8000, 1800.0, 0.203)]
    assert math.isnan(per_other_us(costs[0], costs))
    assert per_other_us(costs[1], costs) == pytest.approx(3.0)


def test_streams_are_held_when_deltas_come_in_time_and_all_of_them() -> None:
    def level(p99: float, arrived: float) -> Level:
        return Level(10, Spread(100, 50.0, 51.0, p99), 52.0, arrived, {})

    assert level(52.0 + BUDGET_MS, ARRIVED).held
    assert not level(52.1 + BUDGET_MS, 1.0).held
    assert not level(52.0, ARRIVED - 0.01).held


def test_a_way_is_told_by_its_cpu() -> None:
    turn = TurnTimes(0.0, [(0.1, ""), (0.2, "")])
    way = Way(LITELLM, Load([turn], [turn], 1.0), 10.0, {"proxy": 0.5, "other": 0.25})
    assert way.as_json()["cpu_s_per_1000_tokens_in_all"] == 0.75


def test_every_consumer_is_held_to_the_order_of_keys() -> None:
    handler = Handler(Task("quick", "", 2))

    def record(index: int) -> Record:
        headers = [("ce_type", AnswerDelta.TYPE.encode())]
        return Record("events", 0, index, 0, b"key", headers, b'{"text":"a","index":%d,"ids":[1]}' % index)

    assert not handler.handle(record(1))
    with pytest.raises(AssertionError, match="out of order"):
        handler.handle(record(0))
    assert handler.handle(record(2))
    assert handler.consumed().records == 2


def test_hashed_hears_nobody() -> None:
    conversation = ids.conversation_id(3, 1, bytes(10))
    assert Hashed().choose(conversation, "default", 0.0, 32) in range(32)
    assert spread([]).count == 0
