"""What every HTTP endpoint does the same way: who asks, how large the body is, how answers and errors look."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.access import key_of
from gateway.outlet import SseOutlet
from gateway.replies import error_body, status_of
from gateway.services import Services
from memory.rows import Principal
from streams.errors import HeadstartError, InvalidInput

SSE_HEADERS = {"cache-control": "no-store", "x-accel-buffering": "no"}


class BodyLimit:
    """Refuses a body that is larger than the limit before it is held in memory, and one that takes too long."""

    def __init__(self, app: ASGIApp, limit_bytes: int, limit_ms: int) -> None:
        self._app = app
        self._limit_bytes = limit_bytes
        self._limit_ms = limit_ms

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        size_bytes, whole = 0, False
        deadline = asyncio.get_running_loop().time() + self._limit_ms / 1000

        async def limited() -> Message:
            nonlocal size_bytes, whole
            if whole:
                return await receive()  # which waits for the client to go
            try:
                async with asyncio.timeout_at(deadline):
                    message = await receive()
            except TimeoutError as error:
                raise InvalidInput("the body did not come in time", code="body_too_slow") from error
            whole = not message.get("more_body", False)
            size_bytes += len(message.get("body", b""))
            if size_bytes > self._limit_bytes:
                raise InvalidInput("the body is too large", code="body_too_large", limit_bytes=self._limit_bytes)
            return message

        await self._app(scope, limited, send)


async def principal_of(services: Services, request: Request) -> Principal:
    """Who asks. Raises NotPermitted without a key that is in force, and Refused when it asks too fast."""
    key = key_of({"authorization": request.headers.get("authorization", "")}, request.url.query)
    principal = await services.door.admit(key)
    services.door.count_frame(principal)
    return principal


async def body_of(request: Request) -> dict[str, Any]:
    """The request's JSON object, {} when there is no body. Raises InvalidInput."""
    data = await request.body()
    if not data:
        return {}
    try:
        body = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise InvalidInput("the body is not JSON", code="not_json") from error
    if not isinstance(body, dict):
        raise InvalidInput("the body is a JSON object", code="not_an_object")
    return body


def json_response(value: object, status: int = 200) -> Response:
    return Response(orjson.dumps(value), status, media_type="application/json")


def fail(error: HeadstartError) -> Response:
    """The error's status and body, as OpenAI's SDKs read them."""
    response = json_response({"error": error_body(error)}, status_of(error))
    wait_ms = error.facts.get("retry_after_ms")
    if isinstance(wait_ms, int):
        response.headers["retry-after-ms"] = str(wait_ms)
    return response


def sse_response(
    services: Services, outlet: SseOutlet, ended: Callable[[], None], last: bytes = b""
) -> StreamingResponse:
    """Streams what the outlet gives, then `last`. ended: called when the stream is over or the client is gone."""

    async def stream() -> AsyncIterator[bytes]:
        services.metrics.streams.inc()
        try:
            while (body := await outlet.next()) is not None:
                services.metrics.frames.inc()
                yield body
            if last and not outlet.closed:
                yield last
        finally:
            services.metrics.streams.dec()
            outlet.close()
            ended()

    return StreamingResponse(stream(), media_type="text/event-stream", headers=SSE_HEADERS)


async def within(milliseconds: int, future: asyncio.Future[Any]) -> Any | None:
    """What the future gives, None when it takes longer; the future goes on."""
    done, _ = await asyncio.wait([future], timeout=milliseconds / 1000)
    return future.result() if done else None
