"""`headstart turn ID` and `headstart tail`: the log as a person reads it, straight from the topic.

A turn is found from its id alone: the id names the partition and carries a time, and the index in Postgres, where it
is there, says the very offset. Reading is all this does: no group is joined and nothing is committed.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Annotated, Any

import msgspec
import orjson
import typer
from rich.console import Console

from headstart.replay.access import authorised, sees
from headstart.replay.files import read_recording
from headstart.replay.recorder import Selection, read_to_end
from headstart.replay.sources import duration_ms, selection
from memory.opening import open_bus, open_store
from streams import ids
from streams.bus import Bus
from streams.codec import Record, decode, decode_as, identity
from streams.errors import HeadstartError, InvalidInput, NotFound, NotPermitted
from streams.events import Event
from streams.events.generating import GenerationDelta, ModelAsked
from streams.events.turn import TERMINAL_TYPES, TurnAccepted
from streams.fence import Fence
from streams.kafka_bus import KafkaBus
from streams.settings import Settings
from streams.topology import EVENTS


def register(app: typer.Typer) -> None:
    app.command("turn")(turn)
    app.command("tail")(tail)


def turn(
    turn_or_response: Annotated[str, typer.Argument(help="a turn id (turn_…) or a response id (resp_…)")],
    source: Annotated[Path | None, typer.Option("--from", help="read a recording instead of the log")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="one JSON object a line, whole")] = False,
) -> None:
    """Every fact of a turn, readable, with times, the rendered prompts and the tokens of each step."""
    if turn_or_response.startswith(f"{ids.RESPONSE}_"):
        turn_or_response = ids.turn_of(turn_or_response)
    if not ids.is_id(ids.TURN, turn_or_response):
        raise InvalidInput("that is not a turn's id", hint="it begins with turn_ or resp_ and has 36 hex digits")
    if source is not None:
        _show_turn(read_recording(source).events, turn_or_response, as_json)
    else:
        asyncio.run(_turn(Settings.from_env(os.environ), turn_or_response, as_json))


def tail(
    conversation: Annotated[str, typer.Option(help="only this conversation")] = "",
    tenant: Annotated[str, typer.Option(help="only turns of this tenant that begin in this while")] = "",
    since: Annotated[str, typer.Option(help="how far back, such as 90s, 10m, 2h, 1d")] = "10m",
    namespace: Annotated[str, typer.Option(help="the topics of a replay or a shadow, not production's")] = "",
    follow: Annotated[bool, typer.Option(help="go on as facts come; Ctrl-C ends")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="one JSON object a line, whole")] = False,
) -> None:
    """The facts of the last while, of one conversation or of all, oldest first in each partition."""
    settings, chosen = Settings.from_env(os.environ), selection(conversations=[conversation] if conversation else None)
    chosen = msgspec.structs.replace(chosen, tenant=tenant)
    began = asyncio.run(_tail(settings, namespace, chosen, conversation, duration_ms(since), follow, as_json))
    if began == 0 and not as_json:
        sys.stderr.write(f"nothing in the last {since}\n")


async def _turn(settings: Settings, turn_id: str, as_json: bool) -> None:
    allowed = await authorised(settings, "turn", Selection(turns=frozenset({turn_id})))
    async with open_bus(settings, "headstart-turn") as bus:
        start = await _begin(settings, bus, turn_id)
        records = [record async for record in _read(bus, {ids.partition_of(turn_id): start}, follow=False)]
    for record in records:
        if record.type == TurnAccepted.TYPE and identity(record).subject == turn_id:
            if not sees(allowed, decode_as(record, TurnAccepted)):
                raise NotPermitted(
                    "the turn is somebody else's", code="other_user", hint="a key made with --debug reads it"
                )
            break
    _show_turn(records, turn_id, as_json)


def _show_turn(records: Iterable[Record], turn_id: str, as_json: bool) -> None:
    fence, shown, began = Fence(), 0, -1
    for record in records:
        fact = identity(record)
        if fact.subject != turn_id:
            continue
        counts = fence.judge(fact, record.source, record.type) == "counts"
        began = record.timestamp_ms if began < 0 else began
        shown += 1
        _show(record, record.timestamp_ms - began, as_json, counts)
    if shown == 0:
        raise NotFound(f"{turn_id} is not in the log", hint="it may be older than the log's retention")


async def _begin(settings: Settings, bus: Bus, turn_id: str) -> int:
    """Where to begin to read: the index's offset, else the first record at or after the id's time."""
    if settings.postgres is not None:
        async with open_store(settings) as store:
            store.follow(bus.epoch)
            row = await store.turn(turn_id)
            if row is not None and row.offset >= 0:
                return row.offset
    reader = await bus.reader(EVENTS.name, {})
    try:
        partition = ids.partition_of(turn_id)
        found = await reader.offset_for_time(partition, ids.time_of(turn_id))
        return await reader.start_offset(partition) if found is None else found
    finally:
        await reader.close()


class _Wanted:
    """Which facts a person asked for and may see. A tenant's and a user's turns are known by their beginnings."""

    def __init__(self, conversation: str, allowed: Selection) -> None:
        self.conversation, self._allowed = conversation, allowed
        self._turns: set[str] = set()

    def takes(self, record: Record) -> bool:
        if self.conversation and (record.key or b"").decode() != self.conversation:
            return False
        if not self._allowed.tenant:
            return True
        subject = identity(record).subject
        if record.type == TurnAccepted.TYPE and sees(self._allowed, decode_as(record, TurnAccepted)):
            self._turns.add(subject)
        return subject in self._turns


async def _tail(
    settings: Settings, namespace: str, chosen: Selection, named: str, since_ms: int, follow: bool, as_json: bool
) -> int:  # fmt: skip
    settings.require("kafka")
    wanted = _Wanted(named, await authorised(settings, "tail", chosen))
    bus = KafkaBus.from_settings(settings, namespace=namespace, client="headstart-tail")
    await bus.start()
    try:
        partitions = [ids.partition_of(named)] if named else list(range(bus.partitions))
        reader = await bus.reader(EVENTS.name, {})
        at_ms = int(time.time() * 1000) - since_ms
        try:
            starts = {}
            for partition in partitions:
                found = await reader.offset_for_time(partition, at_ms)
                if found is not None or follow:
                    starts[partition] = await reader.end_offset(partition) if found is None else found
        finally:
            await reader.close()
        shown = 0
        async for record in _read(bus, starts, follow):
            if wanted.takes(record):
                shown += 1
                _show(record, record.timestamp_ms - at_ms, as_json, True)
        return shown
    finally:
        await bus.stop()


async def _read(bus: Bus, starts: dict[int, int], follow: bool) -> AsyncIterator[Record]:
    """Records from these offsets on: up to what the log holds now, or for as long as the caller likes."""
    if not follow:
        async for record in read_to_end(bus, EVENTS.name, starts):
            yield record
        return
    reader = await bus.reader(EVENTS.name, starts)
    try:
        while True:
            for record in await reader.batch():
                yield record
    finally:
        await reader.close()


def _show(record: Record, at_ms: int, as_json: bool, counts: bool) -> None:
    if as_json:
        line: dict[str, Any] = {
            "id": record.event_id, "type": record.type, "source": record.source, "time_ms": record.timestamp_ms,
            "partition": record.partition, "offset": record.offset, "counts": counts,
            "data": orjson.Fragment(record.value),
        }  # fmt: skip
        sys.stdout.write(orjson.dumps(line).decode() + "\n")
        return
    console = Console(highlight=False, soft_wrap=True)
    kind = record.type.removeprefix("headstart.").rpartition(".v")[0]
    mark = " " if counts else "✗"  # ✗: a zombie's or a repeat, which no reader counts
    try:
        lines = list(_words(decode(record)))
    except HeadstartError as error:
        lines = [f"cannot be read here: {error.code}"]
    end = "bold" if record.type in TERMINAL_TYPES else None
    console.print(f"{mark}{at_ms:>9,} ms  {kind:<18} {lines[0]}", markup=False, style=end)
    for more in lines[1:]:
        console.print(" " * 32 + more, markup=False)


def _words(event: Event) -> Iterable[str]:
    """A fact in words: deltas as their text, a model call with its rendered messages, the rest field by field."""
    if isinstance(event, GenerationDelta):
        yield f"{event.text!r}  token {event.index}"
        return
    fields = {name: value for name, value in msgspec.to_builtins(event).items() if name not in ("at_ms", "messages")}
    yield "  ".join(f"{name}={_short(value)}" for name, value in fields.items())
    if isinstance(event, ModelAsked):
        for message in event.messages:
            yield f"@{message.role}"
            yield from message.content.splitlines()


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else orjson.dumps(value).decode()
    return text if len(text) <= 200 else text[:200] + "…"
