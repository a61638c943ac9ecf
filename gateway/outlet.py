"""Between what is made for a client and the socket it goes out on: the window, and who waits for room in it.

`WebSocketOutlet` starts a writer when there is something to write and lets it end when there is not, so an idle
connection costs no task of its own. `SseOutlet` is read by the response that streams it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from gateway.window import SendWindow

CONTROL_FACTOR: Final = 2  # answers to a client's own frames may exceed its window by as much again, then it goes
ENDS_KEPT: Final = 64  # turns that ended and whose last frame was not acknowledged: most clients never acknowledge


class Outlet:
    """Frames on their way to one client. `close` wakes whoever waits."""

    __slots__ = ("_room", "closed", "frames", "window")

    def __init__(self, limit_bytes: int) -> None:
        self.window = SendWindow(limit_bytes)
        self.closed = False
        self.frames = 0
        self._room: asyncio.Event | None = None

    def offer(self, body: bytes, conversation: str, position: tuple[int, int]) -> bool:
        """Queues a frame of the log; False when there is no room, and nothing happened."""
        if self.closed or not self.window.room(len(body)):
            return False
        self.window.push(body, conversation, position)
        self._written()
        return True

    def answer(self, body: bytes) -> bool:
        """Queues a frame that answers the client itself, beyond the window if need be; False when it is so far
        behind that it has to go."""
        if self.closed:
            return True
        self.window.push(body)
        self._written()
        return self.window.waiting_bytes <= CONTROL_FACTOR * self.window.limit_bytes

    async def room(self) -> None:
        """Waits until half of the window is free, or the outlet is closed."""
        while not self.closed and not self.window.room(self.window.limit_bytes // 2):
            if self._room is None:
                self._room = asyncio.Event()
            self._room.clear()
            await self._room.wait()

    def turn_ended(self, conversation: str, turn: str, position: tuple[int, int]) -> None:
        """The turn's last frame was queued, at this position."""

    def acknowledge(self, conversation: str, position: tuple[int, int]) -> str:
        """The client has everything of the conversation up to here. Gives the turn whose last frame it has with that,
        once; "" for none."""
        self.window.acknowledge(conversation, position)
        self._freed()
        return ""

    def close(self) -> None:
        self.closed = True
        self.window.clear()
        self._freed()

    def _freed(self) -> None:
        if self._room is not None:
            self._room.set()

    def _written(self) -> None:
        """Something was queued."""


class WebSocketOutlet(Outlet):
    """send: writes one text frame, waiting while the socket is full; OSError when it is gone."""

    __slots__ = ("_ends", "_send", "_writer")

    def __init__(self, limit_bytes: int, send: Callable[[bytes], Awaitable[None]]) -> None:
        super().__init__(limit_bytes)
        self._send = send
        self._writer: asyncio.Task[None] | None = None
        self._ends: dict[str, tuple[str, tuple[int, int]]] | None = None  # by conversation: its newest turn that ended

    def _written(self) -> None:
        if self._writer is None:
            self._writer = asyncio.create_task(self._write())

    def turn_ended(self, conversation: str, turn: str, position: tuple[int, int]) -> None:
        if self._ends is None:
            self._ends = {}
        self._ends[conversation] = (turn, position)
        if len(self._ends) > ENDS_KEPT:
            del self._ends[next(iter(self._ends))]

    def acknowledge(self, conversation: str, position: tuple[int, int]) -> str:
        super().acknowledge(conversation, position)
        turn, end = self._ends.get(conversation, ("", position)) if self._ends else ("", position)
        if not turn or position < end:
            return ""
        assert self._ends is not None
        del self._ends[conversation]
        return turn

    async def _write(self) -> None:
        try:
            while (body := self.window.pop()) is not None:
                await self._send(body)
                self.frames += 1
                self._freed()
        except OSError:
            self.close()
        finally:
            self._writer = None

    async def flushed(self) -> None:
        """Waits until everything queued has been written."""
        while self._writer is not None:
            await asyncio.wait([self._writer])


class SseOutlet(Outlet):
    """Read by one task through `next`."""

    __slots__ = ("_finished", "_some")

    def __init__(self, limit_bytes: int) -> None:
        super().__init__(limit_bytes)
        self._some = asyncio.Event()
        self._finished = False

    def _written(self) -> None:
        self._some.set()

    def finish(self) -> None:
        """Nothing more comes; what waits is still given."""
        self._finished = True
        self._some.set()

    async def next(self) -> bytes | None:
        """The next frame, None when the stream is over."""
        while True:
            body = self.window.pop()
            if body is not None:
                self.frames += 1
                self._freed()
                return body
            if self._finished or self.closed:
                return None
            self._some.clear()
            await self._some.wait()

    def close(self) -> None:
        super().close()
        self._some.set()
