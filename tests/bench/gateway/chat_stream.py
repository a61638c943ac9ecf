"""A client of `/v1/chat/completions` with `stream: true`, whoever answers: plain HTTP/1.1, events told by their bytes.

Every way is measured with it, so what it costs is the same for all of them.
"""

from __future__ import annotations

import asyncio
import re
from typing import Any, Final
from urllib.parse import urlsplit

import orjson

from tests.bench.clients import TurnWentWrong
from tests.bench.driving import TurnTimes, clock

EVENT: Final = b"data: "
DONE: Final = b"data: [DONE]"
TEXT: Final = re.compile(rb'"content": ?"[^"]')  # some servers put a space there; the first and the last say ""
LINE_BYTES: Final = 1 << 20


class ChatClient:
    """Streams from one server. One connection for each stream, opened beforehand and kept: `turn` of one `index` at a
    time."""

    def __init__(self, url: str, model: str, keys: list[str]) -> None:
        """url: with `/v1`."""
        self._place = urlsplit(url)
        self._model = model
        self._keys = keys
        self._open: dict[int, tuple[asyncio.StreamReader, asyncio.StreamWriter]] = {}

    async def turn(self, index: int, question: str, tokens: int | None = None) -> TurnTimes:
        """One answer. tokens: end it after so many. Raises TurnWentWrong."""
        body: dict[str, Any] = {
            "model": self._model, "stream": True, "messages": [{"role": "user", "content": question}],
        }  # fmt: skip
        if tokens is not None:
            body["max_tokens"] = tokens
        data = orjson.dumps(body)
        head = (
            f"POST {self._place.path}/chat/completions HTTP/1.1\r\nHost: {self._place.netloc}\r\n"
            f"Authorization: Bearer {self._keys[index % len(self._keys)]}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(data)}\r\n\r\n"
        )
        reader, writer = self._open.pop(index) if index in self._open else await self._connect()
        times = TurnTimes(clock())
        writer.write(head.encode() + data)
        status = await reader.readline()
        if not status.startswith(b"HTTP/1.1 200"):
            writer.close()
            raise TurnWentWrong(f"{status.decode().strip()}: {(await reader.read(600)).decode(errors='replace')}")
        while line := await reader.readline():
            if line.startswith(DONE):
                await self._finish(index, reader, writer)
                return times
            if line.startswith(EVENT) and TEXT.search(line):
                times.deltas.append((clock(), ""))
        raise TurnWentWrong("the stream was cut")

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection(self._place.hostname, self._place.port, limit=LINE_BYTES)

    async def _finish(self, index: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Reads the end of the chunked body, so that the connection can be used again."""
        while line := await reader.readline():
            if line == b"0\r\n":
                await reader.readline()
                self._open[index] = reader, writer
                return

    def close(self) -> None:
        for _, writer in self._open.values():
            writer.close()
        self._open.clear()
