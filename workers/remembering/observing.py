"""What a turn tells of its member's habits: the agent that took it, the skills that answered and what they were asked
for, the suggestions that were taken or declined. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import msgspec

from memory.rows import Observed, TurnRecord

ARGUMENT_CHARACTERS: Final = 40
Suggestion = tuple[str, bool]
"""(skill, taken)"""


def observed_in(record: TurnRecord, suggestions: Iterable[Suggestion] = ()) -> list[Observed]:
    """What to count of an ended turn. suggestions: calls that waited for the member's word, with what it was.

    Turns that failed, or that no agent took, are no habit.
    """

    def seen(kind: str, name: str, taken: bool = True) -> Observed:
        return Observed(
            tenant=record.tenant, user=record.user, kind=kind, name=name, taken=taken, at_ms=record.accepted_at_ms
        )

    found = [seen("suggestion", skill, taken) for skill, taken in suggestions]
    if record.status != "completed":
        return found
    if record.agent:
        found.append(seen("agent", record.agent))
    for message in record.messages:
        if message.kind == "function_call" and message.status == "answered":
            found.append(seen("skill", message.name))
            found += [seen("argument", f"{message.name}/{pair}") for pair in _pairs(message.text)]
    return found


def _pairs(arguments: str) -> list[str]:
    """`parameter=value` of each short text among the arguments: what somebody may mean again without saying it."""
    try:
        values: dict[str, Any] = msgspec.json.decode(arguments, type=dict[str, Any])
    except msgspec.DecodeError:
        return []
    return [
        f"{name}={value.strip()}" for name, value in values.items()
        if isinstance(value, str) and 0 < len(value.strip()) <= ARGUMENT_CHARACTERS and "\n" not in value
    ]  # fmt: skip
