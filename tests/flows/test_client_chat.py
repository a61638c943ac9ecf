"""`headstart chat` against a scripted gateway: headless, in conversation, and with Ctrl-C."""

from __future__ import annotations

import asyncio
import io
import sys

import pytest
import typer
from rich.console import Console
from typer.testing import CliRunner

from headstart.chat import Chat, register
from headstart.client import Client
from streams.events.intake import TurnCancel, TurnSubmit
from tests.support.live_gateway import live_gateways, url_of
from tests.support.sample_turn import facts, frames_of
from tests.support.scripted_gateway import ScriptedGateway, World
from tests.support.terminal import CTRL_C, terminal
from tests.support.turn_script import Line, answer, completed, skill_call


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


def test_the_command_says_what_is_wrong_with_an_address() -> None:
    app = typer.Typer()
    register(app)
    result = CliRunner().invoke(app, ["hello", "--url", "ftp://nowhere"])
    assert result.exit_code == 2
    assert "invalid_url" in result.output


@pytest.mark.asyncio
async def test_the_real_command_on_a_terminal_with_ctrl_c() -> None:
    def script(submit: TurnSubmit) -> list[Line]:
        return [*skill_call(), *answer(["It ", "is ", "4 °C"], hold_after=2), completed()]

    async with live_gateways(script) as world:
        gateway = await world.open()
        environment = {"HEADSTART_URL": url_of(gateway), "HEADSTART_KEY": world.key, "PYTHONPATH": "."}
        command = [sys.executable, "-c", "from headstart.cli import main; main()", "chat"]
        async with terminal(command, environment) as screen:
            await screen.shows("› ")
            screen.type("How warm is it?\n")
            await screen.shows("It is ")
            screen.type(CTRL_C)
            await screen.shows("[cancelled: client]")
            screen.type("/timeline\n")
            await screen.shows("fired     weather at token 5, still being written")
            world.turns.release("answer")
            screen.type("And now?\n")
            await screen.shows("It is 4 °C")
            screen.type("/quit\n")
            assert await screen.ended() == 0
        async with terminal([*command, "How warm?"], environment) as screen:
            assert await screen.ended() == 0
            assert "It is 4 °C" in screen.text
        assert len([command for command in world.turns.commands if isinstance(command, TurnCancel)]) >= 1


@pytest.mark.asyncio
async def test_a_second_ctrl_c_leaves_while_the_turn_goes_on() -> None:
    def script(submit: TurnSubmit) -> list[Line]:
        return [*answer(["It ", "is ", "4 °C"], hold_after=2), completed()]

    async with live_gateways(script) as world:
        gateway = await world.open()
        command = [sys.executable, "-c", "from headstart.cli import main; main()", "chat", "How warm?"]
        environment = {"HEADSTART_URL": url_of(gateway), "HEADSTART_KEY": world.key, "PYTHONPATH": "."}
        async with terminal(command, environment) as screen:
            await screen.shows("It is ")
            world.turns.silent = True  # no worker hears the cancel
            screen.type(CTRL_C)
            await screen.shows("once more to leave")
            screen.type(CTRL_C)
            assert await screen.ended() == 130
