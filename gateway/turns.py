"""One turn from a client's request to the first of its frames, the same for sockets and for HTTP.

The client is told `headstart.accepted` once `turns` has acknowledged the submit. A submit whose turn does not begin
soon is either a repeat of one that began long ago, which is then found and read from the log, or nobody carries out
turns at the moment, which the client is told as an `error` without a cursor; its turn may still begin later.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

import msgspec

from gateway.frame import control
from gateway.intake import Prepared
from gateway.requests import CreateRequest
from gateway.services import Services
from gateway.subscription import Subscription
from memory.rows import Principal
from streams.errors import HeadstartError, NotFound, PeerUnavailable, Refused

FIRST_LOOK_MS: Final = 1_000  # after the submit: by then every worker has spoken twice
UNOWNED: Final = 4  # times accept_ms that a turn may wait for an owner while workers are heard


class Started(msgspec.Struct, frozen=True):
    """A submitted turn. cursor: go on after it to see the turn whole, whatever becomes of this connection."""

    prepared: Prepared
    cursor: str

    def accepted(self, request: CreateRequest) -> bytes:
        """The `headstart.accepted` frame."""
        fields: dict[str, Any] = {
            "event_id": request.event_id or None,
            "response_id": self.prepared.response,
            "conversation": self.prepared.submit.conversation,
            "cursor": self.cursor,
        }
        return control("headstart.accepted", fields, request.stream_id)


async def start_turn(
    services: Services, principal: Principal, request: CreateRequest, follow: Callable[[Prepared], Subscription]
) -> Started:
    """Prepares, follows and submits a turn.

    follow: makes the subscription that shows the turn, with `turns` set and not begun; it owns the prepared channel.
    Raises what `Intake.prepare` and `submit` raise, and Refused (`draining`, `rate_limited`); nothing is left behind.
    """
    if services.draining:
        raise Refused("this gateway is stopping", code="draining", hint="connect again, another one will answer")
    services.door.count_turn(principal)
    began_ms = services.now_ms()
    prepared = await services.intake.prepare(principal, request)
    subscription = follow(prepared)
    cursor = services.intake.cursor_now(prepared.channel)
    known = prepared.known
    if known is not None:
        subscription.begin_at(known.origin, (known.begin, -1))
        return Started(prepared, cursor)
    if not subscription.begun:
        subscription.begin_live()
    try:
        await services.intake.submit(prepared)
    except BaseException:
        subscription.drop(prepared.turn)
        raise
    services.directory.asked(prepared.turn, prepared.submit.conversation, principal)
    services.metrics.turns.inc()
    services.metrics.first_frame.observe((services.now_ms() - began_ms) / 1000)
    return Started(prepared, cursor)


def watch_turn(
    services: Services, started: Started, request: CreateRequest, subscription: Subscription,
    on_error: Callable[[HeadstartError], None], spawn: Callable[[Any], object],
) -> None:  # fmt: skip
    """Looks after a submit whose turn does not begin: a repeat is read from the log, otherwise the client hears of it.

    spawn: runs a coroutine in the background of the connection.
    """
    # The timers outlive the request: what they hold must be small.
    turn, fold = started.prepared.turn, started.prepared.channel.fold
    loop = asyncio.get_running_loop()
    began_s = loop.time()

    def waits() -> bool:
        return turn in subscription.turns and turn not in subscription.accepted

    async def look() -> None:
        place = await services.directory.seen(turn)
        if place is None or not waits():
            return
        if place.offset < 0:
            subscription.drop(turn)
            on_error(NotFound("the response's log has expired", code="response_expired", param="event_id"))
            return
        span = await services.directory.span(place)
        if waits():
            subscription.begin_again(span.origin, (span.begin, -1))

    def give_up() -> None:
        if not waits():
            return
        patience_ms = services.limits.accept_ms
        silent_ms = services.roster.silent_ms()
        too_long = loop.time() - began_s >= UNOWNED * patience_ms / 1000
        if fold.open_turns():
            # It stands behind another turn of its conversation, which is carried out: ask again later.
            loop.call_later(patience_ms / 1000, give_up)
        elif silent_ms < patience_ms and not too_long:
            # Somebody is at work, or was a moment ago: its partition may be on its way to another owner.
            loop.call_later(max(FIRST_LOOK_MS, patience_ms - silent_ms) / 1000, give_up)
        else:
            on_error(
                PeerUnavailable(
                    "no worker has taken the turn yet", code="no_worker",
                    hint="it begins when one comes back; attach to its conversation to see it",
                )
            )  # fmt: skip

    if request.event_id:
        loop.call_later(services.limits.repeat_after_ms / 1000, lambda: spawn(look()) if waits() else None)
    loop.call_later(min(services.limits.accept_ms, FIRST_LOOK_MS) / 1000, give_up)
