"""`headstart dead list|show|retry`: what could not be processed, and putting it back.

A letter is named by its place on `dead_letters`, `partition:offset`. A retry appends a new command to the topic that
the record came from and rewrites nothing: the letter stays. A submit gets a new turn, since its first one has ended;
the same letter always gives the same new turn, so a retry that is sent twice is one turn. What a service signed goes
back byte for byte, since nobody else can sign it.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from typing import Annotated, TypeVar

import msgspec
import typer

from streams import ids
from streams.bus import Bus
from streams.codec import Record, decode, encode
from streams.dead_letters import DeadLetter, original_headers
from streams.errors import HeadstartError, InvalidInput, NotFound, Refused
from streams.events.intake import TurnSubmit
from streams.kafka_bus import KafkaBus
from streams.settings import Settings
from streams.signing import GATEWAY, KEY_HEADER, command_secret, signed_by_gateway
from streams.topology import DEAD_LETTERS, EVENTS

T = TypeVar("T")
Letter = Annotated[str, typer.Argument(help="partition:offset, as `dead list` prints it")]


def register(app: typer.Typer) -> None:
    """Adds `dead` with its commands to the CLI."""
    commands = typer.Typer(help="Records that could not be processed: HEADSTART_KAFKA says where.")
    commands.command("list")(list_letters)
    commands.command("show")(show)
    commands.command("retry")(retry)
    app.add_typer(commands, name="dead")


def list_letters() -> None:
    """Every letter, one a line: place, time, stage, code, where it came from, type, size, reason."""
    for record, letter in _run(letters):
        at = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(letter.at_ms / 1000))
        source = f"{letter.topic}/{letter.partition}@{letter.offset}"
        typer.echo(
            f"{record.partition}:{record.offset}  {at}Z  {letter.stage}  {letter.code}  {source}  "
            f"{record.type or '-'}  {len(record.value)} bytes  {letter.reason.splitlines()[0]}"
        )


def show(
    letter: Letter, value: Annotated[bool, typer.Option(help="print the record's value too; it may be private")] = False
) -> None:
    """One letter whole: where it came from, why it is here, its headers and its trace."""
    record, why = _run(lambda bus: find(bus, letter))
    for name, said in msgspec.structs.asdict(why).items():
        if name != "trace":
            typer.echo(f"{name}: {said}")
    typer.echo(f"key: {(record.key or b'').decode(errors='replace')}")
    for name, data in original_headers(record):
        typer.echo(f"header {name}: {data.decode(errors='replace')}")
    if why.trace:
        typer.echo(why.trace.rstrip())
    if value:
        typer.echo(record.value.decode(errors="backslashreplace"))


def retry(letter: Letter) -> None:
    """Append the record to its topic again; prints where it stands now."""
    signing_key = Settings.from_env(os.environ).signing_key
    topic, partition, offset = _run(lambda bus: put_back(bus, letter, signing_key))
    typer.echo(f"{topic}/{partition}@{offset}")


async def letters(bus: Bus) -> list[tuple[Record, DeadLetter]]:
    """Everything on `dead_letters` that says why it is there, oldest first within each partition."""
    count = await bus.partitions_of(DEAD_LETTERS.name)
    reader = await bus.reader(DEAD_LETTERS.name, dict.fromkeys(range(count), "earliest"))
    found: list[tuple[Record, DeadLetter]] = []
    try:
        ends = {partition: await reader.end_offset(partition) for partition in range(count)}
        while any(reader.position(partition) < end for partition, end in ends.items()):
            for record in await reader.batch():
                try:
                    found.append((record, DeadLetter.of(record)))
                except InvalidInput:
                    continue  # not written by one of our workers: nothing can be said about it
    finally:
        await reader.close()
    return sorted(found, key=lambda pair: (pair[0].partition, pair[0].offset))


async def find(bus: Bus, place: str) -> tuple[Record, DeadLetter]:
    """The letter at `partition:offset`. Raises InvalidInput for another form, NotFound when it is not there."""
    head, _, tail = place.partition(":")
    if not (head.isdecimal() and tail.isdecimal()):
        raise InvalidInput("a letter is named partition:offset, such as 0:17", code="invalid_letter")
    partition, offset = int(head), int(tail)
    if partition < await bus.partitions_of(DEAD_LETTERS.name):
        reader = await bus.reader(DEAD_LETTERS.name, {partition: offset})
        try:
            if await reader.start_offset(partition) <= offset < await reader.end_offset(partition):
                records: list[Record] = []
                while not records:
                    records = await reader.batch(max_records=1)
                return records[0], DeadLetter.of(records[0])
        finally:
            await reader.close()
    raise NotFound(f"there is no letter {place}", hint="`headstart dead list` prints those there are")


async def put_back(bus: Bus, place: str, signing_key: str | None = None) -> tuple[str, int, int]:
    """Append a letter's record to the topic it came from; gives topic, partition, offset. signing_key: signs a
    gateway's submit, which becomes a turn of its own, anew. Raises Refused for facts: what stands in the log stands
    there, whoever could not read it."""
    record, why = await find(bus, place)
    if why.topic == EVENTS.name:
        raise Refused(
            "a fact is in the log already and is not appended again",
            hint="a reader that could not read it reads it again from its own position",
        )
    headers, value = original_headers(record), record.value
    submit = _submit(msgspec.structs.replace(record, topic=why.topic, headers=headers))
    if submit is not None and record.header(KEY_HEADER) in (None, GATEWAY):
        turn = ids.successor_turn_id(submit.turn, f"dead letter {place}")
        kept = [(name, data) for name, data in headers if not name.startswith("ce_")]
        again = msgspec.structs.replace(submit, turn=turn)
        if signing_key:
            key = (record.key or b"").decode()
            kept += signed_by_gateway(again, turn, why.topic, key, command_secret(signing_key))
        headers, value = encode(again, turn, record.source or "headstart dead", kept)
    headers.append(("dead_retry", place.encode()))
    future = await bus.post_raw(why.topic, why.partition, record.key, value, headers)
    return why.topic, why.partition, await future


def _submit(record: Record) -> TurnSubmit | None:
    try:
        event = decode(record)
    except HeadstartError:
        return None  # it goes back as it is
    return event if isinstance(event, TurnSubmit) else None


def _run(use: Callable[[Bus], Awaitable[T]]) -> T:
    async def connected() -> T:
        bus = KafkaBus.from_settings(Settings.from_env(os.environ), client="headstart-dead")
        await bus.start()
        try:
            return await use(bus)
        finally:
            await bus.stop()

    return asyncio.run(connected())
