"""What of a turn becomes a memory: the words of the user and of the assistant, as they were said, and services' facts.

A long text is cut into pieces at the ends of paragraphs and sentences, since an embedder reads only so much and a
prompt has room for a paragraph rather than a page. Ids are made from the source, so that the same turn read twice gives
the same memories.

A client without conversations sends everything said so far with each request. So of a turn's input only the user's
messages after the last one of the assistant are new; the others were remembered when they were said.

Pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final

import msgspec

from memory.editing import is_habit
from memory.rows import Edit, ExampleRow, MemoryRow, MessageRow, TurnRecord
from streams.events.conversation import FactPublished
from streams.events.editing import MemoryEdited
from streams.ids import digest_hex

# all-MiniLM-L6-v2 reads 256 word pieces, about 1,000 characters of English; with its context a piece stays below.
PIECE_CHARACTERS: Final = 600
# A memory is found by what was said just before it, too: an answer seldom repeats the words of its question. Two
# utterances, each cut so that both and the memory fit into what the embedder reads.
CONTEXT_UTTERANCES: Final = 2
CONTEXT_CHARACTERS: Final = 160
_BORDER: Final = re.compile(r"\n\s*\n|(?<=[.!?…])\s+|\n")


Said = tuple[str, str]
"""(speaker, text)"""


class Draft(msgspec.Struct, frozen=True):
    """A row that waits for its vector (`row.vector` is []), and the text to embed for it."""

    row: MemoryRow | ExampleRow | Edit
    embedded: str


def drafts_of(record: TurnRecord, before: Sequence[Said] = ()) -> list[Draft]:
    """Memories of an ended turn, in the order in which they were said. before: what was said last in the conversation.

    Of a failed turn, and of one that is out of scope, only what the user said: the answer is an excuse.
    """
    drafts: list[Draft] = []
    past = list(before)
    for number, (speaker, text) in enumerate(said_in(record)):
        at_ms = record.accepted_at_ms if speaker == "user" else record.ended_at_ms
        for part, piece in enumerate(pieces(text)):
            context = " ".join(f"{who}: {what[:CONTEXT_CHARACTERS]}" for who, what in past[-CONTEXT_UTTERANCES:])
            row = MemoryRow(
                id=memory_id(record.turn, str(number), str(part)), layer="conversation", tenant=record.tenant,
                user=record.user, text=piece, vector=[], at_ms=at_ms, conversation=record.conversation,
                turn=record.turn, source_offset=record.end_offset, speaker=speaker, context=context,
                valid_from_ms=at_ms,
            )  # fmt: skip
            drafts.append(Draft(row, f"{context} {speaker}: {piece}".strip()))
            past.append((speaker, piece))
    return drafts


def said_in(record: TurnRecord) -> list[Said]:
    """What of a turn is worth remembering, in order."""
    said = new_words(record.messages)
    if record.answer and record.status != "failed" and (record.agent or not record.routed):
        said.append(("assistant", record.answer))
    return said


def draft_of_fact(fact: FactPublished, identity: str, offset: int) -> list[Draft]:
    """Memories of a service's fact. identity: the fact's CloudEvents id.

    Where its data says what it is `about` (a text), it takes the place of what facts of its kind said of that before.
    """
    about = fact.data.get("about")
    drafts: list[Draft] = []
    for part, piece in enumerate(pieces(fact.text)):
        row = MemoryRow(
            id=memory_id(identity, "fact", str(part)), layer="fact", tenant=fact.tenant, user=fact.user, text=piece,
            vector=[], at_ms=fact.at_ms, conversation=fact.conversation, source_offset=offset, speaker=fact.service,
            valid_from_ms=fact.at_ms,
        )  # fmt: skip
        if isinstance(about, str) and about:  # each piece of a long text is a chain of its own
            row = msgspec.structs.replace(
                row, subject=fact.kind, attribute=f"{about}#{part}" if part else about, value=piece, single=True
            )
        drafts.append(Draft(row, f"{fact.service}: {piece}"))
    return drafts


def row_of_edit(edited: MemoryEdited, identity: str, offset: int) -> Draft | Edit:
    """What a person's word on a memory or a habit does: a correction of a memory, or a new one, waits for its vector.
    identity: the fact's CloudEvents id."""
    row = Edit(
        tenant=edited.tenant, user=edited.user, item=edited.item, at_ms=edited.at_ms, text=edited.text.strip(),
        muted=edited.muted, forget=edited.forget, offset=offset,
    )  # fmt: skip
    if row.forget or is_habit(row.item) or not row.text:
        return row
    if edited.new:
        told = MemoryRow(
            id=row.item, layer="fact", tenant=row.tenant, user=row.user, text=row.text, vector=[], at_ms=row.at_ms,
            source_offset=offset, speaker="user", valid_from_ms=row.at_ms,
        )  # fmt: skip
        return Draft(told, f"user: {row.text}")
    return Draft(msgspec.structs.replace(row, successor=memory_id(identity, "edited")), f"user: {row.text}")


def told_id(tenant: str, user: str, name: str) -> str:
    """The id of a memory that somebody tells, the same for the same name."""
    return memory_id("told", tenant, user, name)


def memory_id(*source: str) -> str:
    """`mem_` and 32 hex digits of a hash of where the memory comes from."""
    return f"mem_{digest_hex('memory', *source)[:32]}"


def pieces(text: str) -> list[str]:
    """The text in parts of at most PIECE_CHARACTERS, as few as keeping sentences whole allows; [] when it is blank."""
    parts: list[str] = []
    for sentence in _sentences(text):
        if parts and len(parts[-1]) + 1 + len(sentence) <= PIECE_CHARACTERS:
            parts[-1] = f"{parts[-1]} {sentence}"
        else:
            parts.append(sentence)
    return parts


def _sentences(text: str) -> Iterator[str]:
    for sentence in _BORDER.split(text):
        left = sentence.strip()
        while len(left) > PIECE_CHARACTERS:
            cut = left.rfind(" ", 0, PIECE_CHARACTERS)
            cut = cut if cut > 0 else PIECE_CHARACTERS
            yield left[:cut].rstrip()
            left = left[cut:].lstrip()
        if left:
            yield left


def new_words(messages: tuple[MessageRow, ...]) -> list[Said]:
    """What the user said since the assistant's last word in the turn's input."""
    new: list[Said] = []
    for message in messages:
        if message.kind != "message" or message.name == "answer":
            continue
        if message.role == "assistant":
            new.clear()
        elif message.role == "user":
            new.append(("user", message.text))
    return new
