"""A replay as a recording of its own: what the owners wrote now, with what they were fed, under the same ids. Pure."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from headstart.replay.recording import Recording
from headstart.replay.turns import Replayed
from streams.topology import EVENTS


def result_recording(
    recording: Recording, replayed: Mapping[str, Replayed], shadow: Mapping[str, str], now_ms: int
) -> Recording:
    """The recording with its `events` replaced by those of the replay. shadow: what was changed."""
    offsets: dict[int, int] = {}
    events = []
    for again in replayed.values():
        for record in again.course:
            offset = offsets.get(record.partition, 0)
            offsets[record.partition] = offset + 1
            events.append(msgspec.structs.replace(record, offset=offset))
    others = [record for record in recording.records if record.topic != EVENTS.name]
    head = msgspec.structs.replace(
        recording.head, made_at_ms=now_ms, origin=f"replay of {recording.head.origin}".strip(), shadow=dict(shadow)
    )
    return Recording(head, [*others, *events], recording.schemas)
