"""From what a client asks to a command on `turns`: which conversation, which ids, whether it opens or forks one.

  * `conversation` given: it must be the member's own.
  * `previous_response_id` given: lineage. The newest turn of its conversation is gone on with there; any other is
    forked: a child conversation on the same partition that sees its ancestors up to that turn.
  * neither: a new conversation on a partition this gateway already reads.
With an `event_id` every id is a hash, so a request sent again to any gateway is the same turn.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec

from gateway.directory import Directory, Owner
from gateway.feed import Channel, Feed
from gateway.requests import CreateRequest
from gateway.resume import Span
from memory.rows import Principal
from memory.store import Store
from streams import ids
from streams.bus import Bus
from streams.events import Event
from streams.events.base import InputItem
from streams.events.editing import MemoryEdit
from streams.events.intake import ConversationEdit, TurnCancel, TurnSteer, TurnSubmit
from streams.events.rating import FeedbackGive
from streams.offsets import Cursor
from streams.signing import command_secret, signed_by_gateway
from streams.topology import TURNS

LAST_FRAME: Final = 0xFFFF  # after every frame that the fact at the offset makes


class Prepared(msgspec.Struct, frozen=True):
    """A turn that is about to be asked for. The channel is held for the caller, who releases it.

    known: where the turn is on the log already, as far as this gateway has seen; None when it has not.
    """

    submit: TurnSubmit
    channel: Channel
    known: Span | None

    @property
    def turn(self) -> str:
        return self.submit.turn

    @property
    def response(self) -> str:
        return ids.response_of(self.submit.turn)


class Intake:
    """Prepares and sends commands. entropy(n) gives n random bytes; source names this gateway on the log."""

    def __init__(
        self, bus: Bus, store: Store, feed: Feed, directory: Directory, now_ms: Callable[[], int],
        entropy: Callable[[int], bytes], source: str, signing_key: str | None = None,
    ) -> None:  # fmt: skip
        """signing_key: of the installation; None sends commands unsigned, as development does."""
        self._secret = command_secret(signing_key) if signing_key else None
        self._bus = bus
        self._store = store
        self._feed = feed
        self._directory = directory
        self._now_ms = now_ms
        self._entropy = entropy
        self._source = source

    async def prepare(self, principal: Principal, request: CreateRequest) -> Prepared:
        """Finds the conversation, checks that it is the member's, and holds its channel.

        Raises NotFound (`unknown_conversation`, `response_not_found`) and PeerUnavailable.
        """
        if request.previous_response:
            return await self._after_response(principal, request)
        if request.conversation:
            owner = await self._directory.owned(request.conversation, principal)
            return await self._in_conversation(principal, request, request.conversation, owner)
        return await self._in_new_conversation(principal, request)

    async def _in_new_conversation(self, principal: Principal, request: CreateRequest) -> Prepared:
        now_ms = self._now_ms()
        mine = ids.conversation_id(self._feed.next_home(), now_ms, self._entropy(10))
        conversation = mine
        if request.event_id:
            conversation = await self._store.claim_submit(
                principal.tenant, principal.user, request.event_id, mine, now_ms
            )
        fresh = conversation == mine
        channel = await self._feed.channel(conversation, fresh=fresh)
        self._directory.opened(conversation, principal)
        submit = self._submit(principal, request, conversation, opens=True)
        return Prepared(submit, channel, None if fresh else channel.fold.span(submit.turn))

    async def _in_conversation(
        self, principal: Principal, request: CreateRequest, conversation: str, owner: Owner
    ) -> Prepared:
        channel = await self._feed.channel(conversation)
        latest = channel.fold.latest_turn or owner.latest_turn
        submit = self._submit(principal, request, conversation, opens=not latest, previous_turn=latest)
        return Prepared(submit, channel, channel.fold.span(submit.turn))

    async def _after_response(self, principal: Principal, request: CreateRequest) -> Prepared:
        turn = ids.turn_of(request.previous_response)
        place = await self._directory.find(turn, principal)
        conversation = place.conversation
        await self._directory.owned(conversation, principal)
        channel = await self._feed.channel(conversation)
        try:
            latest = channel.fold.latest_turn or await self._latest_stored(conversation)
            submit = self._submit(principal, request, conversation, previous_turn=turn)
            known = channel.fold.span(submit.turn)
            repeat = known is not None
            if request.event_id and not repeat and latest not in ("", turn):
                repeat = await self._store.turn(submit.turn) is not None
        except BaseException:
            self._feed.release(channel)
            raise
        if latest in ("", turn) or repeat:
            return Prepared(submit, channel, known)
        self._feed.release(channel)
        return await self._fork(principal, request, conversation, turn)

    async def _fork(self, principal: Principal, request: CreateRequest, parent: str, parent_turn: str) -> Prepared:
        partition = ids.partition_of(parent)
        if request.event_id:
            name = f"{parent_turn}/{request.event_id}"
            entropy = ids.conversation_entropy(principal.tenant, principal.user, name)
            child = ids.conversation_id(partition, ids.time_of(parent_turn), entropy)
        else:
            child = ids.conversation_id(partition, self._now_ms(), self._entropy(10))
        channel = await self._feed.channel(child, fresh=not request.event_id)
        self._directory.opened(child, principal)
        submit = self._submit(
            principal, request, child, opens=True, parent=parent, parent_turn=parent_turn, previous_turn=parent_turn
        )
        return Prepared(submit, channel, channel.fold.span(submit.turn))

    async def _latest_stored(self, conversation: str) -> str:
        turns = (await self._store.history(conversation, 1)).turns
        return turns[-1] if turns else ""

    def _submit(
        self, principal: Principal, request: CreateRequest, conversation: str, *, opens: bool = False,
        parent: str = "", parent_turn: str = "", previous_turn: str = "",
    ) -> TurnSubmit:  # fmt: skip
        now_ms = self._now_ms()
        if request.event_id:
            turn = ids.keyed_turn_id(conversation, principal.user, request.event_id)
        else:
            turn = ids.turn_id(conversation, now_ms, self._entropy(10))
        return TurnSubmit(
            turn=turn, conversation=conversation, tenant=principal.tenant, user=principal.user, input=request.input,
            at_ms=now_ms, opens=opens, parent=parent, parent_turn=parent_turn, previous_turn=previous_turn,
            event_id=request.event_id, options=request.options,
        )  # fmt: skip

    # commands

    async def submit(self, prepared: Prepared) -> None:
        """Sends the turn; done when `turns` has acknowledged it. Raises what Bus.publish raises."""
        submit = prepared.submit
        await self._send(submit.conversation, submit, f"{submit.turn}/submit")

    async def cancel(self, principal: Principal, conversation: str, turn: str, event_id: str = "") -> None:
        event = TurnCancel(
            turn=turn, tenant=principal.tenant, user=principal.user, at_ms=self._now_ms(), event_id=event_id
        )
        await self._send(conversation, event, f"{turn}/cancel")

    def successor(self, turn: str, event_id: str) -> str:
        """The turn that a steer of `turn` opens: the same again for the same `event_id`."""
        return ids.successor_turn_id(turn, f"steer/{event_id or self._entropy(10).hex()}")

    async def steer(
        self, principal: Principal, conversation: str, turn: str, successor: str, items: tuple[InputItem, ...],
        event_id: str,
    ) -> None:  # fmt: skip
        event = TurnSteer(
            turn=turn, successor=successor, tenant=principal.tenant, user=principal.user, input=items,
            at_ms=self._now_ms(), event_id=event_id,
        )  # fmt: skip
        await self._send(conversation, event, f"{turn}/steer/{successor}")

    async def rate(
        self, principal: Principal, conversation: str, turn: str, rating: str, comment: str, share: bool, event_id: str
    ) -> None:  # fmt: skip
        """Says what the member thinks of a turn's answer; the caller has checked that it is their own."""
        event = FeedbackGive(
            conversation=conversation, turn=turn, tenant=principal.tenant, user=principal.user, rating=rating,
            at_ms=self._now_ms(), comment=comment, share=share, event_id=event_id,
        )  # fmt: skip
        await self._send(conversation, event, f"{turn}/feedback/{event_id or self._entropy(10).hex()}")

    async def edit_memory(
        self, principal: Principal, item: str, *, conversation: str = "", text: str = "", muted: bool = False,
        forget: bool = False, new: bool = False, event_id: str = "",
    ) -> None:  # fmt: skip
        """Corrects or forgets a memory or a habit that the caller has found to be the member's own, or tells a new one.
        conversation: the one that a memory comes from, "" for what comes from none."""
        home = conversation or ids.member_conversation(principal.tenant, principal.user, self._bus.partitions)
        event = MemoryEdit(
            conversation=home, tenant=principal.tenant, user=principal.user, item=item, at_ms=self._now_ms(),
            text=text, muted=muted, forget=forget, new=new, event_id=event_id,
        )  # fmt: skip
        await self._send(home, event, f"{item}/edit/{event_id or self._entropy(10).hex()}")

    async def edit(self, principal: Principal, conversation: str, *, title: str = "", delete: bool = False) -> None:
        """Renames or deletes; the caller has checked that it is the member's own."""
        event = ConversationEdit(
            conversation=conversation, tenant=principal.tenant, user=principal.user, at_ms=self._now_ms(),
            title=title, delete=delete,
        )  # fmt: skip
        await self._send(conversation, event, f"{conversation}/edit/{self._entropy(10).hex()}")
        if delete:
            self._directory.forget(conversation)

    async def _send(self, conversation: str, event: Event, event_id: str) -> None:
        partition = ids.partition_of(conversation)
        extra = signed_by_gateway(event, event_id, TURNS.name, conversation, self._secret) if self._secret else ()
        await self._bus.publish(TURNS.name, partition, conversation, event, event_id, self._source, extra)

    # positions

    def cursor_now(self, channel: Channel) -> str:
        """A cursor after everything that live listeners of the channel have had; "start" while the log is empty."""
        offset = self._feed.live_offset(channel.partition) - 1
        if offset < 0:
            return "start"
        origin = min(channel.fold.origin, offset)
        return Cursor(offset, LAST_FRAME, channel.conversation, origin, self._bus.epoch).encode()
