"""`/v1/responses` over HTTP: plain, as server-sent events, got back later, cancelled. The same path as a socket's."""

from __future__ import annotations

import asyncio
from typing import Any, Final

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gateway.feed import Channel
from gateway.frame import Frame, server_sent
from gateway.http_common import body_of, json_response, principal_of, sse_response
from gateway.intake import Prepared
from gateway.outlet import SseOutlet
from gateway.replies import error_frame
from gateway.requests import CreateRequest, parse_create
from gateway.response_object import input_item
from gateway.resume import Span, Step
from gateway.services import Services
from gateway.subscription import Subscription
from gateway.turns import start_turn, watch_turn
from memory.rows import Principal
from streams import ids
from streams.errors import HeadstartError, InvalidInput, NotFound, PeerTimeout, Refused

CANCEL_WAIT_MS: Final = 5000  # how long a cancel over HTTP waits for the turn's end before it answers
SPARE_BYTES: Final = 1 << 22  # a plain answer is read whole: its collector takes every frame


class Collector(SseOutlet):
    """An outlet that keeps the newest thing of a turn instead of sending: for plain answers.

    ended: the response object once the turn has ended.
    """

    def __init__(self) -> None:
        super().__init__(SPARE_BYTES)
        self.ended: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self.accepted: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def offer(self, body: bytes, conversation: str, position: tuple[int, int]) -> bool:
        if not self.accepted.done():
            self.accepted.set_result(None)
        return True

    def on_end(self, turn: str, lane: str | None, frame: Frame) -> None:
        if not self.ended.done():
            self.ended.set_result(orjson.loads(frame.body)["response"])

    def fail(self, error: HeadstartError) -> None:
        for future in (self.ended, self.accepted):
            if not future.done():
                future.set_exception(error)
                future.exception()  # whichever of the two is not awaited has still been told


def response_routes(services: Services) -> list[Route]:
    """The routes under /v1/responses."""
    api = _Responses(services)
    return [
        Route("/v1/responses", api.create, methods=["POST"]),
        Route("/v1/responses/{response}", api.retrieve, methods=["GET"]),
        Route("/v1/responses/{response}/cancel", api.cancel, methods=["POST"]),
        Route("/v1/responses/{response}/input_items", api.input_items, methods=["GET"]),
    ]


