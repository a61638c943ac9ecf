"""A thousand streams are cut at random cursors and gone on with on another gateway while they run.

Half of the resumes follow a restart of the gateway that opened them, sometimes without a goodbye. What a client has in
the end, piece by piece, is to the byte what the log's projection says: `ConversationFold` over the conversation's
records, without any gateway. Clients are bare sockets with many conversations each, the stock `openai` client with
`?after=`, and HTTP with `starting_after`. A seed that fails is in the test's name.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import orjson
import pytest

from gateway.frame import on_lane, server_sent
from gateway.resume import ConversationFold
from gateway.server import Gateway
from memory.rows import Change, ConversationRow
from streams import ids
from streams.events.intake import TurnSubmit
from streams.offsets import Cursor
from tests.support.gateways import PATIENCE_S, Rig, Socket
from tests.support.turn_script import Hold, Line, journey

pytestmark = pytest.mark.asyncio
BATCHES = 10  # half of them with a restart
STREAMS = 100  # of one batch
SAMPLES = 5  # of a batch's streams: resumed by the stock client, and as many by `starting_after`
PIECES = ("Grüße ", "an ", '"alle" ', "in \\ ", "日本 ", "und ", "\n", "anderswo; ", "🦜 ", "das ", "war ", "es.")
ENDS = frozenset({"response.completed", "response.incomplete", "response.failed"})
# No bound on what waits unread: a client whose queue is full would not see the answer to its own close.
UNREAD: dict[str, Any] = {"max_queue": None}
UNLOGGED = frozenset({"headstart.accepted", "session.attached", "session.live", "headstart.queued"})


def script(submit: TurnSubmit) -> list[Line]:
    """Every step of a turn; it waits twice at places that its event id draws, until its test lets it go."""
    rng = random.Random(submit.event_id)
    lines: list[Line] = journey(PIECES)
    for name in ("late", "early"):  # from the back, so that the first place stays where it was drawn
        at = rng.randrange(len(lines) // 2, len(lines)) if name == "late" else rng.randrange(1, len(lines) // 2)
        lines.insert(at, Hold(f"{submit.event_id}/{name}"))
    return lines


@dataclass
class Stream:
    """One client's turn. had: the frames of the log it keeps, as they came; raw: those since the last cut."""

    name: str
    conversation: str = ""
    response: str = ""
    had: list[bytes] = field(default_factory=list)
    raw: list[bytes] = field(default_factory=list)
    cuts: int = 0
    ended: bool = False

    def cut(self, rng: random.Random) -> str:
        """Forgets everything after a random frame and gives that frame's cursor."""
        frames = self.had + self.raw
        kept = rng.randrange(1, len(frames) + 1)
        self.had, self.raw = frames[:kept], []
        self.ended = orjson.loads(frames[kept - 1])["type"] in ENDS
        self.cuts += 1
        cursor: str = orjson.loads(frames[kept - 1])["cursor"]
        return cursor


class Reading:
    """One socket that carries several streams."""

    def __init__(self, socket: Socket, streams: Sequence[Stream]) -> None:
        self.socket = socket
        self.streams = streams
        self._lanes = {stream.name: stream for stream in streams}
        self._responses = {stream.response: stream for stream in streams if stream.response}

    async def one(self) -> None:
        frame = await self.socket.next()
        if frame["type"] == "headstart.accepted":
            stream = self._lanes[frame["stream_id"]]
            stream.conversation, stream.response = frame["conversation"], frame["response_id"]
            self._responses[stream.response] = stream
        if frame["type"] in UNLOGGED:
            return
        assert "cursor" in frame, frame
        stream = self._responses[frame["response"]["id"] if "response" in frame else frame["response_id"]]
        body = self.socket.raw[-1].encode()
        lane = frame.get("stream_id")
        if lane is not None:  # outside of the frame's identity: on its own socket only, and in its own place
            assert lane == stream.name
            whole, body = body, body.removesuffix(on_lane(b"{}", lane)[1:]) + b"}"
            assert on_lane(body, lane) == whole
        stream.raw.append(body)
        stream.ended = frame["type"] in ENDS

    async def until_each_has(self, least: int) -> None:
        while any(len(stream.raw) < least for stream in self.streams):
            await self.one()

    async def until_ended(self) -> None:
        while not all(stream.ended for stream in self.streams):
            await self.one()


