"""`headstart publish turn|fact`: a service's own words onto the bus, from a shell."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from typing import Annotated, TypeVar

import orjson
import typer

from headstart.publisher import Publisher
from streams.errors import InvalidInput
from streams.kafka_bus import KafkaBus
from streams.settings import Settings

T = TypeVar("T")
User = Annotated[str, typer.Option(help="the member it is for")]
Tenant = Annotated[str, typer.Option(help="the key's tenant")]
EventId = Annotated[str, typer.Option(help="idempotency key: sent again, it is the same one")]


def register(app: typer.Typer) -> None:
    """Adds `publish` with its two commands to the CLI."""
    commands = typer.Typer(help="Publish as a service: HEADSTART_KAFKA says where, HEADSTART_KEY is the service's key.")
    commands.command("turn")(turn)
    commands.command("fact")(fact)
    app.add_typer(commands, name="publish")


def turn(
    text: Annotated[str, typer.Argument(help="what the member would say")],
    user: User = "me",
    tenant: Tenant = "default",
    conversation: Annotated[str, typer.Option(help="go on in this one; without it a new one is opened")] = "",
    event_id: EventId = "",
) -> None:
    """Submit a turn for a member; prints its conversation, turn and response."""
    submitted = _run(
        tenant, lambda publisher: publisher.turn(user, text, conversation=conversation, event_id=event_id)
    )  # fmt: skip
    typer.echo(f"{submitted.conversation} {submitted.turn} {submitted.response}")


def fact(
    conversation: Annotated[
        str, typer.Argument(help="the conversation it belongs to; - for the one that the member used last")
    ],
    kind: Annotated[str, typer.Argument(help="what happened, such as job.posted")],
    text: Annotated[str, typer.Argument(help="the same in words")],
    user: User = "me",
    tenant: Tenant = "default",
    data: Annotated[str, typer.Option(help="a JSON object with the particulars")] = "{}",
    event_id: EventId = "",
) -> None:
    """Publish a fact into a member's conversation; prints its offset on `turns`."""
    particulars = _object(data)
    offset = _run(
        tenant,
        lambda publisher: publisher.fact(
            user, "" if conversation == "-" else conversation, kind, text, data=particulars, event_id=event_id
        ),
    )
    typer.echo(str(offset))


def _object(text: str) -> dict[str, object]:
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise InvalidInput("--data is not JSON", code="invalid_json") from error
    if not isinstance(value, dict):
        raise InvalidInput("--data is not a JSON object", code="invalid_json")
    return value


def _run(tenant: str, publish: Callable[[Publisher], Awaitable[T]]) -> T:
    """Runs one publication; what is wrong with the settings is found before anything is connected."""
    settings = Settings.from_env(os.environ)
    settings.require("kafka", "key")
    bus = KafkaBus.from_settings(settings)
    publisher = Publisher(bus, tenant, settings.key or "")

    async def whole() -> T:
        await bus.start()
        try:
            return await publish(publisher)
        finally:
            await bus.stop()

    try:
        return asyncio.run(whole())
    except ValueError as error:
        raise InvalidInput(f"not a conversation: {error}", code="invalid_conversation") from error
