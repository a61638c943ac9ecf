"""What a client's caller holds: a turn, an attached conversation, and the result of a turn.

A stream has one consumer at a time: iterate it, or await `result`, not both at once. Leaving an iteration, or being
cancelled in it, loses no frame; iterate again and it goes on.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any, Protocol

import msgspec

from headstart.client_errors import error_of_response
from headstart.client_readers import TERMINAL, Frame
from streams.errors import HeadstartError


class Owner(Protocol):
    """What a stream asks of its client."""

    def taken(self, key: int, size_bytes: int) -> None: ...
    def dropped(self, key: int) -> None: ...
    async def cancel_turn(self, key: int) -> None: ...
    async def steer_turn(self, key: int, text: str, event_id: str | None) -> Turn: ...


class Stream:
    """Frames for one consumer, in order, each once. Bounded by the client's state, not by this queue."""

    def __init__(self, owner: Owner) -> None:
        self._owner = owner
        self.key = -1
        self._frames: deque[tuple[Frame, int, bool]] = deque()
        self._error: HeadstartError | None = None
        self._arrived = asyncio.Event()
        self._over = False

    @property
    def waiting_bytes(self) -> int:
        """How much was delivered and not consumed."""
        return sum(size_bytes for _, size_bytes, _ in self._frames)

    def put(self, frame: Frame, size_bytes: int, last: bool) -> None:
        self._frames.append((frame, size_bytes, last))
        self._arrived.set()

    def fail(self, error: HeadstartError) -> None:
        """What was delivered before is still given; then the error is raised."""
        self._error = error
        self._arrived.set()

    def __aiter__(self) -> Stream:
        return self

    async def __anext__(self) -> Frame:
        """The next frame. Raises the typed error the stream ended with; StopAsyncIteration after its last frame."""
        while not self._frames:
            if self._over:
                raise StopAsyncIteration
            if self._error is not None:
                raise self._error
            self._arrived.clear()
            await self._arrived.wait()
        frame, size_bytes, last = self._frames.popleft()
        self._over = self._over or last
        self._owner.taken(self.key, size_bytes)
        return frame


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """How a turn ended. status: completed | incomplete | cancelled | pending (a steer that waits for tool output or an
    approval). reason: why it is incomplete or
    was cancelled, else "". response: the whole response object of the terminal frame."""

    status: str
    text: str
    reason: str
    response_id: str
    conversation: str
    response: dict[str, Any]


class Turn(Stream):
    """One turn. `text` is the answer as far as it was consumed. Dropping a turn, or closing the client, never cancels
    it; only `cancel` does."""

    def __init__(self, owner: Owner, event_id: str) -> None:
        super().__init__(owner)
        self.event_id = event_id
        self.response_id = ""
        self.conversation = ""
        self.text = ""
        self.refused_at_ms: float | None = None  # since when its request has been refused and sent again
        self._known = asyncio.Event()
        self._final: Frame | None = None

    def bind(self, response_id: str, conversation: str) -> None:
        self.response_id, self.conversation = response_id, conversation
        self._known.set()

    def fail(self, error: HeadstartError) -> None:
        super().fail(error)
        self._known.set()

    async def accepted(self) -> str:
        """Wait until the gateway owns the turn; its response id. Raises the typed error it was refused with."""
        await self._known.wait()
        if not self.response_id and self._error is not None:
            raise self._error
        return self.response_id

    async def __anext__(self) -> Frame:
        frame = await super().__anext__()
        kind = frame.get("type")
        if kind == "response.output_text.delta":
            self.text += str(frame.get("delta", ""))
        if self._over:
            self._final = frame
        return frame

    async def result(self) -> Result:
        """Consume what is left and say how the turn ended. Raises the typed error when it failed or was refused; may
        be awaited again afterwards."""
        async for _ in self:
            pass
        final = self._final or {}
        body = final.get("response")
        response: dict[str, Any] = body if isinstance(body, dict) else {}
        if final.get("type") == "response.failed":
            raise error_of_response(response)
        extra = response.get("headstart")
        return Result(
            status=str(response.get("status", "")) if final.get("type") in TERMINAL else "pending",
            text=self.text,
            reason=str(extra.get("reason", "")) if isinstance(extra, dict) else "",
            response_id=self.response_id,
            conversation=self.conversation,
            response=response,
        )

    async def cancel(self) -> None:
        """Ask for the turn's end; its terminal frame still comes. Nothing when it has ended."""
        await self._owner.cancel_turn(self.key)

    async def steer(self, text: str, event_id: str | None = None) -> Turn:
        """Give the running turn more input: it ends incomplete (reason "steered") and the returned turn goes on with
        both inputs. Raises InvalidInput when this turn is no longer running."""
        await self.accepted()
        return await self._owner.steer_turn(self.key, text, event_id)


class Attachment(Stream):
    """A conversation's frames from a chosen place on, without end. `cursor`: of the last frame consumed, "" before
    the first; valid on any gateway, for days."""

    def __init__(self, owner: Owner, conversation: str) -> None:
        super().__init__(owner)
        self.conversation = conversation
        self.cursor = ""

    async def __anext__(self) -> Frame:
        frame = await super().__anext__()
        self.cursor = str(frame.get("cursor", self.cursor))
        return frame

    async def close(self) -> None:
        """No more frames come; iterating ends after those that were delivered."""
        self._owner.dropped(self.key)
        self._over = True
        self._arrived.set()
