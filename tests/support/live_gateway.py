"""Real gateways on an in-memory bus with scripted turns, for tests of clients and of the chat page."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from gateway.limits import Limits
from gateway.server import Gateway
from memory.memory_store import MemoryStore
from streams.memory_bus import MemoryBroker, MemoryBus
from streams.settings import Settings
from tests.support.turn_script import AT_MS, Script, ScriptedTurns, echo

SETTINGS = {"HEADSTART_DEV": "true"}


@dataclass
class LiveGateways:
    """One log, one store, one scripted turns worker; gateways over them that come and go."""

    broker: MemoryBroker
    store: MemoryStore
    turns: ScriptedTurns
    key: str
    bus: MemoryBus
    limits: Limits | None = None
    now_ms: Callable[[], int] | None = None
    running: list[Gateway] = field(default_factory=list)
    _names: itertools.count[int] = field(default_factory=itertools.count)

    async def open(self, port: int = 0) -> Gateway:
        """One more gateway, listening on this port, 0 for any."""
        bus = MemoryBus(self.broker)
        await bus.start()
        name = f"gateway/test-{next(self._names)}"
        settings = Settings.from_env({**SETTINGS, "HEADSTART_PORT": str(port)})
        gateway = Gateway(settings, bus, self.store, limits=self.limits, now_ms=self.now_ms, name=name)
        await gateway.start()
        self.running.append(gateway)
        return gateway

    async def close(self, gateway: Gateway) -> None:
        """Drain one: its sockets are closed with 1012."""
        self.running.remove(gateway)
        await gateway.stop()


def url_of(gateway: Gateway) -> str:
    return f"http://127.0.0.1:{gateway.port}"


@asynccontextmanager
async def live_gateways(
    script: Script = echo, limits: Limits | None = None, now_ms: Callable[[], int] | None = None
) -> AsyncIterator[LiveGateways]:
    """Without a gateway yet. The key belongs to user ada of tenant acme. now_ms: the clock of the log;
    the gateways' stands still then, at the time that scripts begin with."""
    broker = MemoryBroker(now_ms=now_ms)
    store = MemoryStore()
    await store.open()
    bus = MemoryBus(broker)
    await bus.start()
    store.follow(bus.epoch)
    turns = ScriptedTurns(bus, script)
    await turns.start()
    key = await store.create_key("acme", "ada", "test", ("chat",), AT_MS)
    world = LiveGateways(broker, store, turns, key, bus, limits, (lambda: AT_MS) if now_ms else None)
    try:
        yield world
    finally:
        for gateway in list(world.running):
            await world.close(gateway)
        await turns.stop()
        await bus.stop()
        await store.close()
