"""One client's view of one conversation: where it is, what it wants, and whether it is live or reads the log.

It reads the log from where it is to the live position, joins the channel, and stays live until its client's window
is full. Then it leaves, waits for room without holding anything but its position, and reads on from the log. The
frames are the same either way, so the client sees neither gap nor repeat.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from gateway.feed import Channel, Feed
from gateway.frame import Frame, on_lane
from gateway.outlet import Outlet
from gateway.resume import ConversationFold, Step
from streams.bus import Gap
from streams.errors import HeadstartError
from streams.events.turn import TurnAccepted, TurnIncomplete

log = logging.getLogger(__name__)
Position = tuple[int, int]
BEFORE_ALL: Position = (-1, -1)
RETRY_S = 0.5  # pause before the log is asked again after an error
Render = Callable[[Step], list[Frame]]


class _Full(Exception):
    """The window has no room for the next frame."""


class Subscription:
    """Frames of one conversation on their way to one outlet.

    whole: every turn of the conversation; otherwise the turns in `turns` only, each with the lane that asked for it.
    on_end: called with a turn and its lane when that turn's terminal frame was queued, the turn being one of `turns`.
    render: makes other frames than the Responses API's from the same steps; a new one for each time the log is read.
    """

    def __init__(
        self, feed: Feed, channel: Channel, outlet: Outlet, *, whole: bool = False,
        on_end: Callable[[str, str | None, Frame], None] | None = None,
        on_gap: Callable[[Gap], Awaitable[None]] | None = None,
        on_live: Callable[[], None] | None = None,
        render: Callable[[], Render] | None = None,
    ) -> None:  # fmt: skip
        self.channel = channel
        self.whole = whole
        self.turns: dict[str, str | None] = {}
        self.accepted: set[str] = set()
        self.behind = 0  # how often it fell out of the live side
        self.exclude: set[str] = set()  # turns that another subscription of the same outlet shows
        self.skip: dict[str, Position] = {}  # frames of these turns up to here were sent by another subscription
        self._feed = feed
        self._outlet = outlet
        self._on_end = on_end
        self._on_gap = on_gap
        self._on_live = on_live
        self._make_render = render
        self._render: Render | None = render() if render else None
        self._position: Position = BEFORE_ALL
        self._origin = 0
        self._task: asyncio.Task[None] | None = None
        self._closed = False
        self.begun = False

    @property
    def live(self) -> bool:
        return self._task is None and not self._closed

    @property
    def closed(self) -> bool:
        return self._closed

    @property
    def position(self) -> Position:
        """The last frame that was queued or passed over."""
        return self._position

    def begin_live(self) -> None:
        """From the next record on."""
        self.begun = True
        self.channel.join(self)

    def begin_at(self, origin: int, after: Position = BEFORE_ALL) -> None:
        """From the log: fold from `origin`, send what stands after `after`, then go live."""
        self.begun = True
        self._origin, self._position = origin, after
        self._task = asyncio.create_task(self._read())

    def begin_again(self, origin: int, after: Position) -> None:
        """From the log after all, for one that is live."""
        self.channel.leave(self)
        if self._task is not None:
            self._task.cancel()
        self.begin_at(origin, after)

    def drop(self, turn: str) -> None:
        """This turn is not waited for any more."""
        self.turns.pop(turn, None)
        self.accepted.discard(turn)
        if not self.whole and not self.turns:
            self.close()

    def close(self) -> None:
        """Ends it and gives its channel back; safe to call twice."""
        if self._closed:
            return
        self._closed = True
        self.channel.leave(self)
        self._feed.release(self.channel)
        if self._task is not None and self._task is not asyncio.current_task():
            self._task.cancel()

    # live

    def deliver(self, step: Step) -> None:
        try:
            self._take(step)
        except _Full:
            self.behind += 1
            self._origin = step.fact.origin
            self.channel.leave(self)
            self._task = asyncio.create_task(self._read())

    def _take(self, step: Step) -> None:
        """Queues the step's frames after the position. Raises _Full at the first that does not fit."""
        self._follow(step)
        for frame in self._render(step) if self._render else step.frames:
            if (frame.offset, frame.index) <= self._position or self._closed:
                continue
            if frame.turn in self.turns or (self.whole and frame.turn not in self.exclude):
                self._queue(frame, step)
            self._position = (frame.offset, frame.index)

    def _queue(self, frame: Frame, step: Step) -> None:
        if self.skip:
            upto = self.skip.get(frame.turn)
            if upto is not None and (frame.offset, frame.index) <= upto:
                return
        lane = self.turns.get(frame.turn)
        body = frame.body if lane is None else on_lane(frame.body, lane)
        if not self._outlet.offer(body, self.channel.conversation, (frame.offset, frame.index)):
            raise _Full
        if frame.ends:
            self._outlet.turn_ended(self.channel.conversation, frame.turn, (frame.offset, frame.index))
        if frame.ends and frame.turn in self.turns:
            self._position = (frame.offset, frame.index)
            self._ended(frame, step)

    def _follow(self, step: Step) -> None:
        """A turn that steers one of ours is ours too."""
        event = step.fact.event
        if isinstance(event, TurnAccepted):
            self.accepted.add(event.turn)
            if event.steered_from in self.turns and event.turn not in self.turns:
                self.turns[event.turn] = self.turns[event.steered_from]

    def _ended(self, frame: Frame, step: Step) -> None:
        lane = self.turns.pop(frame.turn)
        self.accepted.discard(frame.turn)
        event = step.fact.event
        if isinstance(event, TurnIncomplete) and event.successor:
            self.turns[event.successor] = lane  # the lane goes on with the successor
        elif self._on_end is not None:
            self._on_end(frame.turn, lane, frame)
        if not self.whole and not self.turns:
            self.close()

    # from the log

    async def _read(self) -> None:
        while not self._closed:
            await self._outlet.room()
            if self._outlet.closed or self._closed:
                return
            try:
                await self._replay()
                return
            except _Full:
                continue
            except HeadstartError as error:
                log.warning("reading %s back failed, trying again: %s", self.channel.conversation, error)
                await asyncio.sleep(RETRY_S)

    async def _replay(self) -> None:
        """On its own, so that the fold and the text in it do not live while there is no room for more."""
        fold = ConversationFold(self.channel.conversation, self.channel.fold.topic_epoch)
        self._render = self._make_render() if self._make_render else None
        await self._feed.replay(
            self.channel.partition, self.channel.key, fold, self._origin, self._join, self._each, self._gap
        )

    async def _each(self, step: Step) -> None:
        try:
            self._take(step)
        except _Full:
            self._origin = step.fact.origin
            raise
        if self._closed:
            raise _Full  # nothing more is wanted of the log

    def _join(self) -> None:
        self._task = None
        if not self._closed:
            self.channel.join(self)
            if self._on_live is not None:
                on_live, self._on_live = self._on_live, None
                on_live()

    async def _gap(self, gap: Gap) -> None:
        self._origin = gap.resumed_at
        if self._on_gap is not None:
            await self._on_gap(gap)
