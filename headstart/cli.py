"""The command line: each command lives in the module that does its work, and is only collected here."""

from __future__ import annotations

import sys

import typer

from headstart import (
    agents,
    archive_commands,
    audit_commands,
    chat,
    dead,
    demo_journey,
    diff_commands,
    find_commands,
    keys,
    log_reading,
    mcp_commands,
    migrate,
    new_commands,
    publish,
    remembered,
    replay_commands,
    shadow_commands,
    skill_commands,
    suite_commands,
    up,
)
from streams.errors import HeadstartError

app = typer.Typer(
    name="headstart", no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False,
    help="A streaming assistant on a message bus: a tool call is on the wire before the model has finished asking.",
)  # fmt: skip
for module in (
    up, demo_journey, chat, publish, log_reading, find_commands, replay_commands, diff_commands, suite_commands,
    shadow_commands, archive_commands, audit_commands, keys, agents, remembered, dead, migrate, mcp_commands,
    new_commands,
):  # fmt: skip
    module.register(app)
skill_commands.register_commands(app)


def main() -> None:
    """Runs a command. An error that has a name is one line on stderr, and the exit status says whose fault it was:
    2 the caller's, 1 anybody else's."""
    try:
        app()
    except HeadstartError as error:
        sys.stderr.write(f"headstart: {error}\n")
        sys.exit(2 if error.fault == "caller" or error.code == "misconfigured" else 1)
