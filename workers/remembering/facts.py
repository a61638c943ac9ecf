"""From what was read in a turn to memories: one sentence a fact, found by its own words and those it was said in.

Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from memory.drafts import Draft, memory_id, new_words
from memory.revising import normal
from memory.rows import MemoryRow, TurnRecord
from workers.remembering.attributes import is_single, sentence
from workers.remembering.rules import Said, named_last, read

QUOTE_CHARACTERS: Final = 160


def facts_by_rule(record: TurnRecord) -> list[Said]:
    """What the user's words in an ended turn say by rule."""
    found: list[Said] = []
    last = ""
    for _, text in new_words(record.messages):
        found += [said for said in read(text, last) if said not in found]
        last = named_last(text, last)
    return found


def user_text(record: TurnRecord) -> str:
    """What the user said in the turn, in order."""
    return "\n".join(text for _, text in new_words(record.messages))


def drafts_of_facts(
    facts: Sequence[Said], *, turn: str, conversation: str, tenant: str, user: str, said_at_ms: int, offset: int,
    quote: str,
) -> list[Draft]:  # fmt: skip
    """Memories of facts that were said in one turn, without their vectors. quote: the words they were read from.

    A fact's id is made from the turn and what it says, so that rules and a model that read the same give one memory.
    Facts of one turn hold one millisecond after the other, in the order in which they were said.
    """
    context = f"user: {' '.join(quote.split())[:QUOTE_CHARACTERS]}"
    drafts: list[Draft] = []
    for number, said in enumerate(facts):
        text = sentence(said.subject, said.attribute, said.value, said.negated)
        sign = "not" if said.negated else ""
        row = MemoryRow(
            id=memory_id(turn, "said", said.subject, said.attribute, normal(said.value), sign), layer="fact",
            tenant=tenant, user=user, text=text, vector=[], at_ms=said_at_ms, conversation=conversation, turn=turn,
            source_offset=offset, speaker="user", context=context, valid_from_ms=said_at_ms + number,
            confidence=said.confidence, subject=said.subject, attribute=said.attribute, value=said.value,
            single=is_single(said.attribute), negated=said.negated,
        )  # fmt: skip
        drafts.append(Draft(row, f"{context} {text}"))
    return drafts
