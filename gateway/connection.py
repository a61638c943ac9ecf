"""One socket: its client's frames in, frames of the log and answers out. See docs/protocol.md for every frame.

A frame that can not be understood or may not be asked costs its sender an `error` and nothing else. Closing the
socket cancels nothing: turns go on, and another socket can attach.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from typing import Any, Final

from gateway.attaching import Attachments
from gateway.feedback import give_feedback
from gateway.frame import Frame, control
from gateway.intake import Prepared
from gateway.outlet import WebSocketOutlet
from gateway.replies import error_frame
from gateway.requests import CreateRequest, event_id_of, parse_create, parse_object, required_response
from gateway.resume import parse_after
from gateway.services import Services
from gateway.session import Lanes
from gateway.steering import Steering
from gateway.subscription import Subscription
from gateway.turns import start_turn, watch_turn
from memory.rows import Principal
from streams import ids
from streams.errors import HeadstartError, InvalidInput, OurError, Refused
from streams.offsets import Cursor

log = logging.getLogger(__name__)
GOING_AWAY: Final = 1012  # service restart: SDKs reconnect on it
TOO_FAR_BEHIND: Final = 1013  # try again later
HARD_LIMIT: Final = 4  # times frame_bytes: beyond it the socket itself is closed by the server (1009)


class Connection:
    """One open socket. `run` returns when it is closed; `close` asks it to end."""

    __slots__ = (
        "__weakref__", "_attachments", "_lanes", "_principal", "_send", "_services", "_steering", "_tasks", "outlet",
    )  # fmt: skip

    def __init__(self, services: Services, principal: Principal, send: Callable[[Any], Awaitable[None]]) -> None:
        self.outlet = WebSocketOutlet(services.limits.window_bytes, self._send_text)
        self._services = services
        self._principal = principal
        self._send = send
        self._lanes = Lanes(services.limits)
        self._attachments = Attachments(services, principal, self.outlet, self._lane_ended, self._asked_again)
        self._steering = Steering(services, principal, self.outlet)
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def key_id(self) -> str:
        """The key the socket was opened with."""
        return self._principal.key_id

    async def run(self, receive: Callable[[], Awaitable[Any]], after: Sequence[str]) -> None:
        """Handles frames until the socket is gone. after: cursors to attach at once, one per conversation."""
        try:
            for cursor in after:
                await self._answering(self._attach_counted({"after": cursor}), {})
            while True:
                message = await receive()
                if message["type"] == "websocket.disconnect":
                    return
                data = message.get("text")
                await self._frame(data if data is not None else message.get("bytes") or b"")
        finally:
            await self._end()

    async def close(self, code: int) -> None:
        """Closes the socket with this code, after what is already queued for as long as the socket takes it."""
        try:
            await asyncio.wait_for(self.outlet.flushed(), timeout=0.5)
        except TimeoutError:
            log.debug("a socket was closed with frames waiting; its client reads them from the log")
        self.outlet.close()
        try:
            await self._send({"type": "websocket.close", "code": code})
        except OSError:
            return  # it was closed from the other side meanwhile

    async def _end(self) -> None:
        self.outlet.close()
        self._attachments.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _send_text(self, body: bytes) -> None:
        await self._send({"type": "websocket.send", "text": body.decode()})
        self._services.metrics.frames.inc()

    # frames in

    async def _frame(self, data: str | bytes) -> None:
        body: Mapping[str, Any] = {}
        try:
            # A text of n characters has at least n bytes, so only short texts have to be measured twice.
            limit = self._services.limits.frame_bytes
            if len(data) > limit or (isinstance(data, str) and len(data) * 4 > limit and len(data.encode()) > limit):
                raise InvalidInput("the frame is too large", code="frame_too_large", limit_bytes=limit)
            self._services.door.count_frame(self._principal)
            body = parse_object(data)
        except HeadstartError as error:
            self._fail(error, body)
            return
        await self._answering(self._handle(body, len(data)), body)

    async def _handle(self, body: Mapping[str, Any], size_bytes: int) -> None:
        kind = body.get("type")
        if not isinstance(kind, str):
            raise InvalidInput("a frame has a 'type'", code="missing_type", param="type")
        if kind == "response.create":
            self._create(body, size_bytes)
            return
        if kind == "response.steer":
            await self._steering.steer(body, self._attachments, size_bytes)
            return
        handler = _HANDLERS.get(kind)
        if handler is None:
            raise InvalidInput(
                "a frame of unknown type", code="unknown_frame", param="type",
                hint=f"known are response.create, response.steer, {', '.join(_HANDLERS)}",
            )  # fmt: skip
        await handler(self, body)

    async def _answering(self, work: Coroutine[Any, Any, None], body: Mapping[str, Any]) -> None:
        """Runs work; what it raises becomes an `error` frame that names the frame it answers."""
        try:
            await work
        except HeadstartError as error:
            self._fail(error, body)
        except Exception:
            log.exception("a frame could not be handled")
            self._fail(OurError("something went wrong on our side"), body)

    def _fail(self, error: HeadstartError, body: Mapping[str, Any], response_id: str = "") -> None:
        self._services.metrics.errors.labels(error.code).inc()
        event_id, stream_id = body.get("event_id"), body.get("stream_id")
        frame = error_frame(
            error,
            event_id if isinstance(event_id, str) else "",
            stream_id if isinstance(stream_id, str) else None,
            response_id,
        )
        if not self.outlet.answer(frame):
            _ = self._spawn(self.close(TOO_FAR_BEHIND))

    def _answer(self, frame: bytes) -> None:
        if not self.outlet.answer(frame):
            _ = self._spawn(self.close(TOO_FAR_BEHIND))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _spawn_answering(self, work: Coroutine[Any, Any, None], body: Mapping[str, Any]) -> None:
        """Closes the work too where the task is cancelled before its first turn, and so never comes to it."""
        self._spawn(self._answering(work, body)).add_done_callback(lambda _: work.close())

    # response.create

    def _create(self, body: Mapping[str, Any], size_bytes: int) -> None:
        request = self._steering.prepended(parse_create(body))
        if request.background:
            raise InvalidInput("'background' is not for sockets: closing one cancels nothing", param="background")
        if self._services.draining:
            raise Refused("this gateway is stopping", code="draining", hint="connect again, another one will answer")
        if self._lanes.request(request, size_bytes):
            self._spawn_answering(self._start(request), body)
        else:
            self._answer(control("headstart.queued", {"event_id": request.event_id or None}, request.stream_id))

    async def _start(self, request: CreateRequest) -> None:
        followed: list[Subscription] = []

        def follow(prepared: Prepared) -> Subscription:
            followed.append(self._attachments.follow(prepared, request.stream_id))
            return followed[0]

        try:
            started = await start_turn(self._services, self._principal, request, follow)
        except BaseException:
            self._lane_ended("", request.stream_id, None)
            raise
        self._answer(started.accepted(request))
        fields = {"event_id": request.event_id, "stream_id": request.stream_id}
        response = started.prepared.response

        def told(error: HeadstartError) -> None:
            self._fail(error, fields, response)
            if error.code == "response_expired":
                self._lane_ended("", request.stream_id, None)

        watch_turn(self._services, started, request, followed[0], told, self._spawn_safely)

    def _spawn_safely(self, work: Coroutine[Any, Any, None]) -> None:
        if self.outlet.closed:
            work.close()
        else:
            self._spawn_answering(work, {})

    def _lane_ended(self, turn: str, stream_id: str | None, frame: Frame | None) -> None:
        """A turn of a lane ended (or could not be started): steers that wait for it are told, the next one starts."""
        if frame is not None:
            self._steering.ended(turn, frame)
        request = self._lanes.finished(stream_id)
        if request is not None and not self.outlet.closed:
            fields = {"event_id": request.event_id, "stream_id": request.stream_id}
            self._spawn_answering(self._start(request), fields)

    def _asked_again(self, stream_id: str | None) -> None:
        self._lane_ended("", stream_id, None)

    # the other frames

    async def _cancel(self, body: Mapping[str, Any]) -> None:
        response = required_response(body, "response_id")
        place = await self._services.directory.running(ids.turn_of(response), self._principal)
        if place.ended or self._services.feed.ended(place.conversation, place.turn):
            raise Refused("the response has ended", code="response_already_completed", param="response_id")
        event_id = event_id_of(body, {})
        await self._services.intake.cancel(self._principal, place.conversation, place.turn, event_id)
        self._answer(control("headstart.cancel.accepted", {"event_id": event_id or None, "response_id": response}))

    async def _feedback(self, body: Mapping[str, Any]) -> None:
        response = required_response(body, "response_id")
        feedback = await give_feedback(self._services, self._principal, response, body)
        self._answer(
            control(
                "headstart.feedback.accepted",
                {"event_id": feedback.event_id or None, "response_id": response, "rating": feedback.rating},
            )
        )

    async def _attach(self, body: Mapping[str, Any]) -> None:
        after = parse_after(body.get("after", "live"))
        conversation = body.get("conversation")
        if conversation is None and isinstance(after, Cursor):
            conversation = after.conversation
        if not isinstance(conversation, str) or not ids.is_id(ids.CONVERSATION, conversation):
            raise InvalidInput("'conversation' is an id of this service", code="invalid_conversation")
        await self._attachments.attach(conversation, after)

    async def _attach_counted(self, body: Mapping[str, Any]) -> None:
        """For a cursor that came with the handshake. It counts as the frame would; but whoever comes back with all the
        others of its key waits for its turn instead of being refused."""
        while True:
            try:
                self._services.door.count_frame(self._principal)
                break
            except Refused as error:
                await asyncio.sleep(error.facts["retry_after_ms"] / 1000)
        await self._attach(body)

    async def _detach(self, body: Mapping[str, Any]) -> None:
        conversation = body.get("conversation")
        if not isinstance(conversation, str):
            raise InvalidInput("'conversation' is the id of a conversation", param="conversation")
        self._attachments.detach(conversation)
        self._answer(control("session.detached", {"conversation": conversation}))

    async def _acknowledge(self, body: Mapping[str, Any]) -> None:
        after = parse_after(body.get("cursor"))
        if not isinstance(after, Cursor):
            raise InvalidInput("'cursor' is the cursor of a frame", code="invalid_cursor", param="cursor")
        turn = self.outlet.acknowledge(after.conversation, (after.offset, after.frame))
        if turn:
            self._services.deliveries.acknowledged(after.conversation, turn)


_HANDLERS: Final[dict[str, Callable[[Connection, Mapping[str, Any]], Awaitable[None]]]] = {
    "response.cancel": Connection._cancel,
    "headstart.feedback": Connection._feedback,
    "session.attach": Connection._attach,
    "session.detach": Connection._detach,
    "headstart.ack": Connection._acknowledge,
}
