"""Who may read whose turns from the log, and the record of it.

The log holds what everybody said. Where keys are kept (HEADSTART_POSTGRES is set, and this is no development profile)
a reader shows one in HEADSTART_KEY: its owner reads what is theirs; a key with the scope `debug` reads everything of
its tenant. Before anything is shown, each read, and each refusal, is a fact on the topic `audit` (`headstart audit`
shows them) and a line in `audit.jsonl` in the data folder: when, which command, which key, whose turns. Where no keys
are kept there is nobody to tell apart, and both say so.

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
from memory.opening import open_bus, open_store
from memory.rows import Principal
from streams.bus import Bus
from streams.errors import NotPermitted
from streams.events.auditing import LogRead
from streams.events.turn import TurnAccepted
from streams.settings import Settings
from streams.topology import AUDIT

DEBUG_SCOPE: Final = "debug"
FILE: Final = "audit.jsonl"
SOURCE: Final = "operator/headstart"


async def authorised(settings: Settings, command: str, selection: Selection) -> Selection:
    """The part of a selection that the reader may see, written down. Raises NotPermitted: `key_missing`,
    `key_unknown`, `other_tenant`, `other_user`; a refusal is written down, too. Raises PeerUnavailable where there is a
    bus and it does not take the record: nothing is read that is not written down."""
    try:
        reader = await _reader(settings)
        allowed = selection if reader is None else narrowed(selection, reader)
    except NotPermitted as error:
        await _written_down(settings, _read(command, selection, None, error.code))
        raise
    await _written_down(settings, _read(command, allowed, reader, ""))
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


def _read(command: str, selection: Selection, reader: Principal | None, refused: str) -> LogRead:
    return LogRead(
        command=command, at_ms=time.time_ns() // 1_000_000, tenant=reader.tenant if reader else "",
        user=reader.user if reader else "", key=reader.key_id if reader else "", of_tenant=selection.tenant,
        of_user=selection.user, conversations=tuple(sorted(selection.conversations)),
        turns=tuple(sorted(selection.turns)), since_ms=selection.since_ms, until_ms=selection.until_ms,
        refused=refused,
    )  # fmt: skip


async def _written_down(settings: Settings, read: LogRead) -> None:
    _to_file(settings, read)
    if settings.kafka is not None:
        async with open_bus(settings, "headstart-audit") as bus:
            await publish(bus, read)


async def publish(bus: Bus, read: LogRead) -> None:
    """Puts it on `audit`; done when the broker has it. Raises PeerUnavailable."""
    key = read.tenant or read.of_tenant
    _ = await bus.publish(AUDIT.name, 0, key, read, f"read/{os.urandom(10).hex()}", SOURCE)


def _to_file(settings: Settings, read: LogRead) -> None:
    """One line at the end of the file, which only its owner can read. One write, so that lines of several processes
    never mix."""
    what = {
        "conversations": read.conversations, "turns": read.turns, "tenant": read.of_tenant, "user": read.of_user,
        "since_ms": read.since_ms, "until_ms": read.until_ms,
    }  # fmt: skip
    line = {
        "at_ms": read.at_ms, "command": read.command, "key": read.key,
        "by": [read.tenant, read.user] if read.key else [], "refused": read.refused,
        "read": {name: value for name, value in what.items() if value not in ("", (), -1)},
    }  # fmt: skip
    folder = Path(settings.data)
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder / FILE, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(descriptor, (json.dumps(line) + "\n").encode())
    finally:
        os.close(descriptor)
