"""`headstart chat` against a scripted gateway: headless, in conversation, and with Ctrl-C."""

from __future__ import annotations

import asyncio
import io

import pytest
import typer
from rich.console import Console
from typer.testing import CliRunner

from headstart.chat import Chat, register
from headstart.client import Client
from tests.support.sample_turn import facts, frames_of
from tests.support.scripted_gateway import ScriptedGateway, World


class Talk:
    """A chat whose terminal is a text and whose person's lines are given beforehand."""

    def __init__(self, gateway: ScriptedGateway, lines: list[str], **options: object) -> None:
        self.out = io.StringIO()
        self._lines = iter([*lines, None])
        terminal = bool(options.pop("terminal", False))
        console = Console(file=self.out, force_terminal=terminal, width=200, highlight=False, color_system=None)
        client = Client(gateway.url)
        self.chat = Chat(client, console, lines=lambda: next(self._lines), **options)  # type: ignore[arg-type]

    @property
    def text(self) -> str:
        return self.out.getvalue()


async def opened(gateway: ScriptedGateway, number: int = 1) -> str:
    """Wait for the n-th submit; its event id."""
    while len(gateway.world.submits) < number:
        await gateway.wait_for_change()
    return str(gateway.world.submits[number - 1]["event_id"])


def play(gateway: ScriptedGateway, event_id: str) -> None:
    """The sample turn's frames, as facts of the submitted turn."""
    conversation, response = gateway.world.turns[event_id]
    log = gateway.world.logs[conversation]
    for frame in frames_of(facts())[2:]:
        body = frame.get("response")
        fields = {**frame, **({"response": {**body, "id": response}} if body else {})}
        log.add(response, {name: fields[name] for name in fields if name not in ("response_id", "sequence_number")})
    gateway.changed()


@pytest.mark.asyncio
@pytest.mark.parametrize("terminal", [False, True])
async def test_a_question_on_the_command_line(terminal: bool) -> None:
    async with ScriptedGateway(World()) as gateway:
        talk = Talk(gateway, [], terminal=terminal, timeline=True)
        asking = asyncio.ensure_future(talk.chat.run("Who knows Kafka?"))
        play(gateway, await opened(gateway))
        assert await asking == 0
        assert gateway.world.submits[0]["input"] == "Who knows Kafka?"
    assert "Lin knows Kafka; the weather did not answer." in talk.text
    assert "fired 248 ms at token 11, still being written → answered 548 ms (300 ms)" in talk.text
    assert "weather" in talk.text
    assert "saved 280 ms of at most 290 ms" in talk.text
    assert "\x1b[31m" not in talk.text


@pytest.mark.asyncio
async def test_a_conversation_with_a_timeline() -> None:
    async with ScriptedGateway(World()) as gateway:
        talk = Talk(gateway, ["", "/help", "first", "/timeline", "second", "/new", "third", "/quit"])
        talking = asyncio.ensure_future(talk.chat.run())
        for number in (1, 2, 3):
            play(gateway, await opened(gateway, number))
        assert await talking == 0
        first, second, third = gateway.world.submits
    assert "conversation" not in first
    assert second["conversation"] == gateway.world.turns[first["event_id"]][0]
    assert "conversation" not in third
    assert talk.text.count("route     people") == 1


@pytest.mark.asyncio
async def test_the_first_interrupt_stops_the_turn_and_the_second_leaves() -> None:
    async with ScriptedGateway(World()) as gateway:
        talk = Talk(gateway, ["question"])
        talking = asyncio.ensure_future(talk.chat.run())
        await opened(gateway)
        talk.chat.interrupt()
        assert await talking == 0  # the lines ended after the stopped turn
        assert len(set(gateway.world.cancelled)) == 1
    assert "[cancelled: client]" in talk.text

    world = World()
    async with ScriptedGateway(world) as gateway:
        world.deaf_to_cancel = True
        talk = Talk(gateway, ["question"])
        talking = asyncio.ensure_future(talk.chat.run())
        await opened(gateway)
        talk.chat.interrupt()
        talk.chat.interrupt()
        assert await talking == 130


@pytest.mark.asyncio
async def test_an_error_is_told_and_the_talk_goes_on() -> None:
    async with ScriptedGateway(World(refuse={"bad": "conversation_busy"})) as gateway:
        talk = Talk(gateway, ["bad", "good"])
        talking = asyncio.ensure_future(talk.chat.run())
        play(gateway, await opened(gateway))
        assert await talking == 0
    assert "refused [conversation_busy]" in talk.text


def test_the_command_says_when_nobody_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headstart.client.random.random", lambda: 0.0)
    app = typer.Typer()
    register(app)
    result = CliRunner().invoke(app, ["hello", "--url", "ftp://nowhere"])
    assert result.exit_code == 1
    assert "invalid_url" in result.output
