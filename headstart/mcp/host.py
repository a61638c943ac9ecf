"""An MCP server's tools as skills: a service of Headstart's whose functions are the server's.

    connection = McpConnection(lambda: client_of("mcp-server-time"))
    await connection.start()
    tools, _ = import_tools(await connection.tools(), choices, connection.name)
    service = mcp_service(connection, tools, Service("time", over="bus", api_key=…))

What a service does for any skill it does for these: arguments are checked, keys enforced, calls answered on the bus or
over HTTP, and a pure skill that nobody waits for is cancelled, which the MCP server is told.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import orjson

from headstart.importing.mcp_tools import ImportedTool
from headstart.mcp.connection import McpConnection
from headstart.service import Caller, Service


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
