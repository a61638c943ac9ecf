"""The part of the store in memory that holds memories: recall, supersession, and what people say of them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from memory.drafts import CONTEXT_CHARACTERS
from memory.editing import correction_of, forgotten_with, superseded_by
from memory.memory_learning import LearningMemory
from memory.memory_registry import cosine
from memory.revising import FactState, outdated, revise
from memory.rows import OUTDATED, Candidate, Edit, MemoryRow, Vector

_WORD: Final = re.compile(r"\w+")
replace = msgspec.structs.replace


class RememberingMemory(LearningMemory):
    """A part of memory_store.MemoryStore; memory.store.Store says what each method does."""

    def __init__(self, dimensions: int) -> None:
        super().__init__(dimensions)
        self._memories: dict[str, MemoryRow] = {}
        self._forgotten_turns: dict[tuple[str, str, str], int] = {}  # by tenant, user, turn: until when, of its facts

    # what people say of them

    def _is_unwanted(self, row: MemoryRow) -> bool:
        """Its person has forgotten it since, or something of the turn that this fact is drawn from."""
        edit = self._edits.get((row.tenant, row.user, row.id))
        if edit is not None and edit.forgotten_at_ms >= row.at_ms:
            return True
        turn = (row.tenant, row.user, row.turn)
        return bool(row.turn) and row.layer == "fact" and self._forgotten_turns.get(turn, -1) >= row.at_ms

    def _edit_memory(self, edit: Edit) -> None:
        item = self._memories.get(edit.item)
        if item is not None and (item.tenant, item.user) != (edit.tenant, edit.user):
            item = None
        if edit.forget:
            self._forget_memory(edit, item)
        elif item is not None and edit.text and not item.superseded_by:
            self._check(edit.vector)
            new = self._memories[edit.successor] = correction_of(item, edit)
            if new.attribute:
                self._revise(new)
            for row in superseded_by(new, item, self._of(edit)):
                self._memories[row.id] = row
            if item.value:
                self._outdate(item.turn, item.value)

    def _forget_memory(self, edit: Edit, item: MemoryRow | None) -> None:
        gone = forgotten_with(item, self._of(edit)) if item is not None else []
        self._keep(edit)
        for row in gone:
            self._keep(replace(edit, item=row.id))
            del self._memories[row.id]
            if row.turn:
                self._forgotten_turns[edit.tenant, edit.user, row.turn] = edit.at_ms
                self._unlearn_turn(row.turn)
            if row.layer == "conversation" and row.conversation:
                self._clear_context(row)

    def _of(self, edit: Edit) -> list[MemoryRow]:
        return [row for row in self._memories.values() if (row.tenant, row.user) == (edit.tenant, edit.user)]

    def _clear_context(self, gone: MemoryRow) -> None:
        for row in list(self._memories.values()):
            if row.conversation == gone.conversation and gone.text[:CONTEXT_CHARACTERS] in row.context:
                self._memories[row.id] = replace(row, context="")

    def _revise(self, new: MemoryRow) -> None:
        """Holds a fact to the others of its member, subject and attribute."""
        same = [
            row for row in self._memories.values()
            if (row.tenant, row.user, row.subject, row.attribute)
            == (new.tenant, new.user, new.subject, new.attribute)
        ]  # fmt: skip
        states = {row.id: _state(row) for row in same}
        changed = revise(list(states.values()))
        for fact in changed:
            row = self._memories[fact.id]
            self._memories[fact.id] = replace(row, valid_to_ms=fact.valid_to_ms, superseded_by=fact.superseded_by)
        for fact in outdated(changed, states):
            self._outdate(self._memories[fact.id].turn, fact.value)

    def _outdate(self, turn: str, said: str) -> None:
        """Lowers the confidence of what the user said in these words."""
        for row in list(self._memories.values()):
            if row.turn == turn and _is_said_by_user(row) and said.lower() in row.text.lower():
                self._memories[row.id] = replace(row, confidence=OUTDATED)

    # recall

    async def recall(
        self, tenant: str, user: str, vector: Vector, text: str, limit: int, exclude_conversation: str = "",
        exclude_turns: Sequence[str] = (),
    ) -> list[Candidate]:  # fmt: skip
        self._check(vector)
        mine = [
            row for row in self._memories.values()
            if (row.tenant, row.user) == (tenant, user)
            and (not exclude_conversation or row.conversation != exclude_conversation)
            and not row.superseded_by and (row.turn not in exclude_turns or not row.turn)
        ]  # fmt: skip
        words = set(_WORD.findall(text.lower()))
        likeness = {row.id: cosine(row.vector, vector) for row in mine}
        texts = {row.id: f"{row.text} {row.context}".lower() for row in mine}
        shares = {name: len(words & set(_WORD.findall(text))) / max(1, len(words)) for name, text in texts.items()}
        nearest = sorted(mine, key=lambda row: (-likeness[row.id], row.id))[:limit]
        best = sorted((row for row in mine if shares[row.id]), key=lambda row: (-shares[row.id], row.id))[:limit]
        vector_ranks = {row.id: rank for rank, row in enumerate(nearest, 1)}
        text_ranks = {row.id: rank for rank, row in enumerate(best, 1)}
        return [
            replace(
                _candidate(row), similarity=likeness[row.id], text_score=shares[row.id],
                vector_rank=vector_ranks.get(row.id, 0), text_rank=text_ranks.get(row.id, 0),
            )
            for row in _unique([*nearest, *best])
        ]  # fmt: skip

    async def memories(self, tenant: str, user: str, limit: int, conversation: str = "") -> list[Candidate]:
        mine = [
            row for row in self._memories.values()
            if (row.tenant, row.user) == (tenant, user) and conversation in ("", row.conversation)
        ]  # fmt: skip
        mine.sort(key=lambda row: (row.at_ms, row.id), reverse=True)
        return [_candidate(row) for row in mine[:limit]]

    async def known_memories(self, tenant: str, user: str, ids: Sequence[str]) -> list[Candidate]:
        rows = (self._memories.get(name) for name in set(ids))
        return [_candidate(row) for row in rows if row is not None and (row.tenant, row.user) == (tenant, user)]


def _candidate(row: MemoryRow) -> Candidate:
    return Candidate(
        id=row.id, layer=row.layer, text=row.text, at_ms=row.at_ms, conversation=row.conversation, turn=row.turn,
        speaker=row.speaker, context=row.context, valid_from_ms=row.valid_from_ms, valid_to_ms=row.valid_to_ms,
        superseded_by=row.superseded_by, confidence=row.confidence, subject=row.subject, attribute=row.attribute,
        value=row.value,
    )  # fmt: skip


def _is_said_by_user(row: MemoryRow) -> bool:
    return row.layer == "conversation" and row.speaker == "user"


def _state(row: MemoryRow) -> FactState:
    return FactState(
        id=row.id, subject=row.subject, attribute=row.attribute, value=row.value, single=row.single,
        negated=row.negated, valid_from_ms=row.valid_from_ms, valid_to_ms=row.valid_to_ms,
        superseded_by=row.superseded_by,
    )  # fmt: skip


def _unique(rows: Iterable[MemoryRow]) -> list[MemoryRow]:
    return list({row.id: row for row in rows}.values())
