"""A small gateway over frame logs that a test writes, and the rules of a socket's feeds that clients rely on.

`Feeds` is one socket's side of the protocol, without any I/O, so that a test can deliver frames one by one and cut
between any two. `ScriptedGateway` serves it on a real WebSocket and can cut the wire.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Self

import orjson
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from headstart.client_readers import TERMINAL
from tests.support.frame_log import Frame, FrameLog, conversation_name


@dataclass
class World:
    """All conversations, and what clients asked for. A submit opens its turn once, however often it is sent."""

    logs: dict[str, FrameLog] = field(default_factory=dict)
    turns: dict[str, tuple[str, str]] = field(default_factory=dict)  # event id -> conversation, response
    cancelled: list[str] = field(default_factory=list)
    submits: list[Frame] = field(default_factory=list)
    acknowledged: list[str] = field(default_factory=list)
    refuse: dict[str, str] = field(default_factory=dict)  # input -> error code
    deaf_to_cancel: bool = False
    unknown_to_cancel: set[str] = field(default_factory=set)  # responses that the next cancel does not find yet

    def log(self, conversation: str) -> FrameLog:
        return self.logs.setdefault(conversation, FrameLog(conversation))

    def submit(self, request: Frame) -> tuple[str, str]:
        event_id = request["event_id"]
        self.submits.append(request)
        if event_id not in self.turns:
            conversation = request.get("conversation") or conversation_name(len(self.logs))
            self.turns[event_id] = (conversation, self.log(conversation).open(event_id))
        return self.turns[event_id]

    def steer(self, request: Frame) -> tuple[str, str]:
        event_id, parent = request["event_id"], request["previous_response_id"]
        if event_id not in self.turns:
            conversation = next(name for name, log in self.logs.items() if parent in log.responses)
            log = self.logs[conversation]
            log.end(parent, "incomplete", reason="steered")
            self.turns[event_id] = (conversation, log.open(event_id, steered_from=parent))
        return self.turns[event_id]


@dataclass
class Feeds:
    """One socket: a position in each conversation it feeds, and answers that wait to be sent before any frame.

    late_answers: answers to submits go out after the frames that are ready, as when the log is faster than the
    acknowledgement of the submit.
    """

    world: World
    late_answers: bool = False
    places: dict[str, int] = field(default_factory=dict)
    answers: deque[Frame] = field(default_factory=deque)
    late: deque[Frame] = field(default_factory=deque)
    wire: deque[Frame] = field(default_factory=deque)  # sent, and not received yet

    def receive(self, frame: Frame) -> None:
        match frame["type"]:
            case "response.create":
                self._create(frame)
            case "response.steer":
                _, response = self.world.steer(frame)
                steer = {"id": frame["event_id"], "previous_response_id": frame["previous_response_id"]}
                self.answers.append({
                    "type": "response.steer.accepted", "steer": steer, "event_id": frame["event_id"],
                    "response_id": response,
                })  # fmt: skip
            case "response.cancel":
                self._cancel(frame["response_id"])
            case "session.attach":
                log = self.world.log(frame["conversation"])
                self.places[log.conversation] = log.index_after(frame["after"])
                self.answers.append({
                    "type": "session.attached", "conversation": log.conversation, "from": frame["after"],
                    "live_at": log.frames[-1]["cursor"] if log.frames else "start",
                })  # fmt: skip
            case "session.detach":
                self.places.pop(frame["conversation"], None)
            case "headstart.ack":
                self.world.acknowledged.append(frame["cursor"])
            case other:
                raise AssertionError(f"the client sent {other}")

    def _create(self, frame: Frame) -> None:
        code = self.world.refuse.get(str(frame["input"]))
        if code is not None:
            error = {"type": "error", "code": code, "message": "refused", "event_id": frame["event_id"]}
            self.answers.append(error)
            return
        conversation, response = self.world.submit(frame)
        begin = self.world.logs[conversation].begin(response)
        self.places[conversation] = min(begin, self.places.get(conversation, begin))
        (self.late if self.late_answers else self.answers).append({
            "type": "headstart.accepted", "event_id": frame["event_id"], "response_id": response,
            "conversation": conversation,
        })  # fmt: skip

    def _cancel(self, response: str) -> None:
        if response in self.world.unknown_to_cancel:
            self.world.unknown_to_cancel.discard(response)
            return
        if self.world.deaf_to_cancel:
            return
        self.world.cancelled.append(response)
        for log in self.world.logs.values():
            if response in log.responses and log.of(response)[-1]["type"] not in TERMINAL:
                log.end(response, "cancelled", reason="client")

    def send(self, count: int) -> None:
        """Put up to `count` frames on the wire: what the client says afterwards can not call them back."""
        for _ in range(count):
            frame = self._next()
            if frame is None:
                return
            self.wire.append(frame)

    def next(self) -> Frame | None:
        """The next frame for the client, None when there is nothing now."""
        return self.wire.popleft() if self.wire else self._next()

    def _next(self) -> Frame | None:
        if self.answers:
            return self.answers.popleft()
        for conversation, place in self.places.items():
            frames = self.world.logs[conversation].frames
            if place < len(frames):
                self.places[conversation] = place + 1
                return frames[place]
        return self.late.popleft() if self.late else None


class ScriptedGateway:
    """The same on a real socket: `async with ScriptedGateway(world) as gateway`, `gateway.url`.

    cut_after: for the n-th connection, how many frames are sent before the wire is cut (missing: never). statuses:
    the HTTP status with which the n-th handshake is refused, None to take it. `changed` after writing to a log.
    """

    def __init__(
        self,
        world: World,
        cut_after: tuple[int, ...] = (),
        statuses: tuple[int | None, ...] = (),
        close_code: int | None = None,
    ) -> None:
        self.world = world
        self.connections = 0
        self.handshakes = 0
        self.headers: list[Headers] = []
        self._cut_after, self._statuses, self._close_code = cut_after, statuses, close_code
        self._changed = asyncio.Event()
        self._server: Server | None = None
        self._live: set[ServerConnection] = set()

    async def __aenter__(self) -> Self:
        self._server = await serve(self._serve, "127.0.0.1", 0, process_request=self._handshake)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        await self._server.wait_closed()

    @property
    def url(self) -> str:
        assert self._server is not None
        return f"ws://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    def changed(self) -> None:
        """Wake every socket: a log has grown."""
        self._changed.set()
        self._changed = asyncio.Event()

    async def wait_for_change(self) -> None:
        """Until a client sent something, or `changed` was called."""
        await self._changed.wait()

    def cut(self) -> None:
        """Cut every wire now."""
        for connection in list(self._live):
            connection.transport.abort()

    def _handshake(self, connection: ServerConnection, request: Request) -> Response | None:
        number, self.handshakes = self.handshakes, self.handshakes + 1
        self.headers.append(request.headers)
        status = self._statuses[number] if number < len(self._statuses) else None
        return None if status is None else connection.respond(status, "no\n")

    async def _serve(self, connection: ServerConnection) -> None:
        number, self.connections = self.connections, self.connections + 1
        if self._close_code is not None:
            await connection.close(self._close_code, "go away")
            return
        feeds = Feeds(self.world)
        limit = self._cut_after[number] if number < len(self._cut_after) else None
        self._live.add(connection)
        sender = asyncio.create_task(self._send(connection, feeds, limit))
        try:
            async for raw in connection:
                feeds.receive(orjson.loads(raw))
                self.changed()
        except ConnectionClosed:
            pass
        finally:
            self._live.discard(connection)
            sender.cancel()
            await asyncio.wait([sender])

    async def _send(self, connection: ServerConnection, feeds: Feeds, limit: int | None) -> None:
        sent = 0
        while True:
            changed = self._changed
            frame = feeds.next()
            if frame is None:
                await changed.wait()
                continue
            if limit is not None and sent == limit:
                connection.transport.abort()
                return
            await connection.send(orjson.dumps(frame).decode())
            sent += 1


Sleep = Callable[[float], Awaitable[None]]


def no_sleep(waits: list[float]) -> Sleep:
    """A sleep that takes no time and notes what it was asked for."""

    async def sleep(seconds: float) -> None:
        waits.append(seconds)
        await asyncio.sleep(0)

    return sleep


def texts(frames: list[Any]) -> str:
    return "".join(frame.get("delta", "") for frame in frames)
