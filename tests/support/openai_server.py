"""A small real HTTP server that speaks OpenAI's chat completions and embeddings, on a scripted engine.

It is what "any OpenAI-compatible URL" is tested against: uvicorn on a free port, server-sent events, usage in a last
chunk, errors as JSON, and a client that hangs up aborts its request.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from typing import Any

import uvicorn

from memory.embed import Embedder, HashEmbedder
from workers.generation.engine import EngineDelta, EngineError, EngineFinished, EngineRequest, Message
from workers.generation.scripted_engine import ScriptedEngine

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class OpenAIServer:
    """The ASGI application. Mishaps are armed by setting a field.

    api_key: wanted from clients, "" for none. refuse_with: an HTTP status for every request, 0 for none.
    cut_after: hang up after that many pieces of a stream, None for never. reports_usage: as some servers do not.
    hidden_tokens: reported as reasoning. requests: the bodies that came in, oldest first.
    """

    def __init__(self, engine: ScriptedEngine, embedder: Embedder | None = None) -> None:
        self.engine = engine
        self.embedder = embedder or HashEmbedder()
        self.api_key = ""
        self.refuse_with = 0
        self.cut_after: int | None = None
        self.reports_usage = True
        self.hidden_tokens = 0
        self.requests: list[dict[str, Any]] = []
        self.aborted = asyncio.Event()

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        assert scope["type"] == "http"
        headers = dict(scope["headers"])
        if self.api_key and headers.get(b"authorization") != f"Bearer {self.api_key}".encode():
            return await _answer(send, 401, {"error": {"message": "wrong key", "type": "invalid_request_error"}})
        if self.refuse_with:
            error = {"message": "as the test wants", "type": "test"}
            return await _answer(send, self.refuse_with, {"error": error})
        match scope["method"], scope["path"]:
            case "GET", "/v1/models":
                await _answer(send, 200, {"object": "list", "data": [{"id": self.engine.model, "object": "model"}]})
            case "POST", "/v1/chat/completions":
                body = await self._body(receive)
                await self._chat(body, receive, send)
            case "POST", "/v1/embeddings":
                await self._embed(await self._body(receive), send)
            case _:
                await _answer(send, 404, {"error": {"message": "no such path", "type": "invalid_request_error"}})

    async def _body(self, receive: Receive) -> dict[str, Any]:
        data = b""
        more = True
        while more:
            message = await receive()
            data += message.get("body", b"")
            more = message.get("more_body", False)
        body: dict[str, Any] = json.loads(data)
        self.requests.append(body)
        return body

    async def _chat(self, body: dict[str, Any], receive: Receive, send: Send) -> None:
        streaming = asyncio.create_task(self._stream(_engine_request(body), send))
        hung_up = asyncio.create_task(_disconnected(receive))
        await asyncio.wait({streaming, hung_up}, return_when=asyncio.FIRST_COMPLETED)
        if not streaming.done():
            streaming.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await streaming
            self.aborted.set()
        hung_up.cancel()
        if streaming.done() and not streaming.cancelled():
            streaming.result()

    async def _stream(self, request: EngineRequest, send: Send) -> None:
        started = False
        pieces = 0
        async with contextlib.aclosing(self.engine.generate(request)) as events:
            try:
                async for event in events:
                    if not started:
                        started = True
                        await _start(send, 200, b"text/event-stream")
                    if isinstance(event, EngineDelta):
                        if pieces == self.cut_after:
                            raise ConnectionAbortedError("cut by the test")
                        pieces += 1
                        await _event(send, {"choices": [_choice(event.text)]})
                    elif isinstance(event, EngineFinished):
                        await _event(send, {"choices": [_choice("", event.reason)]})
                        if self.reports_usage:
                            await _event(send, {"choices": [], "usage": self._usage(event)})
            except EngineError as error:
                return await _answer(send, 400, {"error": {"message": str(error), "type": "invalid_request_error"}})
        await send({"type": "http.response.body", "body": b"data: [DONE]\n\n"})

    def _usage(self, event: EngineFinished) -> dict[str, Any]:
        completion = event.usage.completion_tokens + self.hidden_tokens
        return {
            "prompt_tokens": event.usage.prompt_tokens,
            "completion_tokens": completion,
            "total_tokens": event.usage.prompt_tokens + completion,
            "completion_tokens_details": {"reasoning_tokens": self.hidden_tokens},
        }

    async def _embed(self, body: dict[str, Any], send: Send) -> None:
        texts = [body["input"]] if isinstance(body["input"], str) else body["input"]
        vectors: list[Any] = await self.embedder.embed(texts)
        if body.get("encoding_format") == "base64":
            vectors = [base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode() for vector in vectors]
        # In another order than asked for, since only `index` tells which is which.
        data = [{"object": "embedding", "index": index, "embedding": vector} for index, vector in enumerate(vectors)]
        usage = {"prompt_tokens": len(texts), "total_tokens": len(texts)}
        await _answer(send, 200, {"object": "list", "data": data[::-1], "model": body["model"], "usage": usage})


def _engine_request(body: dict[str, Any]) -> EngineRequest:
    response_format = body.get("response_format") or {}
    stop = body.get("stop") or []
    return EngineRequest(
        request_id=f"http-{id(body)}",
        model=body["model"],
        messages=[Message(message["role"], message["content"]) for message in body["messages"]],
        max_tokens=body.get("max_tokens") or body.get("max_completion_tokens") or 256,
        temperature=body.get("temperature", 1.0),
        stop=[stop] if isinstance(stop, str) else stop,
        json_schema=response_format.get("json_schema", {}).get("schema"),
        step=response_format.get("json_schema", {}).get("name", ""),
    )


def _choice(text: str, reason: str | None = None) -> dict[str, Any]:
    return {"index": 0, "delta": {"content": text}, "finish_reason": reason}


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _start(send: Send, status: int, content_type: bytes) -> None:
    await send({"type": "http.response.start", "status": status, "headers": [(b"content-type", content_type)]})


async def _event(send: Send, chunk: dict[str, Any]) -> None:
    whole = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 0, "model": "scripted", **chunk}
    body = b"data: " + json.dumps(whole).encode() + b"\n\n"
    await send({"type": "http.response.body", "body": body, "more_body": True})


async def _answer(send: Send, status: int, body: dict[str, Any]) -> None:
    await _start(send, status, b"application/json")
    await send({"type": "http.response.body", "body": json.dumps(body).encode()})


@contextlib.asynccontextmanager
async def serve(server: OpenAIServer) -> AsyncIterator[str]:
    """Run the server on a free port; gives its base URL, `/v1` included. Its engine is started and closed with it."""
    await server.engine.start()
    config = uvicorn.Config(server, host="127.0.0.1", port=0, log_level="critical", lifespan="off")
    runner = uvicorn.Server(config)
    bound = config.bind_socket()
    port = bound.getsockname()[1]
    # Connections that come before the server accepts wait in the backlog of the socket, which listens from here on.
    bound.listen()
    task = asyncio.create_task(runner.serve([bound]))
    try:
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        runner.should_exit = True
        await task
        await server.engine.close()
