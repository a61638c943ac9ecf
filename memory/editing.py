"""What a person's word about a memory of theirs does to it: corrected, it gets a successor; forgotten, it is erased.

A correction takes the place of the item as any newer fact would: the item keeps its text and gets an end and a
successor. Of an utterance, the facts that it says and the correction does not end with it. Where the item is the value
of an attribute that has one value (`single`), so is the correction, and what is said of that attribute later takes its
place in turn.

Forgotten is the item, everything that it had taken the place of, and what holds the same words of the same turn: of a
fact the utterances that say its value, of an utterance the facts whose value it says. What a person said stays in
the conversation in which they said it, until they delete that.

Pure.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec

from memory.rows import SUMMARY, Edit, HabitRow, MemoryRow, Observed

HABIT: Final = "habit_"
MEMORY: Final = "mem_"
BY_PERSON: Final = "person"
"""Who wrote a summary that somebody corrected; see memory.rows.SUMMARY."""


def is_habit(item: str) -> bool:
    """Whether an edit's item names a habit; else it names a memory."""
    return item.startswith(HABIT)


def correction_of(old: MemoryRow, edit: Edit) -> MemoryRow:
    """The memory that takes the place of `old`, which still holds. It begins after `old` did, whatever the clocks
    say."""
    at_ms = max(edit.at_ms, old.valid_from_ms + 1)
    inherits = old.single and bool(old.attribute)
    value = edit.text
    if old.attribute == SUMMARY:
        value = f"{old.value.partition('/')[0]}/{BY_PERSON}/{edit.successor}"
    return MemoryRow(
        id=edit.successor, layer="fact" if old.layer == "conversation" else old.layer, tenant=old.tenant,
        user=old.user, text=edit.text, vector=edit.vector, at_ms=at_ms, conversation=old.conversation, turn=old.turn,
        source_offset=edit.offset, speaker="user", valid_from_ms=at_ms, subject=old.subject if inherits else "",
        attribute=old.attribute if inherits else "", value=value if inherits else "", single=inherits,
    )  # fmt: skip


def superseded_by(new: MemoryRow, old: MemoryRow, others: Iterable[MemoryRow]) -> list[MemoryRow]:
    """What `new`, the correction of `old`, takes the place of, as it is then: `old`, and where that is an utterance,
    the facts that it says and its correction does not."""
    said = new.text.casefold()
    wrong = [
        row for row in others
        if old.layer == "conversation" and not row.superseded_by and _says_the_same(old, row)
        and row.value.casefold() not in said
    ]  # fmt: skip
    return [
        msgspec.structs.replace(row, valid_to_ms=max(new.valid_from_ms, row.valid_from_ms), superseded_by=new.id)
        for row in (old, *wrong)
    ]


def forgotten_with(item: MemoryRow, others: Iterable[MemoryRow]) -> list[MemoryRow]:
    """The item and, of the other memories of its member, those that are forgotten with it."""
    rows = list(others)
    gone = {item.id: item}
    waiting = [item.id]
    while waiting:
        later = waiting.pop()
        earlier = {row.id: row for row in rows if row.superseded_by == later and row.id not in gone}
        gone |= earlier
        waiting += earlier
    named = list(gone.values())
    gone |= {row.id: row for row in rows if any(_says_the_same(one, row) for one in named)}
    return list(gone.values())


def _says_the_same(one: MemoryRow, other: MemoryRow) -> bool:
    """A fact and an utterance of one turn, where the utterance says the fact's value."""
    if not one.turn or one.turn != other.turn or {one.layer, other.layer} != {"fact", "conversation"}:
        return False
    fact, utterance = (one, other) if one.layer == "fact" else (other, one)
    return bool(fact.value) and fact.value.casefold() in utterance.text.casefold()


def edited_habit(habit: HabitRow, edit: Edit | None) -> HabitRow:
    """The habit with what its person said of it last, None for nothing."""
    if edit is None or edit.forget:
        return habit
    return msgspec.structs.replace(habit, correction=edit.text, muted=edit.muted)


def is_counted(seen: Observed, edit: Edit | None) -> bool:
    """Whether what was seen counts, given the person's last word on that habit: what it had forgotten does not."""
    return edit is None or seen.at_ms > edit.forgotten_at_ms


def newest(known: Edit | None, edit: Edit) -> Edit:
    """What to keep of two words about one item: the newer one, and until when it was ever forgotten."""
    forgotten_at_ms = edit.at_ms if edit.forget else -1
    edit = msgspec.structs.replace(edit, vector=[], forgotten_at_ms=forgotten_at_ms)
    if known is None:
        return edit
    last = edit if edit.at_ms >= known.at_ms else known
    return msgspec.structs.replace(last, forgotten_at_ms=max(forgotten_at_ms, known.forgotten_at_ms))
