"""`headstart skill import | register | withdraw | list | serve-mcp`: skills from contracts that are there already."""

from __future__ import annotations

import asyncio
import functools
import os
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, TypeVar

import msgspec
import orjson
import typer
from rich.console import Console
from rich.table import Table

from headstart.importing.choices import Choices, Imported
from headstart.importing.mcp_tools import import_tools
from headstart.importing.openapi import import_openapi
from headstart.importing.reading import is_url, read_document
from headstart.mcp.connection import McpConnection, client_of
from headstart.mcp.host import HostOptions, mcp_stage
from headstart.service_registration import read_catalog, register, versioned, withdraw
from memory.opening import open_bus
from streams.bus import Bus
from streams.errors import InvalidInput, Misconfigured, NotFound
from streams.events.registering import SkillManifest
from streams.process import run_process
from streams.settings import Settings
from workers.skills.manifest import validate

T = TypeVar("T")
skills = typer.Typer(
    no_args_is_help=True, help="Skills: import, register, withdraw, list; serve an MCP server's tools."
)
Many = list[str] | None
Only = Annotated[Many, typer.Option(help="only these operations or tools, by id, skill, `GET /path` or `*`")]
LeaveOut = Annotated[Many, typer.Option(help="not these")]
Prefix = Annotated[str, typer.Option(help="before each skill's name")]
Names = Annotated[Many, typer.Option("--name", help="OPERATION=SKILL, what a skill is called")]
Effects = Annotated[
    Many, typer.Option("--effect", help="SKILL=pure, =irreversible or =reversible:UNDONE_BY; SKILL may hold `*`")
]
Approvals = Annotated[Many, typer.Option("--approval", help="a person is asked before these skills (`*`: all)")]
Owner = Annotated[str, typer.Option(help="the service that owns the skills; unset: named as the contract is")]
Tenants = Annotated[Many, typer.Option("--tenant", help="only these tenants may use them")]
TimeoutMs = Annotated[int, typer.Option(help="how long a call may take, in milliseconds")]
Returns = Annotated[bool, typer.Option("--returns/--no-returns", help="hold answers to the schemas of the contract")]
Token = Annotated[
    str, typer.Option(help="the environment variable that holds the bearer token of an MCP server behind a URL")
]
Skip = Annotated[bool, typer.Option("--skip", help="leave out what cannot be converted, instead of stopping")]


def register_commands(app: typer.Typer) -> None:
    """Adds `headstart skill`."""
    app.add_typer(skills, name="skill")


@skills.command("import")
def import_skills(
    source: Annotated[str, typer.Argument(help="an OpenAPI 3 document, a file or a URL; with --mcp a server")],
    mcp: Annotated[bool, typer.Option("--mcp", help="SOURCE is an MCP server: a URL or a command line")] = False,
    only: Only = None, leave_out: LeaveOut = None, prefix: Prefix = "", names: Names = None, effects: Effects = None,
    approvals: Approvals = None, owner: Owner = "", tenants: Tenants = None, timeout_ms: TimeoutMs = 10_000,
    returns: Returns = True, skip: Skip = False,
    server: Annotated[str, typer.Option(help="the API's address, instead of the document's")] = "",
    secrets: Annotated[Many, typer.Option("--secret", help="SCHEME=NAME, a secret in HEADSTART_SKILL_SECRETS")] = None,
    context: Annotated[bool, typer.Option("--context", help="tell the API for whom a call is")] = False,
    out: Annotated[Path | None, typer.Option(help="write the manifests there, to be reviewed")] = None,
    put: Annotated[bool, typer.Option("--register", help="put them in force at once")] = False,
    token: Token = "",
) -> None:  # fmt: skip
    """Make skills' manifests from an OpenAPI document or an MCP server's tools; print them, or put them in force."""
    choices = _choices(only, leave_out, prefix, names, effects, approvals, owner, tenants, timeout_ms, returns)
    choices = msgspec.structs.replace(choices, server=server, secrets=_pairs(secrets, "--secret"), context=context)
    if mcp and put:
        raise InvalidInput(
            "an MCP server's skills are registered by the service that serves them", code="invalid_option",
            hint="headstart skill serve-mcp SOURCE, with --manifests FILE where they were reviewed",
        )  # fmt: skip
    if mcp:
        found = asyncio.run(_tools(source, choices, _secret(token)))
    else:
        found = import_openapi(read_document(source), choices, source if is_url(source) else "")
    manifests = taken(found, skip)
    text = text_of(manifests)
    if out is not None:
        out.write_text(text)
        sys.stdout.write(f"{len(manifests)} skills in {out}\n")
    if put:
        _put(manifests)
    elif out is None:
        sys.stdout.write(text)