class _Responses:
    def __init__(self, services: Services) -> None:
        self._services = services
        self._background: set[asyncio.Task[None]] = set()

    async def create(self, request: Request) -> Response:
        principal = await principal_of(self._services, request)
        wanted = parse_create(await body_of(request))
        return await (self._stream if wanted.stream else self._plain)(principal, wanted)

    async def _plain(self, principal: Principal, wanted: CreateRequest) -> Response:
        collector = Collector()
        subscriptions: list[Subscription] = []

        def follow(prepared: Prepared) -> Subscription:
            subscriptions.append(self._subscription(prepared, collector, collector.on_end))
            return subscriptions[0]

        started = await start_turn(self._services, principal, wanted, follow)
        try:
            watch_turn(self._services, started, wanted, subscriptions[0], collector.fail, self._spawn)
            if wanted.background:
                await collector.accepted
                projector = started.prepared.channel.fold.projector(started.prepared.turn)
                if projector is not None:
                    return json_response(projector.snapshot())
            return json_response(await collector.ended)
        finally:
            subscriptions[0].close()

    async def _stream(self, principal: Principal, wanted: CreateRequest) -> Response:
        outlet = SseOutlet(self._services.limits.window_bytes)
        subscriptions: list[Subscription] = []

        def follow(prepared: Prepared) -> Subscription:
            subscriptions.append(self._subscription(prepared, outlet, lambda *_: outlet.finish(), sse=True))
            return subscriptions[0]

        started = await start_turn(self._services, principal, wanted, follow)

        def told(error: HeadstartError) -> None:
            outlet.answer(server_sent("error", error_frame(error, wanted.event_id)))
            outlet.finish()

        watch_turn(self._services, started, wanted, subscriptions[0], told, self._spawn)
        return sse_response(self._services, outlet, subscriptions[0].close)

    async def retrieve(self, request: Request) -> Response:
        principal = await principal_of(self._services, request)
        turn = _turn_of(request.path_params["response"])
        place = await self._services.directory.find(turn, principal)
        span = await self._services.directory.span(place)
        if place.offset < 0 or place.offset < await self._services.feed.oldest(ids.partition_of(turn)):
            raise NotFound("the response's log has expired", code="response_expired", param="response_id")
        channel = await self._services.feed.channel(place.conversation)
        if request.query_params.get("stream") == "true":
            after = _starting_after(request.query_params.get("starting_after"))
            outlet = SseOutlet(self._services.limits.window_bytes)
            prepared_outlet = _Skipping(outlet, after)
            subscription = Subscription(
                self._services.feed, channel, outlet, on_end=lambda *_: outlet.finish(),
                render=lambda: prepared_outlet.render,
            )  # fmt: skip
            subscription.turns[turn] = None
            subscription.begin_at(span.origin, (span.begin, -1))
            return sse_response(self._services, outlet, subscription.close)
        try:
            return json_response(await self._state(channel, turn, span))
        finally:
            self._services.feed.release(channel)

    async def _state(self, channel: Channel, turn: str, span: Span) -> dict[str, Any]:
        """The response object as the log has it now: of an open turn as far as it got, of an ended one its end."""
        projector = channel.fold.projector(turn)
        if projector is not None:
            return projector.snapshot()
        collector = Collector()
        await self._services.feed.channel(channel.conversation)  # the subscription releases what it holds
        subscription = Subscription(self._services.feed, channel, collector, on_end=collector.on_end)
        subscription.turns[turn] = None
        subscription.begin_at(span.origin, (span.begin, -1))
        try:
            return await asyncio.wait_for(asyncio.shield(collector.ended), self._services.limits.accept_ms / 1000)
        except TimeoutError as error:
            raise PeerTimeout("the log did not give the response in time", code="deadline") from error
        finally:
            subscription.close()

    async def cancel(self, request: Request) -> Response:
        principal = await principal_of(self._services, request)
        turn = _turn_of(request.path_params["response"])
        directory = self._services.directory
        place = await directory.find(turn, principal)
        channel = await self._services.feed.channel(place.conversation)
        if place.ended or channel.fold.ended(turn):
            self._services.feed.release(channel)
            raise Refused("the response has ended", code="response_already_completed", param="response_id")
        collector = Collector()
        span = await directory.span(place)
        subscription = Subscription(self._services.feed, channel, collector, on_end=collector.on_end)
        subscription.turns[turn] = None
        subscription.begin_at(span.origin, (span.begin, -1))
        try:
            await self._services.intake.cancel(principal, place.conversation, turn)
            done, _ = await asyncio.wait([collector.ended], timeout=CANCEL_WAIT_MS / 1000)
            if done:
                return json_response(collector.ended.result())
            projector = channel.fold.projector(turn)
            if projector is None:
                raise PeerTimeout("the cancel was sent; the turn has not ended yet", code="deadline")
            return json_response(projector.snapshot(), 202)
        finally:
            subscription.close()

    async def input_items(self, request: Request) -> Response:
        principal = await principal_of(self._services, request)
        turn = _turn_of(request.path_params["response"])
        place = await self._services.directory.find(turn, principal)
        accepted = await self._services.directory.accepted(place)
        if accepted is None:
            raise NotFound("the response's log has expired", code="response_expired", param="response_id")
        items = [input_item(turn, index, item) for index, item in enumerate(accepted.input)]
        if request.query_params.get("order", "desc") == "desc":
            items.reverse()
        return json_response(item_list(items))

    def _subscription(
        self, prepared: Prepared, outlet: SseOutlet, on_end: Any, *, sse: bool = False
    ) -> Subscription:  # fmt: skip
        subscription = Subscription(
            self._services.feed, prepared.channel, outlet, on_end=on_end,
            render=(lambda: _sse_frames) if sse else None,
        )  # fmt: skip
        subscription.turns[prepared.turn] = None
        return subscription

    def _spawn(self, work: Any) -> None:
        task: asyncio.Task[None] = asyncio.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)


class _Skipping:
    """Renders frames as server-sent events, those after a sequence number only, and ends when there are none left."""

    def __init__(self, outlet: SseOutlet, after: int) -> None:
        self._after = after
        self._outlet = outlet

    def render(self, step: Step) -> list[Frame]:
        if any(frame.ends and frame.sequence <= self._after for frame in step.frames):
            self._outlet.finish()
        return [sse_frame(frame) for frame in step.frames if frame.sequence > self._after]


def _sse_frames(step: Step) -> list[Frame]:
    """The Responses frames of a step, each as one server-sent event."""
    return [sse_frame(frame) for frame in step.frames]


def sse_frame(frame: Frame) -> Frame:
    body = server_sent(frame.type, frame.body)
    return Frame(frame.type, frame.turn, frame.sequence, frame.offset, frame.index, body, frame.ends)


def item_list(items: list[dict[str, Any]], has_more: bool = False) -> dict[str, Any]:
    """OpenAI's list object."""
    return {
        "object": "list", "data": items, "has_more": has_more,
        "first_id": items[0]["id"] if items else None, "last_id": items[-1]["id"] if items else None,
    }  # fmt: skip


def _turn_of(response: str) -> str:
    if not ids.is_id(ids.RESPONSE, response):
        raise NotFound("no such response", code="response_not_found", param="response_id")
    return ids.turn_of(response)


def _starting_after(value: str | None) -> int:
    if value is None:
        return -1
    if not value.isascii() or not value.isdigit():
        raise InvalidInput("'starting_after' is a sequence number", param="starting_after")
    return int(value)