class Scene:
    """A rig with two gateways. `first` is the one that is restarted."""

    def __init__(self, rig: Rig, rng: random.Random) -> None:
        self.rig = rig
        self.rng = rng

    async def open(self) -> None:
        self.first, self.second = await self.rig.gateway("one"), await self.rig.gateway("two")

    async def restart(self, number: int) -> None:
        """Ends the first gateway, its sockets open, with or without a goodbye, and starts one on the same port."""
        port, server = self.first.port, self.first._server
        assert self.first.connections
        assert server is not None
        if self.rng.random() < 0.5:
            for protocol in tuple(server.server_state.connections):
                protocol.transport.abort()  # as when the process is gone
        await self.first.stop()
        self.first = await self.rig.gateway(f"one/{number}", port=port)

    def groups(self, streams: Sequence[Stream]) -> list[list[Stream]]:
        """The streams in random company: 1 to 12 on one socket."""
        shuffled = self.rng.sample(streams, len(streams))
        groups: list[list[Stream]] = []
        while shuffled:
            size = self.rng.randint(1, 12)
            groups.append(shuffled[:size])
            del shuffled[:size]
        return groups

    def release(self, streams: Sequence[Stream], hold: str) -> None:
        for stream in streams:
            self.rig.turns.release(f"{stream.name}/{hold}")

    async def begin(self, gateway: Gateway, streams: Sequence[Stream], sockets: AsyncExitStack) -> Reading:
        """Starts the turns on a socket that stays open with `sockets`, and reads to the first frame of each."""
        socket = await sockets.enter_async_context(self.rig.socket(gateway, **UNREAD))
        for stream in streams:
            await socket.create("go", event_id=stream.name, stream_id=stream.name)
        reading = Reading(socket, streams)
        await reading.until_each_has(1)
        return reading

    @asynccontextmanager
    async def resumed(self, gateway: Gateway, streams: Sequence[Stream]) -> AsyncIterator[Reading]:
        query = "?" + "&".join(f"after[]={stream.cut(self.rng)}" for stream in streams)
        async with self.rig.socket(gateway, query=query, **UNREAD) as socket:
            yield Reading(socket, streams)

    async def read_on(self, gateway: Gateway, streams: Sequence[Stream]) -> None:
        """Goes on while the turns run, some let go before the socket is there and some after, and is cut again."""
        loose, held = streams[::2], streams[1::2]
        self.release(loose, "early")
        async with self.resumed(gateway, streams) as reading:
            self.release(held, "early")
            await reading.until_each_has(0 if all(stream.ended for stream in streams) else 1)

    async def read_out(self, gateway: Gateway, streams: Sequence[Stream]) -> None:
        loose, held = streams[::2], streams[1::2]
        self.release(loose, "late")
        async with self.resumed(gateway, streams) as reading:
            self.release(held, "late")
            await reading.until_ended()

    async def read_out_by_stock_client(self, gateway: Gateway, stream: Stream) -> None:
        """As an application with the SDK goes on: `extra_query={"after": …}`."""
        client = self.rig.openai(gateway)
        query = {"after": [stream.cut(self.rng)]}
        frames = []
        async with client.responses.connect(extra_query=query) as connection:
            self.release([stream], "late")
            while not stream.ended:
                event = await connection.recv()
                if event.type not in UNLOGGED:
                    frames.append(event.to_dict())
                    stream.ended = event.type in ENDS
        expected = self.projection(stream)[len(stream.had) :]
        assert frames == [orjson.loads(body) for body in expected]
        stream.raw = expected

    async def read_out_over_http(self, gateway: Gateway, stream: Stream) -> None:
        stream.cut(self.rng)
        after = orjson.loads(stream.had[-1])["sequence_number"]
        self.release([stream], "late")
        async with self.rig.http(gateway) as http:
            parameters = {"stream": "true", "starting_after": str(after)}
            answer = await http.get(f"/v1/responses/{stream.response}", params=parameters)
        expected = self.projection(stream)[len(stream.had) :]
        assert answer.content == b"".join(server_sent(orjson.loads(body)["type"], body) for body in expected)
        stream.raw = expected

    def projection(self, stream: Stream) -> list[bytes]:
        """What the log says that the stream's frames are."""
        fold = ConversationFold(stream.conversation, self.rig.broker.epoch)
        turn = ids.turn_of(stream.response)
        log = self.rig.broker.log_of("events", ids.partition_of(stream.conversation))
        steps = [fold.receive(record) for record in log.records if record.key == stream.conversation.encode()]
        return [frame.body for step in steps if step is not None for frame in step.frames if frame.turn == turn]

    async def side_by_side(self, works: Sequence[Any]) -> None:
        async with asyncio.TaskGroup() as group:
            for work in works:
                group.create_task(work)


