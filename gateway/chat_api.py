"""`POST /v1/chat/completions`, streamed and plain: a turn on the same path as every other.

The API is stateless: its messages are the whole context, so each request opens a conversation of its own, unless
`conversation` names one to go on in.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gateway.chat_frames import ChatProjector, failure
from gateway.frame import Frame
from gateway.http_common import body_of, json_response, principal_of, sse_response
from gateway.intake import Prepared
from gateway.outlet import SseOutlet
from gateway.replies import error_body
from gateway.requests import CreateRequest, content_text, parse_create
from gateway.resume import Step
from gateway.services import Services
from gateway.subscription import Subscription
from gateway.turns import start_turn, watch_turn
from memory.rows import Principal
from streams.errors import HeadstartError, InvalidInput
from streams.events.turn import TurnEnd, TurnFailed


def parse_chat(body: Mapping[str, Any]) -> tuple[CreateRequest, bool]:
    """(the turn asked for, whether the stream ends with usage). Pure. Raises InvalidInput naming the field."""
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise InvalidInput("'messages' is a list of at least one message", param="messages")
    if body.get("n") not in (None, 1):
        raise InvalidInput("only one choice can be asked for", param="n")
    items = [item for index, message in enumerate(messages) for item in _items(message, f"messages[{index}]")]
    wanted = {key: value for key, value in body.items() if key not in ("messages", "stream_options", "input")}
    wanted["input"] = items
    if wanted.get("max_output_tokens") is None:
        wanted["max_output_tokens"] = body.get("max_completion_tokens") or body.get("max_tokens")
    options = body.get("stream_options")
    usage = isinstance(options, Mapping) and options.get("include_usage") is True
    return parse_create(wanted), usage


def _items(message: object, param: str) -> list[dict[str, Any]]:
    """A message of this API as input items of the other."""
    if not isinstance(message, Mapping):
        raise InvalidInput("a message is an object", param=param)
    role = message.get("role")
    if role == "tool":
        call_id, output = message.get("tool_call_id"), message.get("content")
        return [{"type": "function_call_output", "call_id": call_id, "output": output}]
    if role == "assistant" and message.get("content") is None:
        return []  # it only called tools; their outputs follow, each with its call's id
    return [{"type": "message", "role": role, "content": content_text(message.get("content"), f"{param}.content")}]


def chat_routes(services: Services) -> list[Route]:
    api = _Chat(services)
    return [Route("/v1/chat/completions", api.create, methods=["POST"])]


class _Chat:
    def __init__(self, services: Services) -> None:
        self._services = services
        self._background: set[asyncio.Task[None]] = set()

    async def create(self, request: Request) -> Response:
        principal = await principal_of(self._services, request)
        wanted, usage = parse_chat(await body_of(request))
        return await (self._stream(principal, wanted, usage) if wanted.stream else self._plain(principal, wanted))

    async def _stream(self, principal: Principal, wanted: CreateRequest, usage: bool) -> Response:
        outlet = SseOutlet(self._services.limits.window_bytes)
        subscriptions: list[Subscription] = []

        def follow(prepared: Prepared) -> Subscription:
            subscription = Subscription(
                self._services.feed, prepared.channel, outlet, on_end=lambda *_: outlet.finish(),
                render=lambda: ChatProjector(prepared.turn, usage=usage).render,
            )  # fmt: skip
            subscription.turns[prepared.turn] = None
            subscriptions.append(subscription)
            return subscription

        started = await start_turn(self._services, principal, wanted, follow)

        def told(error: HeadstartError) -> None:
            outlet.answer(b"data: " + orjson.dumps({"error": error_body(error)}) + b"\n\n")
            outlet.finish()

        watch_turn(self._services, started, wanted, subscriptions[0], told, self._spawn)
        return sse_response(self._services, outlet, subscriptions[0].close, last=b"data: [DONE]\n\n")

    async def _plain(self, principal: Principal, wanted: CreateRequest) -> Response:
        loop = asyncio.get_running_loop()
        whole: asyncio.Future[Response] = loop.create_future()
        outlet = SseOutlet(1 << 30)  # nothing is queued: the projector below keeps the text, bounded by the turn's own
        subscriptions: list[Subscription] = []

        def follow(prepared: Prepared) -> Subscription:
            def render() -> Any:
                projector = ChatProjector(prepared.turn)

                def collect(step: Step) -> list[Frame]:
                    projector.render(step)
                    event = step.fact.event
                    mine = step.fact.identity.subject == prepared.turn
                    if mine and isinstance(event, TurnEnd) and not whole.done():
                        whole.set_result(_answer(projector, event))
                    return []

                return collect

            subscription = Subscription(self._services.feed, prepared.channel, outlet, render=render)
            subscription.turns[prepared.turn] = None
            subscriptions.append(subscription)
            return subscription

        def told(error: HeadstartError) -> None:
            if not whole.done():
                whole.set_exception(error)

        started = await start_turn(self._services, principal, wanted, follow)
        try:
            watch_turn(self._services, started, wanted, subscriptions[0], told, self._spawn)
            return await whole
        finally:
            subscriptions[0].close()

    def _spawn(self, work: Any) -> None:
        task: asyncio.Task[None] = asyncio.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)


def _answer(projector: ChatProjector, end: TurnEnd) -> Response:
    if isinstance(end, TurnFailed):
        return json_response(failure(end), 400 if end.fault == "caller" else 502)
    return json_response(projector.completion(end))