@skills.command("register")
def register_file(
    file: Annotated[Path, typer.Argument(help="manifests, as `headstart skill import --out` writes them")]
) -> None:  # fmt: skip
    """Put reviewed manifests in force: all of them, or none."""
    _put(read_manifests(file))


@skills.command("withdraw")
def withdraw_skills(
    names: Annotated[list[str], typer.Argument(help="names of skills")],
    owner: Annotated[str, typer.Option(help="whose they are")],
) -> None:
    """Take skills out of force."""
    gone = _on_bus(lambda bus: withdraw(bus, owner, names, _now_ms()))
    sys.stdout.writelines(f"{name} is withdrawn\n" for name in gone)
    if missing := sorted(set(names) - set(gone)):
        raise NotFound(f"not in force for {owner}: {', '.join(missing)}", code="unknown_skill")


@skills.command("list")
def list_skills() -> None:
    """Every skill in force."""
    catalog = _on_bus(read_catalog)
    table = Table("skill", "version", "owner", "effect", "asked", "where")
    for one in catalog.in_force():
        table.add_row(one.name, one.version, one.owner, one.effect, _method(one), one.url or "the bus")
    Console().print(table)


@skills.command("serve-mcp")
def serve_mcp(
    source: Annotated[str, typer.Argument(help="the MCP server: a URL or a command line")],
    manifests: Annotated[Path | None, typer.Option(help="reviewed manifests, of the tools to be served")] = None,
    over: Annotated[str, typer.Option(help="bus: the skills are called over the bus; http: over HTTP")] = "bus",
    host: Annotated[str, typer.Option(help="over HTTP: the address to listen on")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="over HTTP: the port; 0: any free one")] = 0,
    service_tenant: Annotated[str, typer.Option(help="the tenant of HEADSTART_KEY")] = "default",
    only: Only = None, leave_out: LeaveOut = None, prefix: Prefix = "", names: Names = None, effects: Effects = None,
    approvals: Approvals = None, owner: Owner = "", tenants: Tenants = None, timeout_ms: TimeoutMs = 10_000,
    returns: Returns = True, skip: Skip = False, token: Token = "",
) -> None:  # fmt: skip
    """Serve an MCP server's tools as skills until Ctrl-C. HEADSTART_KEY is a service's key, made for the owner."""
    if over not in ("bus", "http"):
        raise InvalidInput("--over is bus or http", code="invalid_option")
    choices = _choices(only, leave_out, prefix, names, effects, approvals, owner, tenants, timeout_ms, returns)
    reviewed = read_manifests(manifests) if manifests is not None else None
    options = HostOptions(
        over="http" if over == "http" else "bus", host=host, port=port, tenant=service_tenant, token=_secret(token),
        reviewed=reviewed, judge=functools.partial(taken, skip=skip),
    )  # fmt: skip
    sys.exit(run_process(functools.partial(mcp_stage, source, choices, options)))


