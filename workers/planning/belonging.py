"""Whose a conversation is, as the owner of its partition can say: before a service may touch it.

A gateway has asked this for its own members' commands. A service names any conversation it likes; its signature only
says for which tenant it speaks.
"""

from __future__ import annotations

from memory.store import Store
from streams import ids
from streams.errors import NotPermitted
from streams.events import Event
from streams.events.intake import FactPublish, TurnSubmit
from workers.planning.holding import HeldPartition
from workers.planning.past import Past

Member = tuple[str, str]  # tenant, user


async def check_belongs(partition: HeldPartition, store: Store, past: Past, event: Event) -> None:
    """Raises NotPermitted unless the conversation that a service's event names is the member's it speaks for, or, of a
    submit, is new; PeerError while that can not be said. Other events name no conversation and pass."""
    if not isinstance(event, TurnSubmit | FactPublish):
        return
    member = (event.tenant, event.user)
    owner = await owner_of(partition, store, past, event.conversation)
    if owner is None and isinstance(event, FactPublish):
        raise NotPermitted("no turn has opened this conversation yet", code="not_permitted")
    if owner is not None and owner != member:
        raise NotPermitted("the conversation belongs to somebody else", code="not_permitted")
    parent = event.parent if isinstance(event, TurnSubmit) else ""
    if parent and owner is None and await owner_of(partition, store, past, parent) != member:
        raise NotPermitted("the conversation that it forks belongs to somebody else", code="not_permitted")


async def owner_of(partition: HeldPartition, store: Store, past: Past, conversation: str) -> Member | None:
    """(tenant, user) of a conversation of this partition, None when nobody has opened it. What memory has not stored
    yet is read from the log. Raises PeerError while Postgres or the bus is away."""
    tail = partition.view.tails.get(conversation)
    if tail is not None and tail.tenant:
        return tail.tenant, tail.user
    if not ids.is_id(ids.CONVERSATION, conversation) or ids.partition_of(conversation) != partition.number:
        return None
    earlier = (await past.before(partition)).tails.get(conversation)
    if earlier is not None and earlier.tenant:
        return earlier.tenant, earlier.user
    row = await store.conversation(conversation)  # asked after that, so it knows at least what stood before
    return (row.tenant, row.user) if row is not None else None
