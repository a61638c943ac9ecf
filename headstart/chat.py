"""`headstart chat`: talk with the assistant in a terminal, and see each call being written, fired and answered."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Annotated

import typer
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from headstart.client import Client, Turn
from headstart.client_readers import Frame
from headstart.client_refusals import Patience
from headstart.timeline import render_view
from headstart.turn_view import CallView, TurnView, printable
from streams.errors import HeadstartError, InvalidInput
from streams.settings import Settings

HELP = "/timeline  the last turn's timeline    /new  another conversation    /quit  (or Ctrl-D)"
ARGUMENT_COLUMNS = 60
PATIENCE = Patience(limit_ms=15_000)  # a person who sees nothing happen wants to be told why
_STOPPED = 130  # the exit status of a program that Ctrl-C ended, as shells give it


def register(app: typer.Typer) -> None:
    """Add `headstart chat` to the command line."""
    app.command("chat")(chat)


def chat(
    question: Annotated[str | None, typer.Argument(help="Ask this, print the answer and leave.")] = None,
    url: Annotated[str | None, typer.Option(help="The gateway; HEADSTART_URL without it.")] = None,
    key: Annotated[str | None, typer.Option(help="An API key; HEADSTART_KEY without it.")] = None,
    conversation: Annotated[str | None, typer.Option(help="Go on in this conversation.")] = None,
    timeline: Annotated[bool, typer.Option(help="Print each turn's timeline after its answer.")] = False,
) -> None:
    """Talk with the assistant. Ctrl-C stops the running turn, twice leaves."""
    console = Console(highlight=False)
    try:
        settings = Settings.from_env(os.environ)
        client = Client(url or settings.url, settings.key or "" if key is None else key, patience=PATIENCE)
        status = asyncio.run(Chat(client, console, conversation, timeline).run(question))
    except HeadstartError as error:
        print_error(console, error)
        status = 2 if error.fault == "caller" or error.code == "misconfigured" else 1
    except KeyboardInterrupt:
        status = _STOPPED
    raise typer.Exit(status)


class Chat:
    """One session at a terminal. lines: where questions come from, a line without its end each, None at the end."""

    def __init__(
        self,
        client: Client,
        console: Console,
        conversation: str | None = None,
        timeline: bool = False,
        lines: Callable[[], str | None] | None = None,
    ) -> None:
        self.view = TurnView()
        self._client = client
        self._console = console
        self._conversation = conversation
        self._timeline = timeline
        self._lines = lines or _line_of_stdin
        self._turn: Turn | None = None
        self._stopping = False
        self._quit = asyncio.Event()
        self._cancelling: asyncio.Future[None] | None = None

    async def run(self, question: str | None = None) -> int:
        """Until the last question is answered or the person leaves; the exit status."""
        with self._interrupts():
            async with self._client:
                work = asyncio.ensure_future(self.ask(question) if question is not None else self._talk())
                leaving = asyncio.ensure_future(self._quit.wait())
                await asyncio.wait([work, leaving], return_when=asyncio.FIRST_COMPLETED)
                leaving.cancel()
                if work.done():
                    return work.result()
                work.cancel()
                await asyncio.wait([work])
                return _STOPPED

    async def _talk(self) -> int:
        self._console.print(Text(HELP, style="dim"))
        incoming = _Lines(self._lines)
        while True:
            self._console.print(Text("\n› ", style="bold cyan"), end="")
            line = await incoming.next()
            if line is None or line.strip() in ("/quit", "/exit"):
                return 0
            match line.strip():
                case "":
                    continue
                case "/timeline":
                    self._console.print(Text(render_view(self.view)))
                case "/new":
                    self._conversation = None
                    self._console.print(Text("another conversation", style="dim"))
                case command if command.startswith("/"):
                    self._console.print(Text(HELP, style="dim"))
                case text:
                    await self.ask(text)

    async def ask(self, question: str) -> int:
        """One turn, shown as it goes. 0 when it completed, 1 when not."""
        try:
            turn = await self._client.submit(question, conversation=self._conversation)
            self._turn, self._stopping, self.view = turn, False, TurnView()
            with _Progress(self._console) as progress:
                async for frame in turn:
                    self.view.feed(frame)
                    progress.show(self.view, frame)
            self._conversation = turn.conversation or self._conversation
            result = await turn.result()
        except HeadstartError as error:
            print_error(self._console, error)
            return 1
        finally:
            self._turn = None
        if result.status != "completed":
            reason = f": {result.reason}" if result.reason else ""
            self._console.print(Text(f"[{result.status}{reason}]", style="yellow"))
        if self._timeline:
            self._console.print(Text(render_view(self.view)))
        return 0 if result.status == "completed" else 1

    def interrupt(self) -> None:
        """Ctrl-C: the first stops the running turn, the next one, or one without a turn, leaves."""
        if self._turn is None or self._stopping:
            self._quit.set()
            return
        self._stopping = True
        self._console.print(Text("\nstopping; once more to leave", style="yellow"))
        self._cancelling = asyncio.ensure_future(self._turn.cancel())

    @contextlib.contextmanager
    def _interrupts(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        try:
            loop.add_signal_handler(signal.SIGINT, self.interrupt)
        except (NotImplementedError, RuntimeError, ValueError):
            yield  # no signal handlers here (another thread, Windows): Ctrl-C leaves at once
            return
        try:
            yield
        finally:
            loop.remove_signal_handler(signal.SIGINT)


class _Progress:
    """What a running turn looks like: its calls change in place on a terminal and are told line by line elsewhere;
    below them the answer as it streams."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live: Live | None = None
        self._answering = False

    def __enter__(self) -> _Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self._settle()
        if self._answering:
            self._console.print()

    def show(self, view: TurnView, frame: Frame) -> None:
        kind = str(frame.get("type", ""))
        if kind == "response.output_text.delta":
            self._settle()
            self._answering = True
            self._console.print(Text(printable(str(frame["delta"]))), end="", soft_wrap=True)
        elif kind == "headstart.route.decided" and not frame.get("agent"):
            self._console.print(Text("out of scope", style="dim"))
        elif kind.startswith("headstart.tool.") and not self._answering:
            self._calls(view, kind, frame)

    def _calls(self, view: TurnView, kind: str, frame: Frame) -> None:
        if self._console.is_terminal:
            if self._live is None:
                self._live = Live(console=self._console, auto_refresh=False)
                self._live.start()
            self._live.update(_calls_of(view), refresh=True)
        elif kind in ("headstart.tool.opened", "headstart.tool.fired") or view.calls[frame["call"]].ended_ms >= 0:
            self._console.print(_call_line(view, view.calls[frame["call"]]))

    def _settle(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None


def _calls_of(view: TurnView) -> RenderableType:
    return Group(*(_call_line(view, call) for call in view.calls.values()))


def _call_line(view: TurnView, call: CallView) -> Text:
    """One call's life on one line: written, fired, answered, each with its time since the turn began."""
    line = Text("  ", no_wrap=True, overflow="ellipsis")
    mark, style = _MARKS.get(call.outcome, ("⚡", "yellow") if call.fired_ms >= 0 else ("✎", "dim"))
    line.append(f"{mark} {printable(call.skill)}", style=f"bold {style}")
    line.append(f"  written {_since(view, call.opened_ms)}")
    if call.fired_ms >= 0:
        early = f" at token {call.fired_token}, still being written" if call.fired_early else ""
        line.append(f" → fired {_since(view, call.fired_ms)}{early}")
    if call.outcome == "answered":
        line.append(f" → answered {_since(view, call.ended_ms)} ({call.took_ms:,.0f} ms)")
    elif call.outcome:
        line.append(f" → {call.outcome} {_since(view, call.ended_ms)}: {printable(call.detail)}")
    line.append(f"  {printable(call.written or call.fired_arguments, ARGUMENT_COLUMNS)}", style="dim")
    return line


_MARKS = {"answered": ("✓", "green"), "failed": ("✗", "red"), "voided": ("⊘", "magenta")}


def _since(view: TurnView, at_ms: int) -> str:
    return f"{at_ms - view.began_ms:,} ms" if at_ms >= 0 <= view.began_ms else "?"


class _Lines:
    """Lines read in a thread of their own, which a person's silence can not keep the process from leaving."""

    def __init__(self, read: Callable[[], str | None]) -> None:
        self._read = read
        self._asked = threading.Semaphore(0)
        self._queue: asyncio.Queue[str | None] = asyncio.Queue()
        self._loop = asyncio.get_running_loop()
        threading.Thread(target=self._run, name="headstart-chat-input", daemon=True).start()

    async def next(self) -> str | None:
        """The next line, None at the end of the input."""
        self._asked.release()
        return await self._queue.get()

    def _run(self) -> None:
        while True:
            self._asked.acquire()
            line = self._read()
            with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile: nobody waits for the line
                self._loop.call_soon_threadsafe(self._queue.put_nowait, line)
            if line is None:
                return


def _line_of_stdin() -> str | None:
    line = sys.stdin.readline()
    return line.rstrip("\n") if line else None


def print_error(console: Console, error: HeadstartError) -> None:
    """An error for a person: what happened, its code, and the hint how out."""
    console.print(Text(f"{printable(error.message)} [{printable(error.code)}]", style="red"))
    if error.hint:
        console.print(Text(printable(error.hint), style="dim"))
    elif isinstance(error, InvalidInput):
        console.print(Text("`headstart chat --help` tells what can be given", style="dim"))
