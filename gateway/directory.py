"""Where things are and whose: conversations to owners, turns to conversations and offsets.

Answers come from what this gateway has seen, then the store, then the log itself after the store's position, so a
conversation that another gateway opened a moment ago is found too. A conversation of somebody else and one that
does not exist give the same error.

`POST /v1/conversations` names a conversation before anything about it is on the log. Its id certifies itself: 48 of
its random bits are a keyed hash over its owner and the others, so any gateway with the same secret knows it again.
"""

from __future__ import annotations

import hashlib
import hmac
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

import msgspec

from gateway.feed import Feed
from gateway.resume import Span
from memory.rows import Principal
from memory.store import Store
from streams import ids
from streams.codec import Record, decode
from streams.errors import HeadstartError, NotFound
from streams.events.conversation import ConversationDeleted, ConversationOpened
from streams.events.turn import TurnAccepted

KEPT: Final = 20_000
BELIEVED_MS: Final = 30_000  # how long an owner is believed without asking again whether the conversation was deleted
CLOCK_SKEW_MS: Final = 60_000  # between the clock that made an id and the one that stamped the log
_NONCE_BITS: Final = 26  # with the 48 bits of the hash: the 74 bits an id has
_ACCEPTED: Final = TurnAccepted.TYPE


class Owner(msgspec.Struct, frozen=True):
    """Who a conversation belongs to. latest_turn: the newest turn known when it was asked, "" when none is."""

    tenant: str
    user: str
    latest_turn: str = ""
    deleted: bool = False


class Place(msgspec.Struct, frozen=True):
    """Where a turn is. offset: of its first fact."""

    turn: str
    conversation: str
    tenant: str
    user: str
    offset: int
    status: str = "running"

    @property
    def ended(self) -> bool:
        return self.status != "running"


