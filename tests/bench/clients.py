"""The load: real WebSockets to the gateway, one per turn at a time, a new conversation for each turn.

Frames are looked at by their first bytes and not parsed, so that the generator takes as little of the cores that it
shares with what it measures as it can. `through_client` does the same with headstart.client, to say what that costs.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Final

import orjson
from websockets.asyncio.client import ClientConnection, connect

from headstart.client import Client, socket_url
from streams.errors import OurError
from tests.bench.driving import TurnTimes, clock
from tests.bench.scenarios import Scenario

DELTA: Final = b'{"type":"response.output_text.delta"'
ANSWERED: Final = b'{"type":"headstart.tool.answered"'
COMPLETED: Final = b'{"type":"response.completed"'
INCOMPLETE: Final = b'{"type":"response.incomplete"'
WRONG: Final = (b'{"type":"error"', b'{"type":"response.failed"', INCOMPLETE, b'{"type":"headstart.tool.failed"')
CURSOR: Final = slice(-60, -2)  # the last field of a frame: 58 characters and `"}`


class TurnWentWrong(OurError):
    """A turn of a benchmark did not go as its script says, so its times would mean nothing."""


class Sockets:
    """One open WebSocket per loop of the load."""

    def __init__(self, sockets: list[ClientConnection]) -> None:
        self._sockets = sockets

    async def turn(self, index: int, scenario: Scenario, tokens: int, number: int, cut_at: int = 0) -> TurnTimes:
        """One turn on socket `index`. cut_at: end the answer after so many tokens, which is then as good an end as any;
        0 leaves it whole. Raises TurnWentWrong."""
        socket = self._sockets[index]
        request: dict[str, Any] = {"type": "response.create", "model": f"headstart/{scenario.agent}"}
        request["input"] = scenario.ask(number, tokens)
        if cut_at:
            request["max_output_tokens"] = cut_at
        frame = orjson.dumps(request).decode()
        times, answered = TurnTimes(clock()), 0
        await socket.send(frame)
        while True:
            body = await socket.recv(decode=False)
            if body.startswith(DELTA):
                times.deltas.append((clock(), body[CURSOR].decode()))
            elif body.startswith(ANSWERED):
                answered += 1
            elif cut_at and body.startswith(INCOMPLETE):
                return times
            elif body.startswith(WRONG):
                raise TurnWentWrong(f"a turn went wrong: {body.decode()[-700:]}")
            elif body.startswith(COMPLETED):
                if answered != len(scenario.calls) or not times.deltas:
                    raise TurnWentWrong(f"{answered} of {len(scenario.calls)} calls were answered")
                return times


@asynccontextmanager
async def sockets(url: str, keys: list[str], count: int) -> AsyncIterator[Sockets]:
    async with AsyncExitStack() as stack:
        opened = []
        for index in range(count):
            headers = {"Authorization": f"Bearer {keys[index % len(keys)]}"}
            connection = connect(socket_url(url), additional_headers=headers, compression=None)
            opened.append(await stack.enter_async_context(connection))
        yield Sockets(opened)


async def through_client(client: Client, scenario: Scenario, tokens: int, number: int) -> TurnTimes:
    """The same turn with the Python client: parsed, typed, its cursor kept for a reconnect."""
    times = TurnTimes(clock())
    turn = await client.submit(scenario.ask(number, tokens), model=f"headstart/{scenario.agent}")
    async for frame in turn:
        if frame["type"] == "response.output_text.delta":
            times.deltas.append((clock(), frame["cursor"]))
    return times
