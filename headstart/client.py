"""A typed asyncio client of the gateway: submit, stream, cancel, steer, attach.

    async with Client("ws://127.0.0.1:8080", key="hs_…") as client:
        turn = await client.submit("Who in Berlin knows Kafka?")
        async for frame in turn:
            ...
        print(turn.text, (await turn.result()).status)

It connects again by itself, with exponential backoff and full jitter, and goes on in every open turn and attached
conversation from the cursor of the last frame it was given: no frame is missed and none comes twice. Closing the client
cancels nothing: the turns run on, and can be attached to again.

Memory: per open turn or attachment at most `limit_bytes` of undelivered frames (1 MiB) and one frame more; on the
socket 16 frames and 32 KiB to send; a frame larger than 16 MiB closes the connection.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from types import TracebackType
from typing import Any, Final, Literal, Protocol
from urllib.parse import urlsplit, urlunsplit

import orjson
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus

from headstart.client_backoff import Backoff
from headstart.client_errors import error_of_close, error_of_handshake
from headstart.client_ratings import Ratings
from headstart.client_readers import Action, Bound, Deliver, Fail, Frame, Reconnect, Send, Wait
from headstart.client_refusals import Patience
from headstart.client_state import LIMIT_BYTES, ClientState
from headstart.client_streams import Attachment, Result, Stream, Turn
from streams.errors import HeadstartError, InvalidInput, PeerUnavailable, Refused

__all__ = ["Attachment", "Backoff", "Client", "Patience", "Result", "Turn", "socket_url"]

OnBusy = Literal["reject", "interrupt", "enqueue", "steer"]
MAX_FRAME_BYTES: Final = 16 << 20
PING_S: Final = 10.0  # a wire that is cut without a word is noticed within two of these
OUTBOX_FRAMES: Final = 256  # above it a caller waits before it adds one more
_log = logging.getLogger(__name__)


class Socket(Protocol):
    """What the client uses of a WebSocket connection."""

    async def send(self, message: str) -> None: ...
    async def recv(self) -> str | bytes: ...


Dial = Callable[[str, Mapping[str, str]], AbstractAsyncContextManager[Socket]]


def socket_url(url: str) -> str:
    """The address of `/v1/responses` on a gateway named by an http(s) or ws(s) URL, with or without its /v1.

    Raises InvalidInput when it is no such URL.
    """
    parts = urlsplit(url if "://" in url else f"ws://{url}")
    scheme = {"http": "ws", "https": "wss"}.get(parts.scheme, parts.scheme)
    if scheme not in ("ws", "wss") or not parts.hostname:
        raise InvalidInput("a gateway's URL is ws://HOST:PORT or http://HOST:PORT", code="invalid_url")
    path = parts.path.rstrip("/").removesuffix("/responses").removesuffix("/v1")
    return urlunsplit((scheme, parts.netloc, f"{path}/v1/responses", parts.query, ""))


@asynccontextmanager
async def _dial(url: str, headers: Mapping[str, str]) -> AsyncIterator[Socket]:
    async with connect(
        url,
        additional_headers=headers,
        max_size=MAX_FRAME_BYTES,
        compression=None,
        user_agent_header="headstart-client",
    ) as socket:
        yield socket


class _Outbox:
    """Frames on their way to one connection's socket."""

    def __init__(self) -> None:
        self._frames: asyncio.Queue[Frame] = asyncio.Queue()
        self._room = asyncio.Event()
        self._room.set()

    def put(self, frame: Frame) -> None:
        self._frames.put_nowait(frame)
        if self._frames.qsize() >= OUTBOX_FRAMES:
            self._room.clear()

    async def room(self) -> None:
        await self._room.wait()

    async def drain(self, socket: Socket) -> None:
        """Send frames as they come, until cancelled or the socket closes."""
        while True:
            frame = await self._frames.get()
            await socket.send(orjson.dumps(frame).decode())
            if self._frames.qsize() < OUTBOX_FRAMES:
                self._room.set()

    def close(self) -> None:
        self._room.set()


