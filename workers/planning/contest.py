"""A partition whose turns cannot go on from what is held here: another owner wrote of them, or the bus was away.

A worker that was stopped for longer than its session, or cut off, does not know it: it may come back as a member with
the very partitions it had, while another carried their turns in between; or it may hold them no longer and not have
been told yet. The log shows the one or the other by a fact that could not be there otherwise. And where a fact of a
turn could not be written for longer than a producer tries, later ones would stand after a gap. Either way the log is
right and the memory of this process is not: once it is sure that the partition is its own, it begins from the log.
"""

from __future__ import annotations

from streams.bus import GroupReader, Place
from streams.topology import EVENTS, TURNS
from workers.planning.holding import HeldPartition
from workers.planning.partition import Seen


def is_foreign(partition: HeldPartition, seen: Seen, writer: str) -> bool:
    """Whether a fact says that the partition was elsewhere, or is: it is another owner's, about the course of a turn,
    and neither of a turn that is being adopted here nor from before the end was reached."""
    adopting = partition.adopting.get(seen.identity.subject)
    late = adopting is not None and seen.identity.epoch < adopting.writer.epoch
    return partition.caught_up and seen.identity.stage == "turn" and seen.source != writer and not late


async def ours_from(group: GroupReader, partition: HeldPartition) -> dict[Place, int]:
    """Where this worker has to begin the partition anew. Raises PeerError when it is not, or not known to be, ours.

    Only a member of the group can commit, so a commit of what is committed already tells."""
    places = [Place(topic.name, partition.number) for topic in (TURNS, EVENTS)]
    committed = {place: await group.committed(place) or 0 for place in places}
    await group.commit(committed)
    return committed
