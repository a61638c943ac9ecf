"""Rows that the stores' conformance suites write and look for."""

from __future__ import annotations

from memory.rows import (
    Change,
    ConversationRow,
    MemoryRow,
    MessageRow,
    TurnRecord,
    Vector,
)
from memory.store import Store
from streams import ids

DIMENSIONS = 4
PARTITION = 3
NORTH, EAST, SOUTH = [0.0, 1.0, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0], [0.0, -1.0, 0.0, 0.0]


def conversation_id(number: int, partition: int = PARTITION) -> str:
    return ids.conversation_id(partition, number, b"0123456789")


def turn_id(number: int) -> str:
    return ids.turn_id(conversation_id(0), number, b"0123456789")


def opened(number: int = 1, at_ms: int = 1_000, user: str = "ada", parent: str = "", parent_turn: str = "") -> Change:
    row = ConversationRow(
        conversation=conversation_id(number), tenant="acme", user=user, created_at_ms=at_ms, parent=parent,
        parent_turn=parent_turn,
    )  # fmt: skip
    return Change(0, row)


def record(
    number: int, begin: int, end: int, said: str, answer: str, *, conversation: int = 1, at_ms: int = 1_000,
    status: str = "completed", user: str = "ada",
) -> TurnRecord:  # fmt: skip
    messages = [MessageRow(index=0, role="user", text=said)]
    if answer:
        messages.append(MessageRow(index=1, role="assistant", text=answer, name="answer"))
    return TurnRecord(
        turn=turn_id(number), conversation=conversation_id(conversation), tenant="acme", user=user, begin_offset=begin,
        end_offset=end, status=status, reason="", routed=True, agent="guide", messages=tuple(messages), models=(),
        accepted_at_ms=at_ms, ended_at_ms=at_ms + 10, previous_turn="", previous_offset=-1, event_id="",
        origin="client",
    )  # fmt: skip


def turn(*args: int | str, **more: int | str) -> Change:
    made = record(*args, **more)  # type: ignore[arg-type]
    return Change(made.end_offset if made.status != "running" else made.begin_offset, made)


def memory(
    name: str, text: str, vector: Vector, *, tenant: str = "acme", user: str = "ada", conversation: int = 1,
    at_ms: int = 1_000, offset: int = 9,
) -> Change:  # fmt: skip
    row = MemoryRow(
        id=name, layer="conversation", tenant=tenant, user=user, text=text, vector=vector, at_ms=at_ms,
        conversation=conversation_id(conversation), turn=turn_id(1), speaker="user", valid_from_ms=at_ms,
    )  # fmt: skip
    return Change(offset, row)


async def found(store: Store, tenant: str = "acme", user: str = "ada", text: str = "", limit: int = 10) -> list[str]:
    return sorted(candidate.id for candidate in await store.recall(tenant, user, NORTH, text, limit))
