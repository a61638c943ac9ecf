"""An MCP server's tools as skills: a service of Headstart's whose functions are the server's.

    connection = McpConnection(lambda: client_of("mcp-server-time"))
    await connection.start()
    tools, _ = import_tools(await connection.tools(), choices, connection.name)
    service = mcp_service(connection, tools, Service("time", over="bus", api_key=…))

What a service does for any skill it does for these: arguments are checked, keys enforced, calls answered on the bus or
over HTTP, and a pure skill that nobody waits for is cancelled, which the MCP server is told.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any, Literal, NamedTuple

import orjson

from headstart.importing.choices import Choices, Imported
from headstart.importing.mcp_tools import ImportedTool, import_tools
from headstart.mcp.connection import McpConnection, client_of
from headstart.service import Caller, Service, broker_of
from memory.opening import open_bus
from streams.errors import InvalidInput
from streams.events.registering import SkillManifest
from streams.process import Running
from streams.settings import Settings
from workers.skills.parameters import properties


class ToolWork:
    """Calls one tool for a skill (service_signature.Answers)."""

    def __init__(self, connection: McpConnection, tool: ImportedTool) -> None:
        self._connection, self._tool = connection, tool

    async def call(self, arguments: dict[str, Any], caller: Caller) -> bytes:
        """Raises what McpConnection.call raises."""
        named = {self._tool.arguments[name]: value for name, value in arguments.items()}
        timeout_s = self._tool.manifest.timeout_ms / 1000
        return orjson.dumps(await self._connection.call(self._tool.tool, named, timeout_s))


def mcp_service(connection: McpConnection, tools: Iterable[ImportedTool], service: Service) -> Service:
    """The service with these tools declared. The connection is started and closed by the caller. Raises as
    Service.add."""
    for tool in tools:
        service.add(tool.manifest, ToolWork(connection, tool))
    return service


class HostOptions(NamedTuple):
    """over: how the skills are called; host, port: where over HTTP. tenant: of the service's key. token: for a server
    that asks for one, "" for none. reviewed: manifests that count instead of those made from the tools, None for all of
    these. judge: says what to do about tools that cannot be skills, and gives the manifests of the others."""

    over: Literal["bus", "http"]
    host: str
    port: int
    tenant: str
    token: str
    reviewed: list[SkillManifest] | None
    judge: Callable[[Imported], list[SkillManifest]]


@asynccontextmanager
async def mcp_stage(
    source: str, choices: Choices, options: HostOptions, settings: Settings
) -> AsyncIterator[Running]:  # fmt: skip
    """The process `headstart skill serve-mcp` (streams.process). source: as client_of takes it. Raises as
    McpConnection.start, import_tools, `judge` and Service.start."""
    connection = McpConnection(lambda: client_of(source, options.token))
    await connection.start()
    try:
        tools, found = import_tools(await connection.tools(), choices, connection.name)
        _ = options.judge(found)
        chosen = tools if options.reviewed is None else reviewed_tools(tools, options.reviewed)
        service = Service(
            chosen[0].manifest.owner, over=options.over, host=options.host, port=options.port,
            signing_key=settings.signing_key, api_key=settings.key or "", tenant=options.tenant,
        )  # fmt: skip
        _ = mcp_service(connection, chosen, service)
        broker = broker_of(settings) if options.over == "bus" else None
        async with open_bus(settings, f"service-{service.name}") as bus:
            await service.start(
                bus, broker, session_timeout_ms=settings.session_timeout_ms,
                fetch_max_wait_ms=settings.fetch_max_wait_ms,
            )  # fmt: skip
            try:
                yield Running(f"service {service.name} with {len(chosen)} skills of an MCP server")
            finally:
                await service.stop()
    finally:
        await connection.close()


def reviewed_tools(tools: Iterable[ImportedTool], reviewed: Iterable[SkillManifest]) -> list[ImportedTool]:
    """The tools that were reviewed, each as its manifest says. Raises InvalidInput (`unknown_tool`) for a manifest
    without its tool, or with other parameters than it takes."""
    by_name = {tool.manifest.name: tool for tool in tools}
    found = []
    for manifest in reviewed:
        tool = by_name.get(manifest.name)
        if tool is None or not properties(manifest).keys() <= tool.arguments.keys():
            raise InvalidInput(
                f"the server has no tool that fits {manifest.name}", code="unknown_tool",
                hint="import it again, with the same --prefix and --name",
            )  # fmt: skip
        found.append(ImportedTool(manifest, tool.tool, tool.arguments))
    if len({tool.manifest.owner for tool in found}) != 1:
        raise InvalidInput("the manifests are not all of one owner", code="invalid_manifest")
    return found
