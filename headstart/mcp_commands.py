"""`headstart mcp`: the assistant's skills as an MCP server, for whatever speaks the Model Context Protocol."""

from __future__ import annotations

import functools
import sys
from typing import Annotated

import typer

from headstart.mcp.serving import ServerOptions, mcp_server_stage
from streams.process import run_process


def register(app: typer.Typer) -> None:
    """Adds `headstart mcp`."""
    app.command("mcp")(mcp)


def mcp(
    http: Annotated[bool, typer.Option("--http", help="streamable HTTP at /mcp; each request brings a key")] = False,
    host: Annotated[str, typer.Option(help="with --http: the address to listen on")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="with --http: the port; 0: any free one")] = 8765,
    every_effect: Annotated[
        bool, typer.Option("--every-effect", help="offer skills that change something too, less those with approval")
    ] = False,
) -> None:  # fmt: skip
    """Offer the skills in force as an MCP server. Over standard streams HEADSTART_KEY says whose; pure ones only,
    unless --every-effect."""
    sys.exit(run_process(functools.partial(mcp_server_stage, ServerOptions(http, host, port, every_effect))))
