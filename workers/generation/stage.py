"""The facts of one generation: deltas, spaced and in order, heartbeats while it is silent, one last word."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from streams.coalesce import SPACING_MS, Coalescer
from streams.errors import PeerError
from streams.events.base import Usage
from streams.events.generating import DELTA, FINISHED, STARTED
from streams.events.turn import TurnHeartbeat
from streams.writer import StageWriter
from workers.response.pipeline import Piece

HEARTBEAT_MS = 1_000  # half of the lease after which a silent stage is given to another worker


class Clock:
    """wall_ms goes into facts, monotonic_ms measures. Tests give their own."""

    def __init__(self, wall_ms: Callable[[], float], monotonic_ms: Callable[[], float]) -> None:
        self.wall_ms = wall_ms
        self.monotonic_ms = monotonic_ms

    def at_ms(self) -> int:
        return int(self.wall_ms())


class Stage:
    """Writes one generation's stage. Plan deltas never wait; others obey the spacing rule (coalesce.py). A step that
    nobody watches has no deltas: its text is kept for its last fact."""

    def __init__(self, writer: StageWriter, step: str, clock: Clock, spacing_ms: float = SPACING_MS) -> None:
        self._writer = writer
        self.step = step
        self.finished = False
        self._clock = clock
        self._coalescer = Coalescer(0.0 if step == "plan" else spacing_ms)
        self._masked = False  # a piece of the delta being joined has lost its ids
        self._timer: asyncio.TimerHandle | None = None
        self._flushing: set[asyncio.Task[None]] = set()
        self._wrote_at_ms = clock.monotonic_ms()
        self._started_at_ms = self._wrote_at_ms
        self._first_ms = 0.0
        self._last_ms = 0.0
        self._unsaid: list[str] | None = None if step in DELTA else []

    @property
    def open(self) -> bool:
        """`*.started` was written."""
        return self._writer.seq > 0

    @property
    def broken(self) -> bool:
        """A fact could not be written, so no later one can count."""
        return self._writer.broken

    async def start(
        self, model: str, engine: str, *, can_continue: bool, prompt_ids: list[int] | None, prompt_tokens: int
    ) -> asyncio.Future[int]:
        """Open the stage; the future is done when `*.started` is kept."""
        event = STARTED[self.step](
            model=model,
            engine=engine,
            at_ms=self._clock.at_ms(),
            prompt_ids=None if prompt_ids is None else tuple(prompt_ids),
            prompt_tokens=prompt_tokens,
            can_continue=can_continue,
        )
        self._started_at_ms = self._wrote_at_ms = self._clock.monotonic_ms()
        return await self._writer.post(event)

    async def say(self, piece: Piece) -> None:
        """A piece that passed the checks. Raises PeerUnavailable once the stage cannot be written any more."""
        now = self._clock.monotonic_ms()
        self._last_ms = now - self._started_at_ms
        self._first_ms = self._first_ms or self._last_ms
        if not piece.text and not piece.ids:
            return
        if self._unsaid is not None:
            self._unsaid.append(piece.text)
            return
        self._masked = self._masked or not piece.ids
        self._coalescer.add(piece.text, piece.ids, piece.index)
        due = self._coalescer.due_at_ms()
        assert due is not None
        if due <= now:
            await self.flush()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later((due - now) / 1000, self._flush_later)

    async def flush(self) -> None:
        """What waits leaves now."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._coalescer.empty:
            return
        self._wrote_at_ms = self._clock.monotonic_ms()
        text, token_ids, index = self._coalescer.take(self._wrote_at_ms)
        if self._masked:
            token_ids, self._masked = (), False
        _ = await self._writer.post(DELTA[self.step](text=text, index=index, ids=token_ids))

    async def beat(self) -> bool:
        """Write a heartbeat if the stage was silent for a second; True when one was written."""
        now = self._clock.monotonic_ms()
        if self.finished or self._writer.seq == 0 or now - self._wrote_at_ms < HEARTBEAT_MS:
            return False
        self._wrote_at_ms = now
        _ = await self._writer.post(TurnHeartbeat(at_ms=self._clock.at_ms()))
        return True

    async def finish(
        self, reason: str, usage: Usage, filtered: tuple[str, ...] = (), error_code: str = "",
        error_message: str = "", retriable: bool = False,
    ) -> None:  # fmt: skip
        """The last word, after everything that waits. Returns once it is kept."""
        await self.flush()
        self.finished = True
        text = {} if self._unsaid is None else {"text": "".join(self._unsaid)}
        event = FINISHED[self.step](
            **text,
            reason=reason,
            usage=usage,
            at_ms=self._clock.at_ms(),
            first_token_ms=round(self._first_ms, 3),
            last_token_ms=round(self._last_ms, 3),
            filtered=filtered,
            error_code=error_code,
            error_message=error_message,
            retriable=retriable,
        )
        await self._writer.write(event)

    def abandon(self) -> None:
        """Nothing more is written; what waits is dropped."""
        self.finished = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _flush_later(self) -> None:
        self._timer = None
        task = asyncio.get_running_loop().create_task(self._flush_quietly())
        self._flushing.add(task)
        task.add_done_callback(self._flushing.discard)

    async def _flush_quietly(self) -> None:
        try:
            await self.flush()
        except PeerError:
            return  # the writer is broken now, and the next call on this stage says so
