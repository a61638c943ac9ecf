"""The process `headstart mcp`: the assistant's skills as an MCP server, over standard streams or streamable HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from importlib.metadata import version
from typing import NamedTuple

from headstart.mcp.direct import DirectCalls
from headstart.mcp.server import Keyed, skill_server
from headstart.service import wall_clock_ms
from headstart.service_listener import Listener
from memory.opening import open_bus, open_store
from memory.rows import Principal
from memory.store import Store
from streams.errors import Misconfigured, NotPermitted
from streams.listening import listen
from streams.process import Running
from streams.settings import Settings
from workers.planning.service_gate import ServiceGate
from workers.skills.executor import HttpExecutor


class ServerOptions(NamedTuple):
    """http: serve HTTP at /mcp on host and port instead of standard streams. every_effect: offer skills that change
    something too, but those that need approval."""

    http: bool = False
    host: str = "127.0.0.1"
    port: int = 8765
    every_effect: bool = False


@asynccontextmanager
async def mcp_server_stage(options: ServerOptions, settings: Settings) -> AsyncIterator[Running]:
    """Raises Misconfigured for settings that are missing, NotPermitted (`key_unknown`) over standard streams for a key
    that is not in force, OSError when the port is taken."""
    if not options.http:
        settings.require("key")
    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(open_store(settings))
        principal = None if options.http else await principal_of(store, settings.key or "")
        bus = await stack.enter_async_context(open_bus(settings, "headstart-mcp"))
        store.follow(bus.epoch)
        http = await stack.enter_async_context(HttpExecutor.from_settings(settings))
        gate = ServiceGate(lambda: bus.epoch, wall_clock_ms, allow_unsigned=settings.dev)
        calls = DirectCalls(bus, store, http, gate, every_effect=options.every_effect)
        await calls.start()
        stack.push_async_callback(calls.close)
        if principal is None:
            where = await stack.enter_async_context(served_over_http(calls, store, options.host, options.port))
            yield Running(f"MCP server at {where}/mcp")
        else:
            yield Running("MCP server on standard streams", over_streams(calls, principal))


async def principal_of(store: Store, key: str) -> Principal:
    """Raises NotPermitted (`key_unknown`)."""
    principal = await store.verify_key(key)
    if principal is None:
        raise NotPermitted("HEADSTART_KEY is no key in force", code="key_unknown", hint="headstart keys list")
    return principal


def over_streams(calls: DirectCalls, principal: Principal) -> Callable[[], Awaitable[None]]:
    """Serves standard input and output until the input ends."""

    async def serve() -> None:
        from mcp.server.stdio import stdio_server

        server = skill_server(calls, version("headstart"), principal)
        async with stdio_server() as (reading, writing):
            await server.run(reading, writing, server.create_initialization_options())

    return serve


@asynccontextmanager
async def served_over_http(calls: DirectCalls, store: Store, host: str, port: int) -> AsyncIterator[str]:
    """Serves HTTP meanwhile; gives its url. port 0: any free one. Each request brings a key of `store`."""
    try:
        from mcp.server.transport_security import TransportSecuritySettings
    except ImportError:
        raise Misconfigured("MCP is not installed", hint='pip install "headstart[mcp]"') from None
    server = skill_server(calls, version("headstart"))
    # Every request carries a key that no page knows, so pages of other hosts can do nothing with a rebound name.
    open_to_names = TransportSecuritySettings(enable_dns_rebinding_protection=False)
    app = server.streamable_http_app(stateless_http=True, json_response=True, transport_security=open_to_names)
    async with server.session_manager.run():
        listening = listen(host, port)
        listener = Listener("mcp", Keyed(app, store.verify_key), listening)
        try:
            await listener.ready()
            yield f"http://{host}:{listening.getsockname()[1]}"
        finally:
            await listener.stop()