class Client:
    """One connection to a gateway, for any number of turns and conversations, kept up while the context is open.

    url: as `socket_url` takes it. key: an API key, "" where the gateway asks for none. backoff: when to come again;
    once it is exhausted every open stream raises PeerUnavailable. patience: for how long a request is sent again that
    nobody can take at the moment (`no_worker`, `database_unavailable`). draw: uniform randomness in 0..1; sleep: takes
    seconds; clock_ms: monotonic; dial: opens a socket. They are there for callers who own the clock or the wire.
    """

    def __init__(
        self,
        url: str,
        key: str = "",
        *,
        backoff: Backoff | None = None,
        patience: Patience | None = None,
        limit_bytes: int = LIMIT_BYTES,
        draw: Callable[[], float] = random.random,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        clock_ms: Callable[[], float] = lambda: time.monotonic() * 1e3,
        dial: Dial = _dial,
    ) -> None:
        self.url = socket_url(url)
        self.connections = 0
        self.state = ClientState(limit_bytes=limit_bytes)
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._backoff = backoff or Backoff()
        self._patience = patience or Patience()
        self._draw, self._sleep, self._clock_ms, self._dial = draw, sleep, clock_ms, dial
        self._streams: dict[int, Stream] = {}
        self._ratings = Ratings()
        self._pauses: set[asyncio.Task[None]] = set()
        self._outbox: _Outbox | None = None
        self._heard = self._useless = False
        self._ready = asyncio.Event()
        self._fatal: HeadstartError | None = None
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Client:
        """Connected for the first time. Raises the typed error that makes connecting useless, or PeerUnavailable."""
        self._task = asyncio.create_task(self._run(), name="headstart-client")
        try:
            await self._ready.wait()
        except BaseException:
            await self.close()
            raise
        if self._fatal is not None:
            await self.close()
            raise self._fatal
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the socket. Open streams raise Refused (`client_closed`) after what was delivered; turns run on."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])
        for pause in self._pauses:
            pause.cancel()
        if self._pauses:
            await asyncio.wait(self._pauses)
        self._give_up(Refused("the client was closed", code="client_closed"))

    # -- what callers do ------------------------------------------------------------------------------------------

    async def submit(
        self,
        input: str | Sequence[Mapping[str, Any]],
        *,
        conversation: str | None = None,
        on_busy: OnBusy = "enqueue",
        event_id: str | None = None,
        **options: Any,
    ) -> Turn:
        """Ask for a turn. Returns at once; the turn tells what becomes of it. Raises InvalidInput when an argument can
        not be written as JSON, and what ended the client when it has ended.

        input: text, or items as in OpenAI's Responses API. conversation: an id, None to open one. on_busy: what to do
        when a turn of it is running. event_id: the idempotency key, made when None; the same one names the same turn,
        however often it is sent. options: further fields of `response.create` (`model`, `tools`, `metadata`, …).
        """
        event_id = event_id or f"evt_{uuid.uuid4().hex}"
        request: Frame = {"type": "response.create", "event_id": event_id, "input": input, **options}
        # Said explicitly it also means: do not wait in the socket's one lane for turns of other conversations.
        request["on_busy"] = on_busy
        if conversation is not None:
            request["conversation"] = conversation
        try:
            orjson.dumps(request)
        except TypeError as error:
            raise InvalidInput(f"the request is not JSON: {error}") from error
        await self._writable()
        turn = Turn(self, event_id)
        turn.conversation = conversation or ""
        turn.key, actions = self.state.submit(request)
        self._register(turn, actions)
        return turn

    async def attach(self, conversation: str, after: str = "live") -> Attachment:
        """Read a conversation's frames after a cursor, from "start", or "live": from now on. Raises InvalidInput when
        `after` is none of these."""
        await self._writable()
        attachment = Attachment(self, conversation)
        attachment.key, actions = self.state.attach(conversation, after)
        self._register(attachment, actions)
        return attachment

    async def rate(
        self, response_id: str, rating: Literal["good", "bad"], *, comment: str = "", share: bool = False,
        event_id: str | None = None,
    ) -> None:  # fmt: skip
        """Say what the person thinks of an answer; done when the log will have it. The newest word counts: a good
        answer may be shown to a model as an example for like questions, with `share` for others of the tenant too.
        Raises InvalidInput, NotFound (`response_not_found`), and what ended the client. Cancelled, it may have been
        said or not."""
        event_id = event_id or f"evt_{uuid.uuid4().hex}"
        frame: Frame = {
            "type": "headstart.feedback", "event_id": event_id, "response_id": response_id, "rating": rating,
            "comment": comment, "share": share,
        }  # fmt: skip
        await self._writable()
        said = self._ratings.add(frame)
        self._apply([Send(frame)])
        await said

    async def cancel_turn(self, key: int) -> None:
        self._apply(self.state.cancel(key))

    async def steer_turn(self, key: int, text: str, event_id: str | None) -> Turn:
        event_id = event_id or f"evt_{uuid.uuid4().hex}"
        message = {"type": "message", "role": "user", "content": text}
        request: Frame = {"type": "response.steer", "event_id": event_id, "input": [message]}
        await self._writable()
        turn = Turn(self, event_id)
        turn.key, actions = self.state.steer(key, request)
        self._register(turn, actions)
        return turn

    def taken(self, key: int, size_bytes: int) -> None:
        self._apply(self.state.consumed(key, size_bytes))

    def dropped(self, key: int) -> None:
        self._streams.pop(key, None)
        self._apply(self.state.release(key))

    # -- the connection -------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        """Keep a connection up until the client is closed or another attempt is useless. `failures` counts handshakes
        in a row that failed; `attempt` grows until a connection was of use, so that a gateway that accepts and closes
        at once is not asked again in a tight loop."""
        failures = attempt = 0
        while True:
            self._heard = self._useless = False
            before = self.connections
            fatal = await self._connection()
            failures = 0 if self.connections > before else failures + 1
            attempt = 0 if self._heard and not self._useless else attempt
            if fatal is None and self._backoff.exhausted(failures):
                fatal = PeerUnavailable(f"no gateway answered at {self.url}", failures=failures)
            if fatal is not None:
                self._give_up(fatal)
                return
            await self._sleep(self._backoff.delay_ms(attempt, self._draw()) / 1000)
            attempt += 1

    async def _connection(self) -> HeadstartError | None:
        """One connection from its handshake to its end; the error that makes another one useless, or None."""
        try:
            async with self._dial(self.url, self._headers) as socket:
                self.connections += 1
                await self._converse(socket)
        except ConnectionClosed as closed:
            close = closed.rcvd or closed.sent
            return error_of_close(close.code, close.reason) if close is not None else None
        except InvalidStatus as refused:
            return error_of_handshake(refused.response.status_code)
        except (OSError, InvalidHandshake, TimeoutError, EOFError) as error:
            _log.info("no connection to %s: %s", self.url, error)
        return None

    async def _converse(self, socket: Socket) -> None:
        """Read and write until the socket ends; raises what it ends with."""
        outbox = self._outbox = _Outbox()
        writer = asyncio.create_task(outbox.drain(socket), name="headstart-client-writer")
        self._apply([*self.state.connected(), *(Send(frame) for frame in self._ratings)])
        self._ready.set()
        try:
            while not self._useless:
                raw = await socket.recv()
                self._heard = True
                self._take(raw)
        finally:
            self._outbox = None
            outbox.close()
            self.state.disconnected()
            writer.cancel()
            await asyncio.wait([writer])
            if not writer.cancelled():
                writer.exception()  # the socket's own end, which the reader raises too

    def _take(self, raw: str | bytes) -> None:
        try:
            frame = orjson.loads(raw)
        except orjson.JSONDecodeError:
            frame = None
        if not isinstance(frame, dict):
            self.state.malformed += 1
            _log.warning("the gateway sent %d bytes that are no frame", len(raw))
            return
        if self._ratings.received(frame):
            return
        actions = self.state.received(frame, len(raw))
        if frame.get("type") == "error" and not actions:
            _log.warning("the gateway says: %s (%s)", frame.get("message"), frame.get("code"))
        self._apply(actions)

    # -- small parts ----------------------------------------------------------------------------------------------

    async def _writable(self) -> None:
        """Wait while very much is on its way. Raises what ended the client."""
        if self._fatal is not None:
            raise self._fatal
        if self._task is None:
            raise Refused("the client is not open", code="client_closed", hint="use it as `async with Client(…)`")
        if self._outbox is not None:
            await self._outbox.room()

    def _register(self, stream: Stream, actions: Sequence[Action]) -> None:
        self._streams[stream.key] = stream
        self._apply(actions)

    def _apply(self, actions: Sequence[Action]) -> None:
        for action in actions:
            match action:
                case Send(frame):
                    if self._outbox is not None:
                        self._outbox.put(frame)
                case Deliver(key, frame, size_bytes, last):
                    stream = self._streams.pop(key) if last else self._streams[key]
                    stream.put(frame, size_bytes, last)
                case Fail(key, error):
                    self._streams.pop(key).fail(error)
                case Bound(key, response, conversation):
                    turn = self._streams[key]
                    if isinstance(turn, Turn):
                        turn.bind(response, conversation)
                case Reconnect():
                    self._useless = True
                case Wait(key, error, times):
                    self._wait(key, error, times)

    def _wait(self, key: int, error: HeadstartError, times: int) -> None:
        """Send a turn's request again after a while; once that has gone on for too long, the turn ends."""
        turn = self._streams[key]
        assert isinstance(turn, Turn)
        now_ms = self._clock_ms()
        if turn.refused_at_ms is None:
            turn.refused_at_ms = now_ms
        wait_ms = self._patience.wait_ms(times, now_ms - turn.refused_at_ms, self._draw())
        if wait_ms is None:
            self._apply(self.state.give_up(key, error))
            return
        _log.info("%s; the request is sent again in %.0f ms", error, wait_ms)
        pause = asyncio.create_task(self._repeat(key, wait_ms), name="headstart-client-repeat")
        self._pauses.add(pause)
        pause.add_done_callback(self._pauses.discard)

    async def _repeat(self, key: int, wait_ms: float) -> None:
        await self._sleep(wait_ms / 1000)
        self._apply(self.state.repeat(key))

    def _give_up(self, error: HeadstartError) -> None:
        self._fatal = self._fatal or error
        self._ready.set()
        self._ratings.fail(error)
        self._apply(self.state.failed(error))
