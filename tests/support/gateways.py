"""Gateways on a log and a store in memory, with real sockets, and the clients that talk to them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Self

import httpx
import orjson
from openai import AsyncOpenAI
from websockets.asyncio.client import ClientConnection, connect

from gateway.limits import Limits
from gateway.server import Gateway
from memory.memory_store import MemoryStore
from streams.bus import Bus
from streams.memory_bus import MemoryBroker, MemoryBus
from streams.settings import Settings
from tests.support.buses import PARTITIONS, OpenBus
from tests.support.turn_script import Script, ScriptedTurns, echo

PATIENCE_S = 20.0  # nothing here takes long; this only ends a test that would hang

Frame = dict[str, Any]


class Rig:
    """One log, one store, a scripted turns worker, and as many gateways as a test starts."""

    def __init__(self, script: Script = echo, open_bus: OpenBus | None = None) -> None:
        """open_bus: another log than one in memory; each call is another connection to it."""
        self.broker = MemoryBroker(PARTITIONS)
        self.store = MemoryStore()
        self.key = ""
        self._script = script
        self._open_bus = open_bus or self._open_memory
        self._stack = AsyncExitStack()

    async def _open_memory(self) -> Bus:
        bus = MemoryBus(self.broker)
        await bus.start()
        return bus

    async def __aenter__(self) -> Self:
        self.bus = await self._open_bus()
        self.turns = ScriptedTurns(self.bus, self._script)
        await self.store.open()
        self.store.follow(self.bus.epoch)
        self.key = await self.new_key("acme", "ada")
        await self.turns.start()
        self._stack.push_async_callback(self.turns.stop)
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._stack.aclose()

    async def new_key(self, tenant: str, user: str) -> str:
        return await self.store.create_key(tenant, user, "test", ["chat"], 0)

    async def gateway(self, name: str = "", limits: Limits | None = None, **settings: Any) -> Gateway:
        """A started gateway on a bus connection of its own; stopped with the rig."""
        bus = await self._open_bus()
        values = Settings.from_env({"HEADSTART_PORT": "0", "HEADSTART_DEV": "true"}).but(**settings)
        gateway = Gateway(values, bus, self.store, limits=limits, name=name)
        await gateway.start()
        self._stack.push_async_callback(gateway.stop)
        return gateway

    def openai(self, gateway: Gateway, key: str | None = None) -> Any:
        """An AsyncOpenAI. Typed as Any: its overloads tell streams apart by literals that a test passes in dicts."""
        address = f"127.0.0.1:{gateway.port}/v1"
        client = AsyncOpenAI(
            api_key=key or self.key, base_url=f"http://{address}", websocket_base_url=f"ws://{address}", max_retries=0
        )
        self._stack.push_async_callback(client.close)
        return client

    def http(self, gateway: Gateway, key: str | None = None) -> httpx.AsyncClient:
        headers = {"authorization": f"Bearer {key or self.key}"}
        return httpx.AsyncClient(base_url=f"http://127.0.0.1:{gateway.port}", headers=headers, timeout=PATIENCE_S)

    @asynccontextmanager
    async def socket(
        self, gateway: Gateway, query: str = "", key: str | None = None, **options: Any
    ) -> AsyncIterator[Socket]:
        """A bare socket, for frames that no SDK sends."""
        headers = {"authorization": f"Bearer {key or self.key}"}
        url = f"ws://127.0.0.1:{gateway.port}/v1/responses{query}"
        async with connect(url, additional_headers=headers, max_size=None, compression=None, **options) as connection:
            yield Socket(connection)


class Socket:
    """Frames as dicts; `raw` keeps the bytes of every frame that was read."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection
        self.raw: list[str] = []

    async def send(self, frame: Frame | str | bytes) -> None:
        await self.connection.send(orjson.dumps(frame).decode() if isinstance(frame, dict) else frame)

    async def create(self, text: str, **fields: Any) -> None:
        await self.send({"type": "response.create", "model": "headstart", "input": text, **fields})

    async def next(self) -> Frame:
        async with asyncio.timeout(PATIENCE_S):
            data = await self.connection.recv(decode=True)
        assert isinstance(data, str)
        self.raw.append(data)
        frame: Frame = orjson.loads(data)
        return frame

    async def until(self, *kinds: str) -> list[Frame]:
        """Frames up to and including the first of one of these types."""
        frames = [await self.next()]
        while frames[-1]["type"] not in kinds:
            frames.append(await self.next())
        return frames

    async def until_end(self) -> list[Frame]:
        return await self.until("response.completed", "response.incomplete", "response.failed")


def of_log(raw: list[str]) -> list[str]:
    """The frames that were made from the log."""
    return [text for text in raw if "cursor" in orjson.loads(text) and '"headstart.accepted"' not in text]


def text_of(frames: list[Frame]) -> str:
    return "".join(frame["delta"] for frame in frames if frame["type"] == "response.output_text.delta")
