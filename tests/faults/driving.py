"""The clients of a run: `headstart.client` behind a balancer that leads every connection to another gateway.

Each conversation of the cast is driven to its end, whatever happens meanwhile; every frame is kept.
"""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

import msgspec
from websockets.asyncio.client import ClientConnection, connect

from headstart.client import Backoff, Client
from headstart.client_streams import Turn
from streams import ids
from streams.errors import HeadstartError, PeerError
from tests.faults.story import APPROVED, CAST, Ask, ask, numbers_of

CLIENTS: Final = 4
RESEND_S: Final = 1.0
SPREAD_S: Final = 2.0  # over which a run's conversations begin
PATIENCE_S: Final = 150.0  # a turn's deadline is two minutes; what has not ended by then never will
FRAME_BYTES: Final = 16 << 20
Frame = dict[str, Any]


class Balancer:
    """Leads one client's connections to the gateways in turn, past those that are known to be away."""

    def __init__(self, addresses: Mapping[str, str], away: set[str], first: int) -> None:
        self.at = ""
        self._addresses, self._away = addresses, away
        self._names: Iterator[str] = itertools.islice(itertools.cycle(addresses), first, None)
        self.raw: list[str] = []
        self._socket: ClientConnection | None = None

    @asynccontextmanager
    async def dial(self, url: str, headers: Mapping[str, str]) -> AsyncIterator[_Heard]:
        """A connection to the next gateway, as `Client` asks for one."""
        for _ in self._addresses:
            self.at = next(self._names)
            if self.at not in self._away:
                break
        address = f"ws://{self._addresses[self.at]}/v1/responses"
        async with connect(address, additional_headers=headers, max_size=FRAME_BYTES, compression=None) as socket:
            self._socket = socket
            try:
                yield _Heard(socket, self.raw)
            finally:
                self._socket = None

    def cut(self) -> None:
        """Ends the connection at once, as a balancer does whose check of the gateway failed."""
        if self._socket is not None:
            self._socket.transport.abort()


class _Heard:
    """A socket whose frames are kept as they came."""

    def __init__(self, socket: ClientConnection, raw: list[str]) -> None:
        self._socket, self._raw = socket, raw

    async def send(self, message: str) -> None:
        await self._socket.send(message)

    async def recv(self) -> str | bytes:
        message = await self._socket.recv()
        self._raw.append(message if isinstance(message, str) else message.decode())
        return message


class Outcome(msgspec.Struct):
    """What a client saw of one turn. status: completed | incomplete | cancelled | failed | lost. error: its code."""

    ask: Ask
    says: str
    event_id: str
    turn: str = ""
    conversation: str = ""
    status: str = "lost"
    error: str = ""
    text: str = ""
    frames: list[Frame] = []
    resent: int = 0  # how often it was sent again by the caller
    follows: str = ""  # the text of the turn before, which this one must have been told


class Run:
    """One cast on its way."""

    def __init__(self, addresses: Mapping[str, str], key: str, run: int, name: str) -> None:
        self.outcomes: list[Outcome] = []
        self.away: set[str] = set()
        self.balancers = [Balancer(addresses, self.away, number) for number in range(CLIENTS)]
        self.name = name
        self._key, self._run = key, run
        self._clients: list[Client] = []
        self._count = itertools.count()

    async def drive(self, chance: random.Random) -> None:
        """Everything, to its end."""
        numbers = numbers_of(self._run)
        starts = [chance.random() * SPREAD_S for _ in numbers]
        backoff = Backoff(attempts=40)
        self._clients = [
            Client("ws://balancer", self._key, backoff=backoff, dial=balancer.dial, draw=chance.random)
            for balancer in self.balancers
        ]
        try:
            await asyncio.gather(*(client.__aenter__() for client in self._clients))
            await asyncio.gather(
                *(self._conversation(number, start) for number, start in zip(numbers, starts, strict=True))
            )
        finally:
            await asyncio.gather(*(client.close() for client in self._clients))

    def client_of(self, event_id: str) -> Balancer:
        """The way of the client that asked for a turn."""
        return self.balancers[int(event_id.rsplit("-", 1)[1]) % CLIENTS]

    def cut(self, gateway: str) -> None:
        """From now on no client is led to this gateway, and those that are there are cut off."""
        self.away.add(gateway)
        for balancer in self.balancers:
            if balancer.at == gateway:
                balancer.cut()

    async def _conversation(self, number: int, start_s: float) -> None:
        kind = CAST[number % len(CAST)]
        await asyncio.sleep(start_s)
        first = ask(kind, number)
        if kind == "talk":
            began = asyncio.Event()
            one = asyncio.create_task(self._turn(first, first.question, "", first.says, began=began))
            waiting = asyncio.create_task(began.wait())
            await asyncio.wait({one, waiting}, return_when=asyncio.FIRST_COMPLETED)
            waiting.cancel()
            conversation = self.outcomes_of(first)[0].conversation
            second = ask(kind, number, "b")
            if conversation:
                await self._turn(second, second.question, conversation, second.says, follows=first.says)
            await one
        elif kind == "message":
            asked = await self._turn(first, first.question, "", "")
            requests = [
                frame["request"] for frame in asked.frames if frame.get("type") == "headstart.approval.asked"
            ]  # fmt: skip
            approval = [
                {"type": "mcp_approval_response", "approval_request_id": one, "approve": True} for one in requests
            ]
            if approval:
                await self._turn(first, approval, asked.conversation, APPROVED)
        else:
            await self._turn(first, first.question, "", first.says)

    def outcomes_of(self, asked: Ask) -> list[Outcome]:
        return [outcome for outcome in self.outcomes if outcome.ask == asked]

    async def _turn(
        self, asked: Ask, given: str | Sequence[Mapping[str, Any]], conversation: str, says: str, *,
        follows: str = "", began: asyncio.Event | None = None,
    ) -> Outcome:  # fmt: skip
        number = next(self._count)
        outcome = Outcome(asked, says, f"{self.name}-{number}", follows=follows, frames=[])
        self.outcomes.append(outcome)
        client = self._clients[number % CLIENTS]
        try:
            async with asyncio.timeout(PATIENCE_S):
                while outcome.status == "lost":
                    turn = await client.submit(
                        given, conversation=conversation or None, event_id=outcome.event_id, model=asked.model
                    )  # fmt: skip
                    await self._follow(turn, outcome, began)
        except HeadstartError as error:
            outcome.status, outcome.error = "failed", f"{error.code}: {error.message}"
        except TimeoutError:
            outcome.error = "it did not end"
        return outcome

    async def _follow(self, turn: Turn, outcome: Outcome, began: asyncio.Event | None) -> None:
        """To its end. What the gateway could not take, or nobody took up yet, is told to the caller, who may send it
        again under the same key: it is the same turn."""
        try:
            response = await turn.accepted()
            await self._read(turn, response, outcome, began)
        except PeerError as error:
            if outcome.frames:
                raise
            outcome.resent += 1
            outcome.error = f"{error.code}: {error.message}"
            await asyncio.sleep(RESEND_S)

    async def _read(self, turn: Turn, response: str, outcome: Outcome, began: asyncio.Event | None) -> None:
        outcome.turn, outcome.conversation = ids.turn_of(response), turn.conversation
        async for frame in turn:
            outcome.frames.append(frame)
            outcome.text = turn.text
            if began is not None:
                began.set()
        outcome.status, outcome.error = (await turn.result()).status, ""
