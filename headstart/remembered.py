"""`headstart memory why TURN` and `headstart memory log CONVERSATION`: what was recalled and why, what is remembered.

`why` reads the turn's own fact from the log, so it shows what the prompt was really given, whatever memory holds now.
"""

from __future__ import annotations

import asyncio
import os
from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from headstart import habits, members, memory_edits
from headstart.replay.access import authorised, sees
from headstart.replay.recorder import Selection
from memory.opening import open_bus, open_store
from memory.store import Store
from streams import ids
from streams.bus import Bus
from streams.codec import Identity, decode, decode_as
from streams.errors import InvalidInput, NotFound, NotPermitted
from streams.events.recalling import Recalled
from streams.events.turn import TurnAccepted
from streams.settings import Settings
from streams.topology import EVENTS

memory = typer.Typer(no_args_is_help=True, help="What the assistant remembers, and why it recalled it.")


def register(app: typer.Typer) -> None:
    """Adds `headstart memory`."""
    habits.register(memory)
    memory_edits.register(memory)
    members.register(memory)
    app.add_typer(memory, name="memory")


@memory.command()
def why(turn: Annotated[str, typer.Argument(help="a turn's or a response's id")]) -> None:
    """What a turn's prompt was given of the past, with the terms of each score."""
    found = asyncio.run(_why(_turn_of(turn)))
    console = Console()
    console.print(
        f"{len(found.items)} memories in {found.took_ms:.1f} ms (embedding {found.embed_ms:.1f} ms), "
        f"{len(found.history)} messages of the conversation, stored up to offset {found.position}"
    )
    table = Table("score", "said", "layer", "text", "why")
    for item in found.items:
        table.add_row(f"{item.score:.3f}", _day(item.at_ms), item.layer, item.text, item.why)
    console.print(table)


@memory.command(name="log")
def show(
    conversation: Annotated[str, typer.Argument(help="a conversation's id")],
    turns: Annotated[int, typer.Option(help="how many of the newest turns")] = 20,
    revisions: Annotated[bool, typer.Option(help="with what is no longer valid")] = False,
) -> None:
    """A conversation as it was delivered, and what became memories."""
    asyncio.run(_show(conversation, turns, revisions))


async def _why(turn: str) -> Recalled:
    settings = Settings.from_env(os.environ)
    allowed = await authorised(settings, "memory why", Selection(turns=frozenset({turn})))
    async with open_bus(settings, "headstart-memory-why") as bus, open_store(settings) as store:
        store.follow(bus.epoch)
        return await recalled_in(bus, store, turn, allowed)


async def recalled_in(bus: Bus, store: Store, turn: str, allowed: Selection) -> Recalled:
    """The turn's `turn.recalled`, from where the store says that it begins, or from the time in its id. Raises
    NotFound when the log holds none, NotPermitted (`other_user`) unless the turn is among what is allowed."""
    partition = ids.partition_of(turn)
    reader = await bus.reader(EVENTS.name, {})
    try:
        row = await store.turn(turn)
        start = row.offset if row is not None and row.offset >= 0 else None
        await reader.add(partition, "earliest" if start is None else start)
        if start is None and (later := await reader.offset_for_time(partition, ids.time_of(turn))) is not None:
            await reader.add(partition, later)
        end = await reader.end_offset(partition)
        while reader.position(partition) < end:
            for record in await reader.batch():
                if Identity.parse(record.event_id).subject != turn:
                    continue
                if record.type == TurnAccepted.TYPE and not sees(allowed, decode_as(record, TurnAccepted)):
                    raise _others("turn")
                if record.type == Recalled.TYPE:
                    event = decode(record)
                    assert isinstance(event, Recalled)
                    return event
        raise NotFound("the log has no recall of this turn", code="unknown_turn", turn=turn)
    finally:
        await reader.close()


async def _show(conversation: str, turns: int, revisions: bool) -> None:
    if not ids.is_id(ids.CONVERSATION, conversation):
        raise InvalidInput("a conversation's id begins with 'conv_'", code="invalid_id")
    console = Console()
    settings = Settings.from_env(os.environ)
    allowed = await authorised(settings, "memory log", Selection(conversations=frozenset({conversation})))
    async with open_store(settings) as store:
        row = await store.conversation(conversation)
        if row is None:
            raise NotFound("no such conversation is stored", code="unknown_conversation")
        if allowed.tenant not in ("", row.tenant) or allowed.user not in ("", row.user):
            raise _others("conversation")
        said = Table("turn", "role", "text", title=row.title or conversation)
        for message in (await store.history(conversation, turns)).messages:
            said.add_row(message.turn, message.role, message.text)
        kept = Table("memory", "said", "layer", "by", "text", "until", title="memories")
        for memory in await store.memories(row.tenant, row.user, 1_000, conversation):
            until = _day(memory.valid_to_ms) if memory.valid_to_ms is not None else memory.superseded_by
            if revisions or not until:
                kept.add_row(memory.id, _day(memory.at_ms), memory.layer, memory.speaker, memory.text, until)
    console.print(said)
    console.print(kept)


def _others(what: str) -> NotPermitted:
    return NotPermitted(
        f"the {what} is somebody else's", code="other_user", hint="a key made with --debug reads its tenant's"
    )


def _turn_of(text: str) -> str:
    if ids.is_id(ids.RESPONSE, text):
        return ids.turn_of(text)
    if not ids.is_id(ids.TURN, text):
        raise InvalidInput("a turn's id begins with 'turn_', a response's with 'resp_'", code="invalid_id")
    return text


def _day(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M")
