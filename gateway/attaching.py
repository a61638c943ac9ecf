"""Which conversations one socket follows, and how each began: by its own turns, or by `session.attach`.

A conversation that is attached whole carries the lanes of the socket's own turns too, so no frame is sent twice.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gateway.feed import Channel
from gateway.frame import Frame, control
from gateway.intake import LAST_FRAME, Prepared
from gateway.outlet import Outlet
from gateway.resume import After, check_cursor
from gateway.services import Services
from gateway.subscription import BEFORE_ALL, Position, Subscription
from memory.rows import Principal
from streams.bus import Gap
from streams.errors import Refused
from streams.offsets import Cursor

SNAPSHOT_TURNS = 200


class Attachments:
    """The subscriptions of one socket."""

    __slots__ = ("_on_again", "_on_end", "_outlet", "_principal", "_services", "_turns", "_whole")

    def __init__(
        self, services: Services, principal: Principal, outlet: Outlet,
        on_end: Callable[[str, str | None, Frame], None], on_again: Callable[[str | None], None],
    ) -> None:  # fmt: skip
        """on_end: as in Subscription. on_again: a turn of this lane was asked for once more."""
        self._services = services
        self._principal = principal
        self._outlet = outlet
        self._on_end = on_end
        self._on_again = on_again
        self._whole: dict[str, Subscription] = {}
        self._turns: list[Subscription] = []

    def __len__(self) -> int:
        return len(self._whole) + len(self._turns)

    def subscriptions(self, conversation: str) -> list[Subscription]:
        """All that follow this conversation, wholly or for a turn."""
        self._turns = [subscription for subscription in self._turns if not subscription.closed]
        found = [other for other in self._turns if other.channel.conversation == conversation]
        whole = self._whole.get(conversation)
        return [whole, *found] if whole else found

    def follow(self, prepared: Prepared, stream_id: str | None) -> Subscription:
        """The subscription that shows a turn of the socket's own; owns the prepared channel. Raises Refused."""
        conversation = prepared.submit.conversation
        self._forget_own(prepared.turn, conversation)
        whole = self._whole.get(conversation)
        if whole is not None and prepared.known is None:
            self._services.feed.release(prepared.channel)  # the one that is attached holds it already
            whole.turns[prepared.turn] = stream_id
            return whole
        self._turns = [subscription for subscription in self._turns if not subscription.closed]
        try:
            self._check_room()
        except Refused:
            self._services.feed.release(prepared.channel)
            raise
        if whole is not None:
            whole.exclude.add(prepared.turn)  # it comes from its beginning once more, and only that way
        subscription = self._subscription(prepared.channel, conversation, whole=False)
        subscription.turns[prepared.turn] = stream_id
        self._turns.append(subscription)
        return subscription

    def _forget_own(self, turn: str, conversation: str) -> None:
        """A turn that the socket asks for once more is shown once: the way, and in the lane, it was asked for last."""
        for subscription in self.subscriptions(conversation):
            if turn in subscription.turns:
                lane = subscription.turns[turn]
                subscription.drop(turn)
                self._on_again(lane)

    async def attach(self, conversation: str, after: After) -> None:
        """Follows a whole conversation from a position; attaching it again begins again there.

        Raises NotFound when it is not the member's, InvalidInput when the cursor is another conversation's.
        """
        services = self._services
        owner = await services.directory.owned(conversation, self._principal)
        known = check_cursor(after, conversation, services.bus.epoch) if isinstance(after, Cursor) else "ok"
        channel = await services.feed.channel(conversation)
        try:
            if conversation not in self._whole:
                self._check_room()
            oldest = await services.feed.oldest(channel.partition)
            origin, position = self._begin(channel, after, oldest)
            lost = known == "other_log" or (isinstance(after, Cursor) and after.turn_offset < oldest)
            snapshot = await self._snapshot(conversation, channel) if lost else None
        except BaseException:
            services.feed.release(channel)
            raise
        if lost:
            origin, position = oldest, BEFORE_ALL
        subscription = self._replace(conversation, channel, keep_sent=after == "live")
        said = after if isinstance(after, str) else after.encode()
        live_at = services.intake.cursor_now(channel)
        self._outlet.answer(
            control("session.attached", {"conversation": conversation, "from": said, "live_at": live_at})
        )
        if snapshot is not None:
            gap = Cursor(oldest, 0, conversation, oldest, services.bus.epoch).encode()
            self._outlet.answer(control("session.gap", {"conversation": conversation, "oldest": gap}))
            self._outlet.answer(snapshot)
        services.metrics.resumes.inc()
        if after == "live" and origin < 0:
            subscription.begin_live()
            self._outlet.answer(control("session.live", {"conversation": conversation}))
        else:
            subscription.begin_at(origin, position)
        assert owner.tenant == self._principal.tenant

    def detach(self, conversation: str) -> None:
        """Stops following the conversation as a whole; nothing happens when it was not."""
        subscription = self._whole.pop(conversation, None)
        if subscription is not None:
            subscription.close()

    def close(self) -> None:
        for subscription in [*self._whole.values(), *self._turns]:
            subscription.close()
            self._services.metrics.behind.inc(subscription.behind)
        self._whole.clear()
        self._turns.clear()

    def _begin(self, channel: Channel, after: After, oldest: int) -> tuple[int, Position]:
        """Where to begin to fold, and the position after which frames are sent. (-1, …): there is nothing to read."""
        if isinstance(after, Cursor):
            return after.turn_offset, (after.offset, after.frame)
        if after == "start":
            return oldest, BEFORE_ALL
        # A device that joins now sees the turn that runs from its beginning, so that its deltas mean something.
        running = channel.fold.oldest_open()
        return (running.origin, (running.begin, -1)) if running else (-1, BEFORE_ALL)

    def _replace(self, conversation: str, channel: Channel, *, keep_sent: bool) -> Subscription:
        subscription = self._subscription(channel, conversation, whole=True)
        for old in self.subscriptions(conversation):
            for turn, lane in old.turns.items():
                subscription.turns[turn] = lane
                if keep_sent:
                    subscription.skip[turn] = old.position
            old.close()
        self._whole[conversation] = subscription
        return subscription

    def _subscription(self, channel: Channel, conversation: str, *, whole: bool) -> Subscription:
        async def on_gap(gap: Gap) -> None:
            snapshot = await self._snapshot(conversation, channel)
            oldest = Cursor(gap.resumed_at, 0, conversation, gap.resumed_at, self._services.bus.epoch).encode()
            self._outlet.answer(control("session.gap", {"conversation": conversation, "oldest": oldest}))
            self._outlet.answer(snapshot)

        def on_live() -> None:
            self._outlet.answer(control("session.live", {"conversation": conversation}))

        return Subscription(
            self._services.feed, channel, self._outlet, whole=whole, on_end=self._on_end, on_gap=on_gap,
            on_live=on_live if whole else None,
        )  # fmt: skip

    async def _snapshot(self, conversation: str, channel: Channel) -> bytes:
        """What the store kept of a conversation whose log is gone: its messages, as far as `position`."""
        history = await self._services.store.history(conversation, SNAPSHOT_TURNS)
        messages = [{"role": message.role, "text": message.text} for message in history.messages]
        position = None
        if history.position >= 0:
            cursor = Cursor(
                history.position, LAST_FRAME, conversation, history.position, self._services.bus.epoch
            )  # fmt: skip
            position = cursor.encode()
        fields: dict[str, Any] = {"conversation": conversation, "messages": messages, "position": position}
        return control("session.snapshot", fields)

    def _check_room(self) -> None:
        if len(self) >= self._services.limits.attached:
            raise Refused(
                f"a socket follows at most {self._services.limits.attached} conversations and turns",
                code="too_many_requests",
            )  # fmt: skip
