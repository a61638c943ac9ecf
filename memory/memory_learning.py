"""The part of the store in memory that learns: rated examples, habits, and what a model is still to read."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from memory.editing import edited_habit, is_counted, newest
from memory.habits import counted, habit_id
from memory.memory_registry import RegistryMemory, cosine
from memory.rows import Edit, Example, ExampleRow, Experience, HabitRow, Observed, Reading, ReadingDone, Vector
from streams import ids

replace = msgspec.structs.replace


class LearningMemory(RegistryMemory):
    """A part of memory_store.MemoryStore; memory.store.Store says what each method does."""

    def __init__(self, dimensions: int) -> None:
        super().__init__(dimensions)
        self._examples: dict[str, ExampleRow] = {}
        self._habits: dict[str, HabitRow] = {}
        self._readings: dict[tuple[str, str], Reading] = {}
        self._edits: dict[tuple[str, str, str], Edit] = {}  # by tenant, user, item: the newest word on it

    def _learn(self, row: ExampleRow | Observed | Reading | ReadingDone) -> None:
        if isinstance(row, ExampleRow):
            self._check(row.vector)
            known = self._examples.get(row.turn)
            if known is None or row.at_ms >= known.at_ms:
                self._examples[row.turn] = row
        elif isinstance(row, Observed):
            name = habit_id(row.tenant, row.user, row.kind, row.name)
            edit = self._edits.get((row.tenant, row.user, name))
            if is_counted(row, edit):
                self._habits[name] = edited_habit(counted(self._habits.get(name), row), edit)
        elif isinstance(row, Reading):
            self._readings.setdefault((row.turn, row.step), row)
        else:
            self._readings.pop((row.turn, row.step), None)

    def _keep(self, edit: Edit) -> Edit:
        key = (edit.tenant, edit.user, edit.item)
        self._edits[key] = newest(self._edits.get(key), edit)
        return self._edits[key]

    def _edit_habit(self, edit: Edit) -> None:
        kept = self._keep(edit)
        row = self._habits.get(edit.item)
        if row is None or (row.tenant, row.user) != (edit.tenant, edit.user):
            return
        if edit.forget and row.first_at_ms <= edit.at_ms:
            del self._habits[edit.item]
        elif not kept.forget:
            self._habits[edit.item] = replace(row, correction=kept.text, muted=kept.muted)

    def _unlearn_turn(self, turn: str) -> None:
        """Drops the turn's example, and has no model read it any more."""
        self._examples.pop(turn, None)
        self._readings = {key: row for key, row in self._readings.items() if row.turn != turn}

    def _unlearn(self, tenant: str, user: str, gone: Callable[[str], bool], at_ms: int) -> None:
        """Erases what came from conversations that are gone, and (tenant not "") a member's habits up to a time."""
        self._examples = {key: row for key, row in self._examples.items() if not gone(row.conversation)}
        self._readings = {key: row for key, row in self._readings.items() if not gone(row.conversation)}
        if tenant:
            self._examples = {
                key: row for key, row in self._examples.items()
                if (row.tenant, row.user) != (tenant, user) or row.at_ms > at_ms
            }  # fmt: skip
            self._habits = {
                key: row for key, row in self._habits.items()
                if (row.tenant, row.user) != (tenant, user) or row.first_at_ms > at_ms
            }  # fmt: skip
            self._edits = {
                key: edit for key, edit in self._edits.items() if key[:2] != (tenant, user) or edit.at_ms > at_ms
            }  # fmt: skip

    async def examples(self, tenant: str, user: str, vector: Vector, limit: int) -> list[Example]:
        self._check(vector)
        good = [
            row for row in self._examples.values()
            if row.rating == "good" and row.tenant == tenant and (row.user == user or row.shared)
        ]  # fmt: skip
        found = [
            Example(turn=row.turn, agent=row.agent, question=row.question, answer=row.answer,
                    score=cosine(row.vector, vector))
            for row in good
        ]  # fmt: skip
        return sorted(found, key=lambda one: (-one.score, one.turn))[:limit]

    async def habits(self, tenant: str, user: str) -> list[HabitRow]:
        mine = [row for row in self._habits.values() if (row.tenant, row.user) == (tenant, user)]
        return sorted(mine, key=lambda row: (-row.last_at_ms, row.id))

    async def experience(self, tenant: str, user: str) -> Experience:
        rated = any(
            row.rating == "good" and row.tenant == tenant and (row.user == user or row.shared)
            for row in self._examples.values()
        )
        return Experience(await self.habits(tenant, user), rated)

    async def readings(self, partitions: Sequence[int], limit: int) -> list[Reading]:
        mine = [row for row in self._readings.values() if ids.partition_of(row.turn) in partitions]
        return sorted(mine, key=lambda row: (row.at_ms, row.turn, row.step))[:limit]

    async def asked(self, turn: str, step: str, epoch: int, at_ms: int) -> None:
        if row := self._readings.get((turn, step)):
            self._readings[turn, step] = replace(row, epoch=epoch, asked_at_ms=at_ms)

    async def unread(self, turn: str, step: str) -> None:
        self._readings.pop((turn, step), None)