@pytest.mark.parametrize("seed", range(2))
async def test_five_hundred_streams_resumed_elsewhere(seed: int) -> None:
    resumes = after_restart = 0
    async with Rig(script) as rig:
        scene = Scene(rig, random.Random(seed))
        await scene.open()
        for batch in range(BATCHES // 2):
            streams = [Stream(f"{seed}.{batch}.{number}") for number in range(STREAMS)]
            restarts = (batch + seed) % 2 == 1
            async with AsyncExitStack() as sockets:
                await scene.side_by_side([scene.begin(scene.first, group, sockets) for group in scene.groups(streams)])
                if restarts:
                    await scene.restart(batch)
            elsewhere = scene.second
            await scene.side_by_side([scene.read_on(elsewhere, group) for group in scene.groups(streams)])
            resumes += len(streams)
            after_restart += restarts * len(streams)
            stock, http, rest = streams[:SAMPLES], streams[SAMPLES : 2 * SAMPLES], streams[2 * SAMPLES :]
            elsewhere = scene.first  # which is a new one where it was restarted
            await scene.side_by_side([
                *(scene.read_out(elsewhere, group) for group in scene.groups(rest)),
                *(scene.read_out_by_stock_client(elsewhere, stream) for stream in stock),
                *(scene.read_out_over_http(elsewhere, stream) for stream in http),
            ])  # fmt: skip
            for stream in streams:
                projected = scene.projection(stream)
                assert stream.had + stream.raw == projected, stream.name
                assert orjson.loads(projected[-1])["type"] == "response.completed"
    assert resumes == 500
    assert after_restart in (200, 300)
    print(f"\nseed {seed}: {resumes} streams, each cut twice; {after_restart} of them across a restart; 0 differ")


async def test_streams_whose_history_has_expired_get_a_gap_and_a_snapshot() -> None:
    """The log before the cursor is gone: what the store kept, and from there on the log."""
    async with Rig(script) as rig, asyncio.timeout(PATIENCE_S):
        scene = Scene(rig, random.Random(7))
        await scene.open()
        streams = [Stream(f"old {number}") for number in range(12)]
        for hold in ("early", "late"):
            scene.release(streams, hold)
        async with AsyncExitStack() as sockets:
            await (await scene.begin(scene.first, streams, sockets)).until_ended()
        cursors = [Cursor.decode(stream.cut(scene.rng)) for stream in streams]
        ends = {cursor.partition: rig.broker.log_of("events", cursor.partition).end for cursor in cursors}
        for partition, end in ends.items():
            names = [cursor.conversation for cursor in cursors if cursor.partition == partition]
            rows = [ConversationRow(conversation=name, tenant="acme", user="ada", created_at_ms=1) for name in names]
            await rig.store.project(partition, end - 1, [Change(end - 1, row) for row in rows])
            rig.broker.trim("events", partition, end)
        for stream, cursor in zip(streams, cursors, strict=True):
            async with rig.socket(scene.second, query=f"?after={cursor.encode()}") as socket:
                frames = [await socket.next() for _ in range(4)]
                kinds = [frame["type"] for frame in frames]
                assert kinds == ["session.attached", "session.gap", "session.snapshot", "session.live"]
                assert Cursor.decode(frames[1]["oldest"]).offset == ends[cursor.partition]
                await socket.create("go", conversation=stream.conversation, event_id=f"{stream.name} again")
                for hold in ("early", "late"):
                    scene.release([Stream(f"{stream.name} again")], hold)
                assert (await socket.until_end())[-1]["type"] == "response.completed"
