"""A service's fact for a member, of whose conversations the service knows nothing: it goes to the one they used last.

The record goes on as it is, with its signature, to the partition of that conversation, whose owner checks it as any
other; a header says where it was sent. Should it be sent twice (a worker died in between), the second is refused there
as `replayed`. Cost: one question to Postgres and one more record on `turns`; no other partition hears of it.

Which conversation that is Postgres says, which is behind the log by what the memory worker has not stored yet.
"""

from __future__ import annotations

from typing import Final

import msgspec

from memory.store import Store
from streams import ids
from streams.bus import Bus
from streams.codec import Record
from streams.errors import NotFound
from streams.events import Event
from streams.events.intake import FactPublish
from streams.topology import TURNS

HEADER: Final = "ce_conversation"  # not signed: whose the conversation is, its owner asks for itself


def addressed_to(event: Event, record: Record) -> Event:
    """The event, with the conversation that it was sent on to where it names none."""
    conversation = record.header(HEADER)
    if isinstance(event, FactPublish) and not event.conversation and conversation:
        return msgspec.structs.replace(event, conversation=conversation)
    return event


async def address(bus: Bus, store: Store, event: FactPublish, record: Record) -> None:
    """Sends the fact on. Raises NotFound (`unknown_member`) where its member has no conversation yet, PeerError while
    that can not be said or done."""
    rows = await store.conversations(event.tenant, event.user, 1)
    if not rows:
        raise NotFound(
            "the member has no conversation yet", code="unknown_member", hint="it begins with the member's first turn"
        )  # fmt: skip
    home = ids.partition_of(rows[0].conversation)
    headers = [*record.headers, (HEADER, rows[0].conversation.encode())]
    _ = await (await bus.post_raw(TURNS.name, home, record.key, record.value, headers))
