"""One Apache Kafka that several clients reach each through a fault proxy of its own, and others directly.

Kafka tells its clients where to go, so every proxy has a listener of its own that tells its address. Each pair has a
namespace too: its own topics and groups.
"""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from streams.apache_kafka import Voter
from streams.kafka_bus import KafkaBus
from tests.support.buses import kafka_broker
from tests.support.fault_proxy import FaultProxy

HERE = "127.0.0.1"
REQUEST_TIMEOUT_MS = 1_000  # of a client behind a proxy: a socket that says nothing is given up after it
SESSION_TIMEOUT_MS = 6_000
PARTITIONS = 2


class Pair:
    """One client and the broker. `through` opens the client's connections to the bus, `direct` those of who watches."""

    def __init__(self, namespace: str, proxy: FaultProxy, direct: str, opened: AsyncExitStack) -> None:
        self.proxy = proxy
        self._namespace = namespace
        self._direct = direct
        self._opened = opened

    async def through(self) -> KafkaBus:
        return await self._open(f"{HERE}:{self.proxy.port}", REQUEST_TIMEOUT_MS)

    async def direct(self) -> KafkaBus:
        return await self._open(self._direct, 20_000)

    async def _open(self, bootstrap: str, request_timeout_ms: int) -> KafkaBus:
        bus = KafkaBus(
            bootstrap, namespace=self._namespace, partitions=PARTITIONS, replication=1,
            request_timeout_ms=request_timeout_ms, session_timeout_ms=SESSION_TIMEOUT_MS,
        )  # fmt: skip
        await bus.start()
        self._opened.push_async_callback(bus.stop)
        return bus


@asynccontextmanager
async def kafka_behind_proxies(folder: Path, names: Sequence[str]) -> AsyncIterator[dict[str, Pair]]:
    """A broker, started, with one pair of each of these names. Skips the test where there is no Apache Kafka."""
    own, controller, *inner = free_ports(2 + len(names))
    async with AsyncExitStack() as stack:
        proxies = [await stack.enter_async_context(FaultProxy((HERE, port))) for port in inner]
        listeners = {"PLAINTEXT": (own, own), **{
            name.upper(): (port, proxy.port) for name, port, proxy in zip(names, inner, proxies, strict=True)
        }}  # fmt: skip
        kafka = kafka_broker(
            folder, quorum=[Voter(1, own, controller)], overrides={
                "listeners": ",".join(
                    [*(f"{name}://{HERE}:{port}" for name, (port, _) in listeners.items()),
                     f"CONTROLLER://{HERE}:{controller}"]
                ),
                "advertised.listeners": ",".join(f"{name}://{HERE}:{told}" for name, (_, told) in listeners.items()),
                "listener.security.protocol.map": ",".join(f"{name}:PLAINTEXT" for name in [*listeners, "CONTROLLER"]),
            },
        )  # fmt: skip
        await stack.enter_async_context(kafka)
        opened = await stack.enter_async_context(AsyncExitStack())
        yield {
            name: Pair(name, proxy, kafka.bootstrap, opened) for name, proxy in zip(names, proxies, strict=True)
        }  # fmt: skip


def free_ports(count: int) -> list[int]:
    """Different ports of this machine on which nobody listens now."""
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind((HERE, 0))
        return [int(probe.getsockname()[1]) for probe in probes]
    finally:
        for probe in probes:
            probe.close()
