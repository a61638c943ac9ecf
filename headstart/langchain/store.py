"""LangGraph's `BaseStore` over a member's memory.

Two namespaces, `("memories",)` and `("habits",)`, or whatever names the agent gives them; every other one is empty, and
nothing can be put there. A memory's value is `{"text": …}` with what is known of it (`layer`, `speaker`, `confidence`,
`conversation`, `said_at_ms`); its key is its id, or the key that it was put under.

`search` with a query is the recall of a turn: by meaning, words and what was said around it, ranked with the same
weights. `put` tells a new memory, or corrects the one that has this key: the old text stays as a revision. `delete`
erases it. Both are facts of the log, applied by the memory worker; a write returns once it can be read.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from langgraph.store.base import (
    BaseStore,
    GetOp,
    Item,
    ListNamespacesOp,
    MatchCondition,
    Op,
    PutOp,
    Result,
    SearchItem,
    SearchOp,
)

from headstart.langchain.opening import Memory, now_ms
from memory.drafts import PIECE_CHARACTERS, told_id
from memory.habits import sentence
from memory.recall import scored
from memory.rows import Candidate, HabitRow
from streams.errors import InvalidInput, NotFound

Namespace = tuple[str, ...]
FETCHED: Final = 50  # candidates of each search before they are ranked
LISTED: Final = 1_000


class HeadstartStore(BaseStore):
    """The memories and habits of the member whose `memory` it is. Raises what Memory's parts raise; writing raises
    InvalidInput for a value that can not be remembered, and PeerTimeout where no worker applies it in time."""

    supports_ttl = False

    def __init__(
        self, memory: Memory, *, memories: Namespace = ("memories",), habits: Namespace = ("habits",)
    ) -> None:  # fmt: skip
        """memories, habits: the namespaces under which the agent finds them."""
        self._memory, self._memories, self._habits = memory, memories, habits

    def batch(self, ops: Iterable[Op]) -> list[Result]:
        return self._memory.run(self._batch(list(ops)))

    async def abatch(self, ops: Iterable[Op]) -> list[Result]:
        return await self._memory.arun(self._batch(list(ops)))

    # on the memory's loop

    async def _batch(self, ops: Sequence[Op]) -> list[Result]:
        """Reads see what was before the writes of their batch; of writes to one key the last counts."""
        results: list[Result] = []
        writes: dict[tuple[Namespace, str], PutOp] = {}
        for op in ops:
            if isinstance(op, PutOp):
                writes[op.namespace, op.key] = op
                results.append(None)
            elif isinstance(op, GetOp):
                results.append(await self._get(op.namespace, op.key))
            elif isinstance(op, SearchOp):
                results.append(await self._search(op))
            elif isinstance(op, ListNamespacesOp):
                results.append(await self._namespaces(op))
            else:
                raise InvalidInput(f"{type(op).__name__} is no operation of a store")
        for write in writes.values():
            await self._put(write)
        return results

    async def _get(self, namespace: Namespace, key: str) -> Item | None:
        if namespace == self._habits:
            habit = await self._habit(key)
            return None if habit is None else self._habit_item(habit)
        if namespace != self._memories:
            return None
        row = await self._newest(key)
        return None if row is None else self._memory_item(row, key)

    async def _put(self, op: PutOp) -> None:
        if op.namespace == self._habits:
            await self._put_habit(op)
        elif op.namespace != self._memories:
            raise InvalidInput(
                f"nothing can be put under {op.namespace}", code="unknown_namespace",
                hint=f"there are {self._memories} and {self._habits}",
            )  # fmt: skip
        else:
            row = await self._newest(op.key)
            if op.value is None:
                if row is not None:
                    await self._memory.say(row.id, forget=True)
                return
            text = _text(op.value)
            if row is None:
                await self._memory.tell(op.key, text)
            elif row.text != text:
                await self._memory.say(row.id, text=text)

    async def _put_habit(self, op: PutOp) -> None:
        if await self._habit(op.key) is None:
            if op.value is None:
                return
            raise NotFound(
                "habits are counted, not put", code="unknown_habit", hint="correct or mute one that is there"
            )
        if op.value is None:
            await self._memory.say(op.key, forget=True)
        else:
            correction, muted = op.value.get("correction") or "", op.value.get("muted", False)
            if not isinstance(correction, str) or not isinstance(muted, bool):
                raise InvalidInput("a habit takes 'correction' (a text) and 'muted' (true or false)")
            await self._memory.say(op.key, text=correction, muted=muted)

    async def _search(self, op: SearchOp) -> list[SearchItem]:
        found: list[SearchItem] = []
        if _under(self._memories, op.namespace_prefix):
            found += await (self._recall(op.query) if op.query else self._listed())
        if _under(self._habits, op.namespace_prefix) and not op.query:
            habits = await self._memory.store.habits(self._memory.tenant, self._memory.user)
            found += [_searched(self._habit_item(habit), None) for habit in habits]
        kept = [item for item in found if _fits(item.value, op.filter or {})]
        return kept[op.offset : op.offset + op.limit]

    async def _recall(self, query: str) -> list[SearchItem]:
        [vector] = await self._memory.embedder.embed([query])
        candidates = await self._memory.store.recall(
            self._memory.tenant, self._memory.user, vector, query, FETCHED
        )  # fmt: skip
        rows = {row.id: row for row in candidates}
        return [
            _searched(self._memory_item(rows[item.id], item.id), item.score)
            for item in scored(candidates, query, now_ms())
        ]  # fmt: skip

    async def _listed(self) -> list[SearchItem]:
        rows = await self._memory.store.memories(self._memory.tenant, self._memory.user, LISTED)
        return [_searched(self._memory_item(row, row.id), None) for row in rows if not row.superseded_by]

    async def _namespaces(self, op: ListNamespacesOp) -> list[Namespace]:
        there = [self._memories] if await self._listed() else []
        there += [self._habits] if await self._memory.store.habits(self._memory.tenant, self._memory.user) else []
        fitting = [name for name in there if all(_matches(name, one) for one in op.match_conditions or ())]
        cut = sorted({name[: op.max_depth] if op.max_depth is not None else name for name in fitting})
        return cut[op.offset : op.offset + op.limit]

    async def _newest(self, key: str) -> Candidate | None:
        """The memory with this id, or put under this key; of one that was corrected what took its place."""
        tenant, user = self._memory.tenant, self._memory.user
        name = key if key.startswith("mem_") else told_id(tenant, user, key)
        seen: set[str] = set()
        while name not in seen:
            seen.add(name)
            found = await self._memory.store.known_memories(tenant, user, [name])
            if not found:
                return None
            if not found[0].superseded_by:
                return found[0]
            name = found[0].superseded_by
        return None

    async def _habit(self, key: str) -> HabitRow | None:
        rows = await self._memory.store.habits(self._memory.tenant, self._memory.user)
        return next((row for row in rows if row.id == key), None)

    def _memory_item(self, row: Candidate, key: str) -> Item:
        value = {
            "text": row.text, "layer": row.layer, "speaker": row.speaker, "confidence": row.confidence,
            "conversation": row.conversation, "said_at_ms": row.at_ms,
        }  # fmt: skip
        at = _moment(row.at_ms)
        return Item(value=value, key=key, namespace=self._memories, created_at=at, updated_at=at)

    def _habit_item(self, row: HabitRow) -> Item:
        value = {
            "text": sentence(row), "kind": row.kind, "name": row.name, "taken": row.taken, "declined": row.declined,
            "correction": row.correction, "muted": row.muted,
        }  # fmt: skip
        return Item(
            value=value, key=row.id, namespace=self._habits, created_at=_moment(row.first_at_ms),
            updated_at=_moment(row.last_at_ms),
        )  # fmt: skip


def _text(value: Mapping[str, Any]) -> str:
    text = value.get("text")
    if not isinstance(text, str) or not 0 < len(text.strip()) <= PIECE_CHARACTERS:
        raise InvalidInput(
            f"a memory's value has 'text', 1 to {PIECE_CHARACTERS} characters", code="not_a_memory",
            hint="what is remembered is read by models and people: say it in a sentence",
        )  # fmt: skip
    return text.strip()


def _searched(item: Item, score: float | None) -> SearchItem:
    return SearchItem(
        namespace=item.namespace, key=item.key, value=item.value, created_at=item.created_at,
        updated_at=item.updated_at, score=score,
    )  # fmt: skip


def _fits(value: dict[str, Any], wanted: dict[str, Any]) -> bool:
    return all(name in value and _compares(value[name], test) for name, test in wanted.items())


def _compares(value: Any, test: Any) -> bool:
    """Equality, or LangGraph's operators: `{"$gte": 5}`."""
    if not isinstance(test, dict) or not any(str(name).startswith("$") for name in test):
        return bool(value == test)
    if unknown := set(test) - set(_OPERATORS):
        raise InvalidInput(f"a filter knows {', '.join(_OPERATORS)}, not {', '.join(map(str, unknown))}")
    return all(_OPERATORS[name](value, wanted) for name, wanted in test.items())


_OPERATORS: Final = {
    "$eq": lambda value, wanted: value == wanted, "$ne": lambda value, wanted: value != wanted,
    "$gt": lambda value, wanted: value > wanted, "$gte": lambda value, wanted: value >= wanted,
    "$lt": lambda value, wanted: value < wanted, "$lte": lambda value, wanted: value <= wanted,
}  # fmt: skip


def _under(namespace: Namespace, prefix: Namespace) -> bool:
    return namespace[: len(prefix)] == prefix


def _matches(namespace: Namespace, condition: MatchCondition) -> bool:
    path = tuple(condition.path)
    if len(path) > len(namespace):
        return False
    part = namespace[: len(path)] if condition.match_type == "prefix" else namespace[-len(path) :]
    return all(wanted in ("*", name) for wanted, name in zip(path, part, strict=True))


def _moment(at_ms: int) -> datetime:
    return datetime.fromtimestamp(at_ms / 1000, UTC)