def taken(found: Imported, skip: bool) -> list[SkillManifest]:
    """The manifests, once it was said what they do not hold. Raises InvalidInput (`not_convertible`), naming each
    operation that cannot be a skill, unless `skip`."""
    sys.stderr.writelines(f"note: {note}\n" for note in found.notes)
    if found.left_out and not skip:
        total = len(found.left_out) + len(found.manifests)
        raise InvalidInput(
            f"{len(found.left_out)} of {total} cannot be skills as they are:\n"
            + "\n".join(f"  {one}" for one in found.left_out),
            code="not_convertible", hint="--leave-out each, or --skip them all",
        )  # fmt: skip
    sys.stderr.writelines(f"left out: {one}\n" for one in found.left_out)
    return found.manifests


def text_of(manifests: list[SkillManifest]) -> str:
    """As a person reviews them. The version is left open: it is made from the content when they are put in force."""
    open_ones = [msgspec.structs.replace(one, version="") for one in manifests]
    return orjson.dumps(msgspec.to_builtins(open_ones), option=orjson.OPT_INDENT_2).decode() + "\n"


def read_manifests(file: Path) -> list[SkillManifest]:
    """The manifests of a file, with their versions, each of them valid. Raises NotFound, InvalidInput."""
    try:
        found = msgspec.json.decode(file.read_bytes(), type=list[SkillManifest])
    except OSError as error:
        raise NotFound(f"{file} cannot be read: {error.strerror}", code="unknown_document") from error
    except msgspec.DecodeError as error:
        raise InvalidInput(f"{file} holds no list of manifests: {error}", code="invalid_document") from error
    made = [versioned(one) for one in found]
    for manifest in made:
        validate(manifest)
    return made


def _choices(
    only: Many, leave_out: Many, prefix: str, names: Many, effects: Many, approvals: Many, owner: str, tenants: Many,
    timeout_ms: int, returns: bool,
) -> Choices:  # fmt: skip
    return Choices(
        only=tuple(only or ()), leave_out=tuple(leave_out or ()), prefix=prefix, names=_pairs(names, "--name"),
        effects=_pairs(effects, "--effect"), approvals=tuple(approvals or ()), owner=owner,
        tenants=tuple(tenants or ()), timeout_ms=timeout_ms, returns=returns,
    )  # fmt: skip


def _pairs(given: Many, option: str) -> dict[str, str]:
    pairs = [text.rpartition("=") for text in given or ()]
    if not all(left and right for left, _, right in pairs):
        raise InvalidInput(f"{option} wants LEFT=RIGHT", code="invalid_option")
    return {left: right for left, _, right in pairs}


def _secret(variable: str) -> str:
    """What an environment variable holds, "" for no variable. Raises Misconfigured when it is not set."""
    if variable and not os.environ.get(variable):
        raise Misconfigured(f"{variable} is not set, and --token names it")
    return os.environ[variable] if variable else ""


async def _tools(source: str, choices: Choices, token: str) -> Imported:
    connection = McpConnection(lambda: client_of(source, token))
    await connection.start()
    try:
        return import_tools(await connection.tools(), choices, connection.name)[1]
    finally:
        await connection.close()


def _put(manifests: list[SkillManifest]) -> None:
    """Raises InvalidInput when they are not all of one owner, and what `register` raises."""
    owners = {manifest.owner for manifest in manifests}
    if len(owners) != 1:
        raise InvalidInput("the manifests are not all of one owner", code="invalid_manifest", hint="one file per owner")
    new = _on_bus(lambda bus: register(bus, owners.pop(), manifests, _now_ms()))
    sys.stdout.writelines(f"{skill} is in force\n" for skill in new)
    if len(new) < len(manifests):
        sys.stdout.write(f"{len(manifests) - len(new)} were in force already\n")


def _method(manifest: SkillManifest) -> str:
    return "" if manifest.bus else manifest.http.method if manifest.http is not None else "POST"


def _on_bus(work: Callable[[Bus], Awaitable[T]]) -> T:
    settings = Settings.from_env(os.environ)

    async def run() -> T:
        async with open_bus(settings, "headstart-skill") as bus:
            return await work(bus)

    return asyncio.run(run())


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
