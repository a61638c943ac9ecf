"""One MCP server as its client sees it: a child process on its standard streams, or a URL (streamable HTTP).

The connection is kept: when it is lost, a new one is made, and calls wait for it as long as they have time. Needs the
extra `mcp`, which is imported when a connection is opened.
"""

from __future__ import annotations

import asyncio
import logging
import os
import shlex
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from headstart.importing.reading import is_url
from headstart.mcp.results import result_of
from streams.errors import InvalidInput, Misconfigured, PeerTimeout, PeerUnavailable
from streams.settings import PREFIX

if TYPE_CHECKING:
    from mcp import Client

log = logging.getLogger("headstart.mcp")
RETRY_S: Final = 1.0
START_S: Final = 30.0
STREAM_S: Final = 300.0  # a server may hold an answer open that long without a word, as the library has it
PAGES: Final = 100  # of a tool list; a server that never ends its list is not believed
Json = Mapping[str, Any]


class _Live(NamedTuple):
    client: Client
    lost: asyncio.Event


def client_of(source: str, token: str = "") -> Client:
    """A client, not connected. source: a URL, or a command line, which no shell sees; the child gets this process's
    environment less what is Headstart's, its keys among it. token: sent to a URL as `Authorization: Bearer`.

    Raises Misconfigured without the extra, InvalidInput (`invalid_command`) for a command line that cannot be read."""
    try:
        from mcp import Client, StdioServerParameters
    except ImportError:
        raise Misconfigured("MCP is not installed", hint='pip install "headstart[mcp]"') from None
    if is_url(source):
        return Client(_bearing(source, token)) if token else Client(source)
    try:
        command, *arguments = shlex.split(source)
    except ValueError as error:
        raise InvalidInput("not a command line", code="invalid_command", hint=str(error)) from error
    environment = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    return Client(StdioServerParameters(command=command, args=arguments, env=environment))


@asynccontextmanager
async def _bearing(url: str, token: str) -> AsyncIterator[Any]:
    """Streamable HTTP whose every request carries the token; the library follows no redirect to another origin."""
    import httpx2
    from mcp.client.streamable_http import streamable_http_client

    patience = httpx2.Timeout(START_S, read=STREAM_S)
    async with (
        httpx2.AsyncClient(headers={"authorization": f"Bearer {token}"}, timeout=patience) as http,
        streamable_http_client(url, http_client=http) as streams,
    ):
        yield streams


class McpConnection:
    """Belongs to one event loop. connect: makes a client for each try (`client_of`)."""

    def __init__(self, connect: Callable[[], Client], retry_s: float = RETRY_S) -> None:
        self.name = ""
        """What the server calls itself, once it is connected."""
        self._connect, self._retry_s = connect, retry_s
        self._live: _Live | None = None
        self._ready = asyncio.Event()
        self._keeper: asyncio.Task[None] | None = None

    async def start(self, timeout_s: float = START_S) -> None:
        """Connects. Raises PeerUnavailable (`mcp_unreachable`) when that fails, and what `connect` raises."""
        failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._keeper = asyncio.create_task(self._keep(failed), name="mcp connection")
        ready = asyncio.ensure_future(self._ready.wait())
        either: set[asyncio.Future[Any]] = {failed, ready}
        try:
            await asyncio.wait(either, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
            if failed.done():
                failed.result()
            if not ready.done():
                raise PeerUnavailable("the MCP server did not answer in time", code="mcp_unreachable")
        except BaseException:
            await self.close()
            raise
        finally:
            ready.cancel()
            failed.cancel()

    async def close(self) -> None:
        """Ends the connection and the child; calls in work fail. Safe twice."""
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
            self._keeper = None

    async def tools(self) -> list[Json]:
        """Every tool, as `tools/list` gives it. Raises PeerUnavailable."""
        live = await self._connected(START_S)
        found: list[Json] = []
        cursor: str | None = None
        for _ in range(PAGES):
            page = await self._asked(live, live.client.list_tools(cursor=cursor, cache_mode="refresh"))
            found += [tool.model_dump(mode="json", by_alias=True, exclude_none=True) for tool in page.tools]
            cursor = page.next_cursor
            if cursor is None:
                break
        return found

    async def call(self, tool: str, arguments: Json, timeout_s: float) -> Any:
        """A tool's result (results.result_of), its own failures among them.

        Raises InvalidInput (`tool_refused`) when the server would not begin, PeerTimeout, and PeerUnavailable; after
        the last two, and after a cancel, of which the server is told, its effect may have happened.
        """
        live = await self._connected(timeout_s)
        given = await self._asked(live, live.client.call_tool(tool, dict(arguments), read_timeout_seconds=timeout_s))
        content = [block.model_dump(mode="json", by_alias=True, exclude_none=True) for block in given.content]
        return result_of(content, given.structured_content, given.is_error)

    async def _connected(self, timeout_s: float) -> _Live:
        try:
            async with asyncio.timeout(timeout_s):
                await self._ready.wait()
        except TimeoutError:
            raise PeerUnavailable("the MCP server is away", code="mcp_unreachable") from None
        assert self._live is not None
        return self._live

    async def _asked(self, live: _Live, asking: Any) -> Any:
        from mcp import MCPError
        from mcp.types import CONNECTION_CLOSED, INVALID_PARAMS, INVALID_REQUEST, METHOD_NOT_FOUND, REQUEST_TIMEOUT

        try:
            return await asking
        except MCPError as error:
            if error.code in (INVALID_PARAMS, INVALID_REQUEST, METHOD_NOT_FOUND):
                raise InvalidInput("the MCP server refused the call", code="tool_refused") from error
            if error.code == REQUEST_TIMEOUT:
                raise PeerTimeout("the MCP server did not answer in time", code="mcp_timeout") from error
            if error.code == CONNECTION_CLOSED:
                self._lose(live)
            raise PeerUnavailable("the MCP server broke off", code="mcp_failed", rpc_code=error.code) from error
        except (OSError, RuntimeError) as error:
            self._lose(live)
            raise PeerUnavailable("the MCP server broke off", code="mcp_failed") from error

    def _lose(self, live: _Live) -> None:
        """Nobody uses this connection any more, and a new one is made."""
        live.lost.set()
        if self._live is live:
            self._ready.clear()

    async def _keep(self, failed: asyncio.Future[None]) -> None:
        """Connects again and again; the first failure before any success goes to `failed`."""
        while True:
            lost = asyncio.Event()
            try:
                async with self._connect() as client:
                    self.name = client.server_info.name if client.server_info is not None else ""
                    self._live = _Live(client, lost)
                    self._ready.set()
                    await lost.wait()
                    log.warning("an MCP server was lost and is connected again")
            except (InvalidInput, Misconfigured) as error:
                if not failed.done():
                    failed.set_exception(error)
                return
            except Exception as error:
                log.warning("an MCP server could not be reached: %s", _kind(error))
                if not (failed.done() or self._ready.is_set()):
                    message = f"the MCP server could not be reached: {_kind(error)}"
                    failed.set_exception(PeerUnavailable(message, code="mcp_unreachable"))
                    return
            finally:
                self._ready.clear()
                self._live = None
            await asyncio.sleep(self._retry_s)


def _kind(error: BaseException) -> str:
    """What went wrong, by its innermost type's name; what a server says of itself is not repeated."""
    while isinstance(error, BaseExceptionGroup) and error.exceptions:
        error = error.exceptions[0]
    return type(error).__name__
