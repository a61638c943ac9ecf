"""The other side of `make bench-firing`, as a process of its own: skills over HTTP that take as long as asked, and an
OpenAI-compatible server that plays a cell's stream to agents of other frameworks.

    POST /skill/<ms>                              answers after so many milliseconds
    POST /model/<cell as JSON, quoted>/<run>/v1/chat/completions
                                                  plays the cell as a stream of tool calls; with results in the
                                                  messages it answers at once
    GET  /turns                                   for each run, ms from its first request to the one with the results

`python -m tests.bench.firing_world` prints its port and runs until its standard input ends.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import orjson
import uvicorn

from streams.process import new_event_loop
from tests.bench.firing_grid import BYTES_PER_TOKEN, Cell

KEEP_ALIVE_S = 600  # no agent meets a connection that was closed while it was idle
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class World:
    """The ASGI application."""

    def __init__(self) -> None:
        self._began: dict[str, float] = {}
        self._turns_ms: dict[str, float] = {}

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        body = await _body(receive)
        match scope["method"], scope["path"].strip("/").split("/"):
            case "POST", ["skill", delay_ms]:
                await asyncio.sleep(int(delay_ms) / 1000)
                await _answer(send, {"found": orjson.loads(body).get("item", "")})
            case "POST", ["model", cell, run, "v1", "chat", "completions"]:
                values = [int(part) if part.isdecimal() else part for part in cell.split(",")]
                await self._model(Cell(*values), run, orjson.loads(body), send)  # type: ignore[arg-type]
            case "GET", ["turns"]:
                await _answer(send, self._turns_ms)
            case _:
                await _answer(send, {}, 404)

    async def _model(self, cell: Cell, run: str, request: dict[str, Any], send: Send) -> None:
        now = time.perf_counter()
        assert request.get("stream"), "the agents are asked to stream"
        if any(message["role"] == "tool" for message in request["messages"]):
            self._turns_ms[run] = round((now - self._began[run]) * 1000, 3)
            await _start(send)
            await _chunk(send, {"role": "assistant", "content": "Done."})
            return await _end(send, "stop")
        self._began[run] = now
        await _start(send)
        for number, delta in enumerate(tool_call_deltas(cell, run)):
            await asyncio.sleep(max(0.0, now + (number + 1) / cell.rate - time.perf_counter()))
            await _chunk(send, delta)
        await _end(send, "tool_calls")


def tool_call_deltas(cell: Cell, run: str) -> list[dict[str, Any]]:
    """The cell's tokens as a provider would send them: one delta each, with what it says of names and arguments."""
    text = cell.text(run)
    spans: list[tuple[int, int, int, str]] = []  # where the name is known, where the arguments stand
    decoder, at = json.JSONDecoder(), 1
    for _ in range(cell.calls):
        call, end = decoder.raw_decode(text, at)
        begin = text.index('"arguments": ', at) + len('"arguments": ')
        spans.append((begin - 1, begin, end - 1, call["name"]))
        at = end + 2
    plan_end = at - 1
    deltas: list[dict[str, Any]] = []
    for start in range(0, len(text), BYTES_PER_TOKEN):
        end = min(start + BYTES_PER_TOKEN, len(text))
        parts: list[dict[str, Any]] = []
        for index, (named, begin, close, name) in enumerate(spans):
            if start <= named < end:
                function = {"name": name, "arguments": ""}
                parts.append({"index": index, "id": f"call_{run}_{index}", "type": "function", "function": function})
            if written := text[max(start, begin) : min(end, close)]:
                parts.append({"index": index, "function": {"arguments": written}})
        said = text[max(start, plan_end) : end] if start >= plan_end else ""
        deltas.append({"role": "assistant", "content": said or None, **({"tool_calls": parts} if parts else {})})
    return deltas


async def _body(receive: Receive) -> bytes:
    data, more = b"", True
    while more:
        message = await receive()
        data += message.get("body", b"")
        more = message.get("more_body", False)
    return data


async def _start(send: Send, status: int = 200, content_type: bytes = b"text/event-stream") -> None:
    await send({"type": "http.response.start", "status": status, "headers": [(b"content-type", content_type)]})


async def _chunk(send: Send, delta: dict[str, Any], reason: str | None = None) -> None:
    whole = {
        "id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 0, "model": "scripted",
        "choices": [{"index": 0, "delta": delta, "finish_reason": reason}],
    }  # fmt: skip
    await send({"type": "http.response.body", "body": b"data: " + orjson.dumps(whole) + b"\n\n", "more_body": True})


async def _end(send: Send, reason: str) -> None:
    await _chunk(send, {}, reason)
    await send({"type": "http.response.body", "body": b"data: [DONE]\n\n"})


async def _answer(send: Send, value: Any, status: int = 200) -> None:
    await _start(send, status, b"application/json")
    await send({"type": "http.response.body", "body": orjson.dumps(value)})


async def serve() -> None:
    config = uvicorn.Config(
        World(), host="127.0.0.1", port=0, log_level="warning", lifespan="off", timeout_keep_alive=KEEP_ALIVE_S
    )
    server = uvicorn.Server(config)
    bound = config.bind_socket()
    bound.listen()
    sys.stdout.write(f"{bound.getsockname()[1]}\n")
    sys.stdout.flush()
    running = asyncio.create_task(server.serve([bound]))
    await asyncio.to_thread(sys.stdin.read)
    server.should_exit = server.force_exit = True
    await running


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(serve())