class Directory:
    """Looks things up; caches are bounded."""

    def __init__(self, store: Store, feed: Feed, now_ms: Callable[[], int], secret: bytes) -> None:
        self._store = store
        self._feed = feed
        self._now_ms = now_ms
        self._secret = secret
        self._owners: OrderedDict[str, tuple[Owner, int]] = OrderedDict()
        self._places: OrderedDict[str, Place] = OrderedDict()
        self._asked: OrderedDict[str, Place] = OrderedDict()

    # conversations

    def mint(self, partition: int, principal: Principal, entropy: bytes) -> str:
        """A new conversation's id for this member. entropy: at least 4 bytes from a CSPRNG."""
        now_ms = self._now_ms()
        nonce = int.from_bytes(entropy[:4], "big") & (1 << _NONCE_BITS) - 1
        return self._certified(partition, now_ms, nonce, principal)

    def minted(self, conversation: str, principal: Principal) -> bool:
        """Whether this very member was given the id by `mint` of a gateway with the same secret."""
        uuid = int(ids.body_of(conversation)[4:], 16)
        bits = (uuid >> 64 & 0xFFF) << 62 | uuid & (1 << 62) - 1
        expected = self._certified(
            ids.partition_of(conversation), ids.time_of(conversation), bits >> 48, principal
        )  # fmt: skip
        return hmac.compare_digest(expected, conversation)

    def _certified(self, partition: int, time_ms: int, nonce: int, principal: Principal) -> str:
        told = ids.digest_hex(str(partition), str(time_ms), str(nonce), principal.tenant, principal.user)
        mac = hmac.digest(self._secret, told.encode(), hashlib.sha256)[:6]
        bits = nonce << 48 | int.from_bytes(mac, "big")
        return ids.conversation_id(partition, time_ms, bits.to_bytes(10, "big"))

    def opened(self, conversation: str, principal: Principal) -> None:
        """This gateway has just opened the conversation for the member."""
        self._remember(conversation, Owner(principal.tenant, principal.user))

    async def owned(self, conversation: str, principal: Principal) -> Owner:
        """The conversation's entry. Raises NotFound (`unknown_conversation`) unless it is this member's."""
        owner = await self._owner(conversation)
        if owner is None and self.minted(conversation, principal):
            return Owner(principal.tenant, principal.user)
        if owner is None or owner.deleted or (owner.tenant, owner.user) != (principal.tenant, principal.user):
            raise NotFound("no such conversation", code="unknown_conversation", param="conversation")
        return owner

    async def _owner(self, conversation: str) -> Owner | None:
        cached = self._owners.get(conversation)
        if cached is not None and cached[1] >= self._now_ms():
            return cached[0]
        row = await self._store.conversation(conversation)
        if row is not None:
            turns = (await self._store.history(conversation, 1)).turns
            owner = Owner(row.tenant, row.user, turns[-1] if turns else "", row.deleted)
        else:
            found = await self._owner_in_log(conversation)
            if found is None:
                return None
            owner = found
        self._remember(conversation, owner)
        return owner

    async def _owner_in_log(self, conversation: str) -> Owner | None:
        partition, key = ids.partition_of(conversation), conversation.encode()
        if partition >= self._feed.partition_count:
            return None
        begin = await self._feed.not_stored_from(partition, ids.time_of(conversation) - CLOCK_SKEW_MS)
        owner: Owner | None = None

        def look(record: Record) -> bool | None:
            nonlocal owner
            if record.key != key:
                return None
            event = _readable(record, (_ACCEPTED, ConversationOpened.TYPE, ConversationDeleted.TYPE))
            if isinstance(event, TurnAccepted | ConversationOpened):
                latest = event.turn if isinstance(event, TurnAccepted) else owner.latest_turn if owner else ""
                owner = Owner(event.tenant, event.user, latest)
            elif isinstance(event, ConversationDeleted) and owner is not None:
                owner = Owner(owner.tenant, owner.user, owner.latest_turn, deleted=True)
            return None

        await self._feed.scan(partition, begin, look)
        return owner

    def _remember(self, conversation: str, owner: Owner) -> None:
        self._owners[conversation] = (owner, self._now_ms() + BELIEVED_MS)
        self._owners.move_to_end(conversation)
        while len(self._owners) > KEPT:
            self._owners.popitem(last=False)

    def forget(self, conversation: str) -> None:
        """What is known of the conversation is out of date (it was deleted)."""
        self._owners.pop(conversation, None)

    # turns

    def saw(self, place: Place) -> None:
        """A turn was accepted on the log at this place."""
        self._places[place.turn] = place
        while len(self._places) > KEPT:
            self._places.popitem(last=False)

    def asked(self, turn: str, conversation: str, principal: Principal) -> None:
        """This gateway has sent the turn's submit; it may be cancelled before it is on the log."""
        self._asked[turn] = Place(turn, conversation, principal.tenant, principal.user, -1)
        while len(self._asked) > KEPT:
            self._asked.popitem(last=False)

    async def running(self, turn: str, principal: Principal) -> Place:
        """`find`, for a command about a turn that may not be on the log yet; its offset may be -1 then."""
        asked = self._asked.get(turn)
        if asked is not None and (asked.tenant, asked.user) == (principal.tenant, principal.user):
            return asked
        return await self.find(turn, principal)

    async def find(self, turn: str, principal: Principal) -> Place:
        """Where a turn is. Raises NotFound (`response_not_found`) unless it is known and this member's."""
        place = self._places.get(turn) or await self._stored(turn) or await self._place_in_log(turn)
        if place is None or (place.tenant, place.user) != (principal.tenant, principal.user):
            raise NotFound("no such response", code="response_not_found", param="response_id")
        return place

    async def seen(self, turn: str) -> Place | None:
        """Where a turn is, None when neither the store nor the log has it."""
        return self._places.get(turn) or await self._stored(turn) or await self._place_in_log(turn)

    async def span(self, place: Place) -> Span:
        """Where to begin to fold for a turn: at its own beginning, or as far back as turns before it were still open.

        Turns of a conversation end in order, so the first one back that had ended is where to stop.
        """
        origin = place.offset
        while (accepted := await self._accepted_at(place, origin)) is not None and accepted.previous_offset >= 0:
            row = await self._store.turn(accepted.previous_turn) if accepted.previous_turn else None
            if row is not None and 0 <= row.end_offset < place.offset:
                break
            origin = accepted.previous_offset
        return Span(origin, place.offset)

    async def accepted(self, place: Place) -> TurnAccepted | None:
        """The turn's first fact, None when its log is gone."""
        return await self._accepted_at(place, place.offset) if place.offset >= 0 else None

    async def _accepted_at(self, place: Place, offset: int) -> TurnAccepted | None:
        def look(record: Record) -> TurnAccepted | bool:
            event = _readable(record, (_ACCEPTED,)) if record.offset == offset else None
            return event if isinstance(event, TurnAccepted) else False

        found = await self._feed.scan(ids.partition_of(place.turn), offset, look)
        return found if isinstance(found, TurnAccepted) else None

    async def _stored(self, turn: str) -> Place | None:
        row = await self._store.turn(turn)
        if row is None:
            return None
        return Place(turn, row.conversation, row.tenant, row.user, row.offset, row.status)

    async def _place_in_log(self, turn: str) -> Place | None:
        partition, prefix = ids.partition_of(turn), turn + "/"
        if partition >= self._feed.partition_count:
            return None
        begin = await self._feed.not_stored_from(partition, ids.time_of(turn) - CLOCK_SKEW_MS)

        def look(record: Record) -> Place | None:
            if not record.event_id.startswith(prefix):
                return None
            event = _readable(record, (_ACCEPTED,))
            if not isinstance(event, TurnAccepted):
                return None
            return Place(turn, event.conversation, event.tenant, event.user, record.offset)

        place = await self._feed.scan(partition, begin, look)
        if place is not None:
            self.saw(place)
        return place


def _readable(record: Record, kinds: tuple[str, ...]) -> object:
    """The record's event when it is of one of these types and can be read, else None: others are not asked for."""
    if record.type not in kinds:
        return None
    try:
        return decode(record)
    except HeadstartError:
        return None
