"""The assistant's skills as an MCP server: `tools/list` gives those that a key's tenant may call, `tools/call` calls
one (direct.py). Over standard streams one key holds for the process; over HTTP each request brings its own.

Needs the extra `mcp`, which is imported when a server is made.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final

import orjson
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from headstart.mcp.direct import DirectCalls
from memory.rows import Principal
from streams.errors import HeadstartError, NotPermitted, PeerError
from streams.events.registering import SkillManifest
from workers.skills.execution import Outcome
from workers.skills.failures import in_doubt

if TYPE_CHECKING:
    from mcp.server import Server
    from mcp.server.context import ServerRequestContext
    from mcp.types import CallToolRequestParams, CallToolResult, ListToolsResult, PaginatedRequestParams, Tool

PAGE: Final = 100
PRINCIPAL: Final = "headstart.principal"
Verify = Callable[[str], Awaitable[Principal | None]]
INSTRUCTIONS: Final = (
    "Skills of the services that work with this assistant. Those that change something are marked; those that need a "
    "person's approval are not offered."
)


def skill_server(calls: DirectCalls, version: str, principal: Principal | None = None) -> Server[Any]:
    """principal: whose key it is; None where each HTTP request says so (`Keyed`). calls: started, and closed, by the
    caller."""
    from mcp.server import Server
    from mcp.shared.exceptions import MCPError
    from mcp.types import INVALID_PARAMS, ListToolsResult

    def who(context: ServerRequestContext[Any, Any]) -> Principal:
        if principal is not None:
            return principal
        found = context.request.scope.get(PRINCIPAL) if isinstance(context.request, Request) else None
        if not isinstance(found, Principal):
            raise NotPermitted("the request carries no key", code="key_missing")
        return found

    async def list_tools(
        context: ServerRequestContext[Any, Any], params: PaginatedRequestParams | None
    ) -> ListToolsResult:
        after = params.cursor if params is not None and params.cursor else ""
        offered = [one for one in calls.offered(who(context)) if one.name > after]
        page = offered[:PAGE]
        cursor = page[-1].name if len(offered) > PAGE else None
        return ListToolsResult(tools=[tool_of(one) for one in page], next_cursor=cursor)

    async def call_tool(context: ServerRequestContext[Any, Any], params: CallToolRequestParams) -> CallToolResult:
        caller = who(context)
        try:
            outcome = await calls.call(caller, params.name, params.arguments or {})
        except HeadstartError as error:
            if error.code == "unknown_skill":
                raise MCPError(INVALID_PARAMS, "there is no such tool") from error
            return failed(error, calls.catalog.by_name(params.name, caller.tenant))
        return answered(outcome)

    return Server(
        "headstart", version=version, instructions=INSTRUCTIONS, on_list_tools=list_tools, on_call_tool=call_tool
    )


def tool_of(manifest: SkillManifest) -> Tool:
    """A skill as a tool; what its effect is, is said by annotations."""
    from mcp.types import Tool, ToolAnnotations

    pure = manifest.effect == "pure"
    return Tool(
        name=manifest.name, description=manifest.description, input_schema=manifest.parameters,
        annotations=ToolAnnotations(
            read_only_hint=pure, destructive_hint=manifest.effect == "irreversible",
            idempotent_hint=pure or manifest.idempotent_key,
        ),
    )  # fmt: skip


def answered(outcome: Outcome) -> CallToolResult:
    """The result as text, and as structured content where it is a whole object."""
    from mcp.types import CallToolResult, ContentBlock, TextContent

    structured = None if outcome.cut else orjson.loads(outcome.result)
    content: list[ContentBlock] = [TextContent(type="text", text=outcome.result)]
    if outcome.cut:
        content.append(TextContent(type="text", text=f"(cut: the whole has {outcome.size_bytes} bytes)"))
    return CallToolResult(content=content, structured_content=structured if isinstance(structured, dict) else None)


def failed(error: HeadstartError, manifest: SkillManifest | None) -> CallToolResult:
    """What went wrong, for a model to read; never what a peer's own error said."""
    from mcp.types import CallToolResult, TextContent

    text = f"{error.code}: {error.message}" + (f" ({error.hint})" if error.hint else "")
    if manifest is not None and isinstance(error, PeerError) and in_doubt(manifest, error):
        text += ". Its effect may have happened all the same."
    return CallToolResult(content=[TextContent(type="text", text=text)], is_error=True)


class Keyed:
    """An ASGI application behind API keys: `Authorization: Bearer <key>` on each request, 401 without one in force."""

    def __init__(self, app: ASGIApp, verify: Verify) -> None:
        self._app, self._verify = app, verify

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        scheme, _, key = Request(scope).headers.get("authorization", "").partition(" ")
        principal = await self._verify(key.strip()) if scheme.lower() == "bearer" and key else None
        if principal is None:
            error = {"error": {"code": "key_missing", "message": "an API key in force, as Authorization: Bearer"}}
            await JSONResponse(error, 401, {"www-authenticate": "Bearer"})(scope, receive, send)
            return
        scope[PRINCIPAL] = principal
        await self._app(scope, receive, send)
