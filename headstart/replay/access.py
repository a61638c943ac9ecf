"""Who may read whose turns from the log, and the record of it.

The log holds what everybody said. Where keys are kept (HEADSTART_POSTGRES is set, and this is no development profile)
a reader shows one in HEADSTART_KEY: its owner reads what is theirs; a key with the scope `debug` reads everything of
its tenant. Each read is a line in `audit.jsonl` in the data folder: when, which command, which key, whose turns. Where
no keys are kept there is nobody to tell apart, and the line says so.

A recording's file is in the hands of whoever has it; `headstart record` is what is checked.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Final

import msgspec

from headstart.replay.recorder import Selection
from memory.opening import open_store
from memory.rows import Principal
from streams.errors import NotPermitted
from streams.events.turn import TurnAccepted
from streams.settings import Settings

DEBUG_SCOPE: Final = "debug"
FILE: Final = "audit.jsonl"


async def authorised(settings: Settings, command: str, selection: Selection) -> Selection:
    """The part of a selection that the reader may see, written down. Raises NotPermitted: `key_missing`,
    `key_unknown`, `other_tenant`, `other_user`; a refusal is written down, too."""
    try:
        reader = await _reader(settings)
        allowed = selection if reader is None else narrowed(selection, reader)
    except NotPermitted as error:
        audit(settings, command, selection, None, error.code)
        raise
    audit(settings, command, allowed, reader, "")
    return allowed


def narrowed(selection: Selection, reader: Principal) -> Selection:
    """What this reader may see of it. Raises NotPermitted when that is nothing."""
    if selection.tenant and selection.tenant != reader.tenant:
        raise NotPermitted("the key belongs to another tenant", code="other_tenant")
    if DEBUG_SCOPE in reader.scopes:
        return msgspec.structs.replace(selection, tenant=reader.tenant)
    if selection.user and selection.user != reader.user:
        raise NotPermitted(
            "the key reads its owner's conversations only", code="other_user",
            hint="`headstart keys create --debug` makes one that reads its tenant's",
        )  # fmt: skip
    return msgspec.structs.replace(selection, tenant=reader.tenant, user=reader.user)


def sees(selection: Selection, accepted: TurnAccepted) -> bool:
    """Whether a turn is among what was allowed."""
    return (not selection.tenant or accepted.tenant == selection.tenant) and (
        not selection.user or accepted.user == selection.user
    )


async def _reader(settings: Settings) -> Principal | None:
    """Who reads; None where no keys are kept."""
    if settings.postgres is None or settings.dev:
        return None
    if settings.key is None:
        raise NotPermitted(
            "reading the log takes a key", code="key_missing", hint="HEADSTART_KEY, from `headstart keys create`"
        )
    async with open_store(settings) as store:
        reader = await store.verify_key(settings.key)
    if reader is None:
        raise NotPermitted("the key is unknown or revoked", code="key_unknown")
    return reader


def audit(settings: Settings, command: str, selection: Selection, reader: Principal | None, refused: str) -> None:
    """One line at the end of the file, which only its owner can read. One write, so that lines of several processes
    never mix."""
    line = {
        "at_ms": time.time_ns() // 1_000_000, "command": command, "key": reader.key_id if reader else "",
        "by": [reader.tenant, reader.user] if reader else [], "refused": refused,
        "read": {name: value for name, value in msgspec.to_builtins(selection).items() if value not in ("", [], -1)},
    }  # fmt: skip
    folder = Path(settings.data)
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder / FILE, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(descriptor, (json.dumps(line) + "\n").encode())
    finally:
        os.close(descriptor)
